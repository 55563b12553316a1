"""SINK=log: one JSON object a line on stdout."""

from __future__ import annotations

import base64
import os
import select
import stat
from collections import deque
from dataclasses import dataclass
from typing import Any

import orjson

from delayed_consumer.core.engine import InFlightLimit
from delayed_consumer.core.records import Run
from delayed_consumer.sinks import Outcome

# A pipe that poll() calls writable takes this much without blocking (POSIX); it holds 16 times that.
_NEVER_BLOCKS_BYTES = select.PIPE_BUF


@dataclass(slots=True)
class _Lines:
    """The lines of one run, and how much of them is written."""

    run: Run
    data: bytes
    failure: str | None  # why the record behind the last line could not be made one
    written: int = 0

    @property
    def records_written(self) -> int:
        return self.data.count(b"\n", 0, self.written)


class LogSink:
    """Writes to a file descriptor, never waiting for its reader.

    A slow reader makes runs stay in flight, so the hold fills and reading stops; the loop goes on.
    The descriptor is not made non-blocking: that would change it for every process that shares it.
    """

    in_flight_limit = InFlightLimit(runs=64, records_per_run=500)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._writable = select.poll()
        self._writable.register(descriptor, select.POLLOUT)
        self._unwritten: deque[_Lines] = deque()

    def deliver(self, run: Run, delivered_ms: float) -> None:
        self._unwritten.append(_encode(run, delivered_ms))

    def outcomes(self) -> list[Outcome]:
        ended = []
        while self._unwritten:
            lines = self._unwritten[0]
            try:
                self._write(lines)
            except OSError as error:
                lines.failure = f"cannot write to stdout: {error.strerror}"
            if lines.written < len(lines.data) and lines.failure is None:
                break
            self._unwritten.popleft()
            ended.append(Outcome(lines.run, lines.records_written, lines.failure))
            if lines.failure is not None:
                self._unwritten.clear()  # what comes behind a failed record waits for it
        return ended

    def close(self) -> None:
        self._unwritten.clear()

    def _write(self, lines: _Lines) -> None:
        """Writes what can be written without waiting for the reader."""
        view = memoryview(lines.data)
        step = len(view) if self._is_file else _NEVER_BLOCKS_BYTES
        while lines.written < len(view) and (self._is_file or self._writable.poll(0)):
            lines.written += os.write(self._descriptor, view[lines.written : lines.written + step])


def _encode(run: Run, delivered_ms: float) -> _Lines:
    lines = []
    failure = None
    for index in range(len(run)):
        try:
            lines.append(_line(run, index, delivered_ms))
        except ValueError as error:  # a header name that is not UTF-8
            failure = str(error)
            break
    return _Lines(run, b"".join(lines), failure)


def _line(run: Run, index: int, delivered_ms: float) -> bytes:
    message = run.messages[index]
    record = {
        "topic": run.partition.topic,
        "partition": run.partition.number,
        "offset": run.offsets[index],
        "timestamp_ms": message.timestamp()[1],
        "due_ms": run.due_ms[index],
        "delivered_ms": delivered_ms,
        "key": _text(message.key()),
        "value": _text(message.value()),
        "headers": [(name, _text(value)) for name, value in message.headers() or ()],
    }
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def _text(data: bytes | None) -> Any:
    """UTF-8 as a string, other bytes as base64, null as null."""
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
