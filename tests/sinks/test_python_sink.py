"""SINK_HANDLER: which functions can be called, and how they are."""

from __future__ import annotations

import asyncio
import functools
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import delayed_consumer
from delayed_consumer.app import Service
from delayed_consumer.batch import batch_records
from delayed_consumer.errors import ConfigError
from delayed_consumer.failures import Kind
from delayed_consumer.record import Record
from delayed_consumer.settings import Settings
from delayed_consumer.sinks.python import calling, check_handler, is_async, load_handler
from tests.sinks.handling import plain, working

NAME = "handlers_of_a_test"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], int]]:
    """Writes the module of handlers into the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = tmp_path / f"{NAME}.py"
    yield path.write_text
    sys.modules.pop(NAME, None)


def test_a_handler_is_imported_from_the_working_directory(write: Callable[[str], int]) -> None:
    write("class Inner:\n    @staticmethod\n    def handle(record):\n        return 43\nhandle = abs\n")
    assert load_handler(f"{NAME}:handle")(-42) == 42
    assert load_handler(f"{NAME}:Inner.handle")(None) == 43


@pytest.mark.parametrize(
    ("text", "function", "words"),
    [
        (
            "import nothing_of_that_name",
            "handle",
            "cannot be imported: ModuleNotFoundError: No module named 'nothing_of_",
        ),
        ("1 / 0", "handle", "cannot be imported: ZeroDivisionError: division by zero"),
        ("raise SystemExit('no\\nway')", "handle", "cannot be imported: SystemExit: no way"),
        ("def", "handle", "cannot be imported: SyntaxError"),
        ("", "handle", "has no attribute 'handle'"),
        ("handle = 5", "handle", "is of type int, not a function"),
        (
            "def handle(): pass",
            "handle",
            "cannot be called with one argument, the record: too many positional arguments",
        ),
        (
            "def handle(a, b): pass",
            "handle",
            "cannot be called with one argument, the record: missing a required argument: 'b'",
        ),
        ("def handle(*, record): pass", "handle", "cannot be called with one argument"),
        ("def handle(record):\n    yield", "handle", "is a generator"),
        ("async def handle(record):\n    yield", "handle", "is a generator"),
    ],
)
def test_a_handler_that_cannot_be_called_is_named_with_the_cause_on_one_line(
    write: Callable[[str], int], text: str, function: str, words: str
) -> None:
    write(text)
    with pytest.raises(ConfigError) as error:
        load_handler(f"{NAME}:{function}")
    (problem,) = error.value.problems
    assert problem.startswith((f"SINK_HANDLER={NAME}:{function} ", f"SINK_HANDLER={NAME}:{function}:"))
    assert words in problem
    assert "\n" not in problem


def test_a_module_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match=r"SINK_HANDLER=no\.such\.module:handle.* No module named 'no'"):
        load_handler("no.such.module:handle")


def test_a_service_with_a_broken_handler_does_not_begin() -> None:
    settings = Settings(
        {},
        kafka_bootstrap_servers="127.0.0.1:1",
        kafka_topics=["orders"],
        sink="python",
        sink_handler="no.such.module:handle",
    )
    with pytest.raises(ConfigError, match="SINK_HANDLER"):
        Service(settings)


@pytest.mark.parametrize("handler", [print, lambda _: None, lambda *_: None, lambda _, __=1: None])
def test_whatever_takes_one_argument_is_a_handler(handler: Callable[[Any], object]) -> None:
    check_handler(handler)


class Object:
    """Handlers that are no plain functions."""

    def __init__(self) -> None:
        self.offsets: list[int] = []

    async def method(self, record: Record) -> None:
        await asyncio.sleep(0)
        self.offsets.append(record.offset)

    async def __call__(self, record: Record) -> None:
        await self.method(record)

    def partial(self) -> Callable[[Record], Any]:
        return functools.partial(type(self).method, self)


@pytest.mark.parametrize("form", ["method", "object", "partial"])
def test_async_handlers_of_every_form_are_awaited(form: str) -> None:
    one = Object()
    handlers: dict[str, Callable[[Record], Any]] = {"method": one.method, "object": one, "partial": one.partial()}
    handler = handlers[form]
    assert is_async(handler)
    run = plain(3)
    with working(handler, make=calling) as workers:
        workers.deliver(run)
        workers.until_done(run)
    assert one.offsets == [0, 1, 2]


def _generator(record: Record) -> Iterator[int]:
    yield record.offset


@pytest.mark.parametrize("handler", [lambda record: Object().method(record), lambda record: _generator(record)])
def test_what_a_handler_should_have_run_and_did_not_stops_the_service(handler: Callable[[Record], object]) -> None:
    with warnings.catch_warnings(), working(handler, make=calling) as workers:
        warnings.simplefilter("error")
        workers.deliver(plain(1))
        workers.until(lambda: workers.fallback.taken)
        ((_, failure),) = workers.fallback.taken
    assert failure.kind is Kind.FATAL
    assert "which nobody runs: write it as `async def`, without `yield`" in failure.reason


@pytest.mark.parametrize("result", [42, False, "text", [], object()])
def test_what_a_handler_returns_is_ignored(result: object) -> None:
    run = plain(2)
    with working(lambda _: result, make=calling) as workers:
        workers.deliver(run)
        workers.until_done(run)


def test_a_handler_marked_with_batch_gets_lists() -> None:
    lists: list[list[int]] = []

    @delayed_consumer.batch(max_records=2)
    def handle(records: list[Record]) -> None:
        lists.append([record.offset for record in records])

    run = plain(5)
    with working(handle, make=calling) as workers:
        workers.deliver(run)
        workers.until_done(run)
    assert lists == [[0, 1], [2, 3], [4]]


def test_an_async_handler_marked_with_batch_gets_lists() -> None:
    lists: list[int] = []

    @delayed_consumer.batch
    async def handle(records: list[Record]) -> None:
        await asyncio.sleep(0)
        lists.append(len(records))

    run = plain(5)
    with working(handle, make=calling) as workers:
        workers.deliver(run)
        workers.until_done(run)
    assert lists == [5]


def test_batch_marks_a_function_and_leaves_it_as_it_is() -> None:
    def handle(records: list[Record]) -> int:
        return len(records)

    assert delayed_consumer.batch(handle) is handle
    assert handle([]) == 0
    assert batch_records(handle) == 500
    assert batch_records(delayed_consumer.batch(max_records=7)(lambda _: None)) == 7
    assert batch_records(lambda _: None) is None


@pytest.mark.parametrize("number", [0, -1, 1.5, True, "5"])
def test_a_batch_has_a_whole_number_of_records(number: Any) -> None:
    with pytest.raises(ValueError, match="max_records"):
        delayed_consumer.batch(max_records=number)
