"""SINK=python: calls a function of the user's."""

from __future__ import annotations

import importlib
import inspect
import sys
from functools import reduce
from pathlib import Path
from typing import cast

from delayed_consumer.batch import Handler, batch_records
from delayed_consumer.clock import Clock
from delayed_consumer.errors import ConfigError
from delayed_consumer.failures import Fallback
from delayed_consumer.sinks.workers import Rules, Workers


def load_handler(name: str) -> Handler:
    """The function that SINK_HANDLER names as ``package.module:function``.

    The working directory is importable, and stays so for what the handler imports later. What a handler prints goes
    to stdout, as from any program.

    Raises:
        ConfigError: it cannot be imported, or cannot be called with one argument.
    """
    if str(Path.cwd()) not in sys.path:  # the console script, unlike `python -m`, does not have it there
        sys.path.insert(0, str(Path.cwd()))
    module, _, path = name.partition(":")
    try:
        handler = reduce(getattr, path.split("."), importlib.import_module(module))
    except (Exception, SystemExit) as error:
        raise _unusable(f"SINK_HANDLER={name}", f"cannot be imported: {type(error).__name__}: {error}") from error
    check_handler(handler, f"SINK_HANDLER={name}")
    return cast("Handler", handler)


def check_handler(handler: object, name: str = "the handler") -> None:
    """Raises ConfigError when records could not be handed to it."""
    if not callable(handler):
        raise _unusable(name, f"is of type {type(handler).__name__}, not a function")
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise _unusable(name, "is a generator, which does not run when it is called; write it without `yield`")
    try:
        signature = inspect.signature(handler)
    except ValueError:
        return  # a function written in C, which does not say what it takes
    try:
        signature.bind(object())
    except TypeError as error:
        raise _unusable(name, f"cannot be called with one argument, the record: {error}") from error


def calling(handler: Handler, rules: Rules, fallback: Fallback, clock: Clock) -> Workers:
    """Calls ``handler`` with each record, or with lists where it is marked with `batch`; awaits it where it is async.

    Its result is ignored. A coroutine that comes of a function which does not say that it is async is refused with a
    FatalError: to drop it would count a record as done for which nothing was done.

    Raises:
        ConfigError: it cannot be called with one argument.
    """
    check_handler(handler)
    records = batch_records(handler)
    return Workers(handler, rules, fallback, clock, batch_records=records, asynchronous=is_async(handler))


def is_async(handler: Handler) -> bool:
    """Also a partial function of an async one, and an object whose ``__call__`` is async."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004


def _unusable(name: str, problem: str) -> ConfigError:
    return ConfigError([f"{name}: {' '.join(problem.split())}"])
