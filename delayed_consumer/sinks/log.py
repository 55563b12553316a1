"""SINK=log: one JSON object a line on stdout."""

from __future__ import annotations

import base64
import os
import select
import stat
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import orjson

from delayed_consumer.core.engine import InFlightLimit
from delayed_consumer.core.records import Partition, Run
from delayed_consumer.origin import Origins
from delayed_consumer.sinks import Outcome
from delayed_consumer.sinks.columns import columns

# A pipe that poll() calls writable takes this much without blocking (POSIX); it holds 16 times that.
_NEVER_BLOCKS_BYTES = select.PIPE_BUF
_NO_RETRIES = Origins()


@dataclass(slots=True)
class _Lines:
    """The lines of the run that is being written, and how much of them is."""

    run: Run
    data: bytes
    written: int = 0

    @property
    def records_written(self) -> int:
        return self.data.count(b"\n", 0, self.written)

    @property
    def in_mid_line(self) -> bool:
        return self.written > 0 and self.data[self.written - 1 : self.written] != b"\n"


class LogSink:
    """Writes to a file descriptor, never waiting for its reader.

    A slow reader makes runs stay in flight, so the hold fills and reading stops; the loop goes on. Only the first run
    is made into lines, which the hold does not count.
    The descriptor is not made non-blocking: that would change it for every process that shares it.
    """

    in_flight_limit = InFlightLimit(runs=64, records_per_run=500)

    def __init__(self, descriptor: int, origins: Origins = _NO_RETRIES) -> None:
        self._descriptor = descriptor
        self._origins = origins
        self._is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._writable = select.poll()
        self._writable.register(descriptor, select.POLLOUT)
        self._waiting: deque[tuple[Run, float]] = deque()  # and when it was delivered
        self._lines: _Lines | None = None

    def deliver(self, run: Run, delivered_ms: float) -> None:
        self._waiting.append((run, delivered_ms))

    def outcomes(self) -> list[Outcome]:
        ended: list[Outcome] = []
        while (lines := self._next_lines()) is not None:
            try:
                self._write(lines)
            except OSError as error:
                return [*ended, *self._give_up(lines, f"cannot write to stdout: {error.strerror}")]
            if lines.written < len(lines.data):
                break
            ended.append(Outcome(lines.run, len(lines.run)))
            self._lines = None
        return ended

    def wind_up(self, partitions: Collection[Partition]) -> list[Run]:
        return self.forget(partitions)  # in order: nothing lies before what was begun

    def forget(self, partitions: Collection[Partition]) -> list[Run]:
        dropped = [run for run, _ in self._waiting if run.partition in partitions]
        self._waiting = deque(one for one in self._waiting if one[0].partition not in partitions)
        lines = self._lines
        # A line that is half written is completed, or the next one would be glued to it.
        if lines is not None and lines.run.partition in partitions and not lines.in_mid_line:
            dropped.append(lines.run)
            self._lines = None
        return dropped

    def close(self) -> None:
        self._waiting.clear()
        self._lines = None

    def _next_lines(self) -> _Lines | None:
        if self._lines is None and self._waiting:
            run, delivered_ms = self._waiting.popleft()
            self._lines = _Lines(run, b"".join(_lines(run, delivered_ms, self._origins)))
        return self._lines

    def _write(self, lines: _Lines) -> None:
        """Writes what can be written without waiting for the reader."""
        view = memoryview(lines.data)
        step = len(view) if self._is_file else _NEVER_BLOCKS_BYTES
        while lines.written < len(view) and (self._is_file or self._writable.poll(0)):
            lines.written += os.write(self._descriptor, view[lines.written : lines.written + step])

    def _give_up(self, lines: _Lines, failure: str) -> list[Outcome]:
        """What comes behind a record that failed has failed with it."""
        if self._is_file and lines.in_mid_line:
            # A disk that is full: the next line would be glued to this one, and both be lost to whoever reads lines.
            whole = lines.data.rfind(b"\n", 0, lines.written) + 1
            os.ftruncate(self._descriptor, os.lseek(self._descriptor, 0, os.SEEK_END) - (lines.written - whole))
        given_up = [Outcome(run, 0, failure) for run, _ in self._waiting]
        self.close()
        return [Outcome(lines.run, lines.records_written, failure), *given_up]


def _lines(run: Run, delivered_ms: float, origins: Origins) -> Iterator[bytes]:
    """Records that are tried again have the coordinates, timestamp and headers that they had at first."""
    rows = zip(*columns(run, range(len(run)), origins, repeat(0)), strict=False)
    for topic, partition, offset, timestamp_ms, due_ms, key, value, headers, _ in rows:
        record = {
            "topic": topic,
            "partition": partition,
            "offset": offset,
            "timestamp_ms": timestamp_ms,
            "due_ms": due_ms,
            "delivered_ms": delivered_ms,
            "key": text_or_base64(key),
            "value": text_or_base64(value),
            "headers": [(name, text_or_base64(one)) for name, one in headers],
        }
        yield orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def text_or_base64(data: bytes | None) -> Any:
    """UTF-8 as a string, other bytes as base64, null as null."""
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
