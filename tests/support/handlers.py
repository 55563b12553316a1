"""Functions for SINK_HANDLER that do what the value of a record says and note every call in a file.

A record's value is one of these commands; anything else, and nothing at all, is handled at once:
`sleep SECONDS`; `hang`, until the test opens the gate; `fail N`, in its first N attempts; `raise NAME`; `return NAME`.
"""

from __future__ import annotations

import asyncio
import builtins
import itertools
import json
import os
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from delayed_consumer import FatalError, MessageError, Record, RetryableError, batch

CALLS = "TEST_CALLS"  # the variable with the path of the file of calls
GATE = "TEST_GATE"  # and with that of the file that lets `hang` go on

_TURN_SECONDS = 0.02
_numbers = itertools.count()
_ERRORS: dict[str, type[BaseException]] = {one.__name__: one for one in (FatalError, MessageError, RetryableError)}
_RESULTS: dict[str, Callable[[], object]] = {
    "value": lambda: 17,
    "generator": lambda: (number for number in (1, 2)),
    "coroutine": lambda: asyncio.sleep(0),
}


def obey(record: Record) -> object:
    with _noted([record]):
        for seconds in _waits(record):
            time.sleep(seconds)
        return _end(record)


async def obey_async(record: Record) -> object:
    with _noted([record]):
        for seconds in _waits(record):
            await asyncio.sleep(seconds)
        return _end(record)


@batch(max_records=7)
def obey_sevens(records: Sequence[Record]) -> None:
    with _noted(records):
        for one in records:
            _end(one)


@batch
async def obey_batch_async(records: Sequence[Record]) -> None:
    with _noted(records):
        for one in records:
            await asyncio.sleep(sum(_waits(one)))
            _end(one)


def refuse_at_first(record: Record) -> None:
    """Whatever is in it."""
    with _noted([record]):
        if record.attempt == 1:
            raise RetryableError("as every record at first")


not_a_function = 17


def _command(record: Record) -> tuple[str, str]:
    word, _, argument = (record.value or b"").decode("latin-1").partition(" ")
    return word, argument


def _waits(record: Record) -> Iterator[float]:
    """In seconds, one after the other."""
    word, argument = _command(record)
    if word == "sleep":
        yield float(argument)
    while word == "hang" and not _gate_is_open():
        yield _TURN_SECONDS


def _end(record: Record) -> object:
    word, argument = _command(record)
    if word == "fail" and record.attempt <= int(argument):
        raise RuntimeError(f"attempt {record.attempt} was to fail")
    if word == "raise":
        raise (_ERRORS.get(argument) or getattr(builtins, argument))("as the record said")
    return _RESULTS[argument]() if word == "return" else None


def _gate_is_open() -> bool:
    return Path(os.environ[GATE]).exists()


@contextmanager
def _noted(records: Sequence[Record]) -> Iterator[None]:
    """A line before the call and one behind it; a call that was cut off has no second one."""
    call = f"{os.getpid()}-{next(_numbers)}"
    _note(call, "begun", process=os.getpid(), records=[_as_json(one) for one in records])
    try:
        yield
    except BaseException as error:
        _note(call, f"raised {type(error).__name__}")
        raise
    _note(call, "returned")


def _note(call: str, what: str, **fields: object) -> None:
    line = json.dumps({"call": call, "what": what, "at_ms": time.time() * 1000, **fields})
    descriptor = os.open(os.environ[CALLS], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line.encode() + b"\n")  # one write: the lines of several threads and processes do not mix
    finally:
        os.close(descriptor)


def _as_json(record: Record) -> dict[str, Any]:
    """Its key, value and headers as text, for they may be any bytes."""
    return {
        **record._asdict(),
        "key": _text(record.key),
        "value": _text(record.value),
        "headers": [(name, _text(value)) for name, value in record.headers],
    }


def _text(value: bytes | None) -> str | None:
    return None if value is None else b64encode(value).decode()
