from __future__ import annotations

import base64
import json
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from delayed_consumer.sinks import Outcome
from delayed_consumer.sinks.log import LogSink
from tests.sinks.making import TIMESTAMP_MS, message, results, run_of

DELIVERED_MS = TIMESTAMP_MS + 900_000.25
_TEST_BYTES = 4 * 1024 * 1024  # far more than a pipe holds


class Pipe:
    """stdout with somebody at its other end who reads when asked to, or leaves."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        self.data = b""

    def read(self) -> None:
        try:
            while chunk := os.read(self._reader, 65_536):
                self.data += chunk
        except BlockingIOError:
            pass

    def leave(self) -> None:
        os.close(self._reader)
        self._reader = -1

    def close(self) -> None:
        for descriptor in {self._reader, self.writer} - {-1}:
            os.close(descriptor)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.data.splitlines()]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    one = Pipe()
    yield one
    one.close()


def line_of(one: Message) -> dict[str, Any]:
    """What a reader gets of one record."""
    pipe = Pipe()
    try:
        sink = LogSink(pipe.writer)
        sink.deliver(run_of(one), DELIVERED_MS)
        assert results(sink.outcomes()) == [(1, None)]
        pipe.read()
        (line,) = pipe.lines
    finally:
        pipe.close()
    return line


def decoded(data: Any) -> bytes | None:
    """The bytes that a reader makes of a key, a value or a header's value."""
    if data is None:
        return None
    return base64.b64decode(data["base64"]) if isinstance(data, dict) else str(data).encode()


# The line


def test_a_record_is_one_line_of_json() -> None:
    assert line_of(message(b"two\nlines", b"key", [("a", b"1"), ("a", None)], offset=7)) == {
        "topic": "orders",
        "partition": 3,
        "offset": 0,
        "timestamp_ms": TIMESTAMP_MS,
        "due_ms": TIMESTAMP_MS,
        "delivered_ms": DELIVERED_MS,
        "key": "key",
        "value": "two\nlines",
        "headers": [["a", "1"], ["a", None]],
    }


def test_null_is_null_and_empty_is_empty() -> None:
    assert (line_of(message(None, None))["value"], line_of(message(None, None))["key"]) == (None, None)
    assert (line_of(message(b"", b""))["value"], line_of(message(b"", b""))["key"]) == ("", "")
    assert line_of(message(headers=None))["headers"] == []


def test_bytes_that_are_not_text_are_base64() -> None:
    line = line_of(message(b"\xff\x00", b"\xc3\x28", [("binary", b"\x80")]))
    assert line["value"] == {"base64": "/wA="}
    assert line["key"] == {"base64": "wyg="}
    assert line["headers"] == [["binary", {"base64": "gA=="}]]


def test_control_characters_do_not_reach_a_terminal(pipe: Pipe) -> None:
    sink = LogSink(pipe.writer)
    sink.deliver(run_of(message(b"\x1b[2J\x07\r\n")), DELIVERED_MS)
    sink.outcomes()
    pipe.read()
    assert not set(pipe.data.removesuffix(b"\n")) & set(range(32))


contents = st.one_of(st.none(), st.binary(max_size=40), st.text(max_size=20).map(str.encode))
headers = st.lists(st.tuples(st.text(max_size=8).filter(lambda name: "\0" not in name), contents), max_size=4)


@given(contents, contents, headers)
def test_any_bytes_come_out_as_they_went_in(
    value: bytes | None, key: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    line = line_of(message(value, key, headers))
    assert (decoded(line["value"]), decoded(line["key"])) == (value, key)
    assert [(name, decoded(content)) for name, content in line["headers"]] == headers


# The reader


def test_a_reader_who_reads_gets_every_record_in_order(pipe: Pipe) -> None:
    sink = LogSink(pipe.writer)
    for first in (0, 10):
        sink.deliver(run_of(*[message(b"%d" % number) for number in range(10)], first_offset=first), DELIVERED_MS)
    assert results(sink.outcomes()) == [(10, None), (10, None)]
    pipe.read()
    assert [line["offset"] for line in pipe.lines] == list(range(20))


def test_a_reader_who_does_not_read_blocks_nobody_and_gets_everything_later(pipe: Pipe) -> None:
    sink = LogSink(pipe.writer)
    records = [message(b"x" * 10_000, offset=number) for number in range(_TEST_BYTES // 10_000)]
    sink.deliver(run_of(*records), DELIVERED_MS)
    sink.deliver(run_of(message(b"last"), first_offset=len(records)), DELIVERED_MS)
    assert sink.outcomes() == []
    assert sink.outcomes() == []
    outcomes: list[Outcome] = []
    while len(outcomes) < 2:
        pipe.read()
        outcomes += sink.outcomes()
    pipe.read()
    assert results(outcomes) == [(len(records), None), (1, None)]
    assert [line["offset"] for line in pipe.lines] == list(range(len(records) + 1))


def test_a_reader_who_leaves_is_a_failure_and_only_whole_lines_count(pipe: Pipe) -> None:
    sink = LogSink(pipe.writer)
    records = [message(b"x" * 3_000) for _ in range(_TEST_BYTES // 3_000)]
    sink.deliver(run_of(*records), DELIVERED_MS)
    assert sink.outcomes() == []
    pipe.read()
    whole_lines = pipe.data.count(b"\n")
    assert not pipe.data.endswith(b"\n"), "the last one is cut"
    pipe.leave()
    ((done, failure),) = results(sink.outcomes())
    assert (done, failure) == (whole_lines, "cannot write to stdout: Broken pipe")


def test_what_waits_behind_a_failure_fails_with_it(pipe: Pipe) -> None:
    sink = LogSink(pipe.writer)
    pipe.leave()
    sink.deliver(run_of(message()), DELIVERED_MS)
    sink.deliver(run_of(message(), first_offset=1), DELIVERED_MS)
    assert results(sink.outcomes()) == [(0, "cannot write to stdout: Broken pipe")] * 2
    assert sink.outcomes() == []


def test_what_was_not_begun_of_a_partition_that_was_given_up_is_dropped(pipe: Pipe) -> None:
    """The line that is half written is completed: the next one would be glued to it."""
    sink = LogSink(pipe.writer)
    begun, waiting = run_of(message(b"x" * 300_000)), run_of(message(b"y"), first_offset=1)
    for run in (begun, waiting):
        sink.deliver(run, DELIVERED_MS)
    assert sink.outcomes() == []
    assert sink.forget({begun.partition}) == [waiting]
    ended: list[Outcome] = []
    while not ended:
        pipe.read()
        ended = sink.outcomes()
    pipe.read()
    assert results(ended) == [(1, None)]
    assert [line["value"][0] for line in pipe.lines] == ["x"]


def test_a_line_cut_off_by_a_full_disk_is_taken_back(tmp_path: Path) -> None:
    """The next life appends to the file: its first line would be glued to the fragment."""
    path = tmp_path / "records.jsonl"
    with path.open("ab") as file:
        sink = LogSink(file.fileno())
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limit[1]))
        try:
            sink.deliver(run_of(message(b"a" * 300), message(b"b" * 300), message(b"c" * 900)), DELIVERED_MS)
            (outcome,) = sink.outcomes()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert (outcome.done, outcome.failure) == (2, "cannot write to stdout: File too large")
    assert [json.loads(line)["value"][0] for line in path.read_bytes().splitlines()] == ["a", "b"]


def test_a_file_takes_everything_at_once(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with path.open("wb") as file:
        sink = LogSink(file.fileno())
        sink.deliver(run_of(*[message(b"x" * 10_000) for _ in range(200)]), DELIVERED_MS)
        assert results(sink.outcomes()) == [(200, None)]
    assert len(path.read_bytes().splitlines()) == 200


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_full_disk_is_a_failure() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        sink = LogSink(full.fileno())
        sink.deliver(run_of(message()), DELIVERED_MS)
        assert results(sink.outcomes()) == [(0, "cannot write to stdout: No space left on device")]


def test_nothing_is_written_any_more_after_the_close(pipe: Pipe) -> None:
    sink = LogSink(pipe.writer)
    sink.deliver(run_of(message()), DELIVERED_MS)
    sink.close()
    assert sink.outcomes() == []
    pipe.read()
    assert pipe.data == b""
