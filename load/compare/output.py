"""What a contender wrote to stdout: kept in a file while it runs, read when it has ended.

Reading the lines of SINK=log while a million of them come would take as much of the machine as the service does.
"""

from __future__ import annotations

import fcntl
import os
import re
import sys
import threading
from array import array
from collections.abc import Mapping
from datetime import datetime
from typing import IO, Literal

import numpy as np
import orjson

from load.compare.notes import ROW
from load.oracle import Delivered, Key, Written

Format = Literal["rows", "log"]
"""What `notes.py` writes, or the JSON lines of SINK=log."""

_ROW = np.dtype([("partition", "<i4"), ("offset", "<i8"), ("delivered_us", "<i8")])
_PIPE_BYTES = 1024 * 1024
_ASSIGNED = re.compile(r"^assigned (\d+) ms$", re.MULTILINE)


class Drain(threading.Thread):
    """Moves what comes through a pipe into a file, and counts."""

    def __init__(self, pipe: IO[bytes], file: IO[bytes], output: Format) -> None:
        super().__init__(name="drain", daemon=True)
        self._descriptor = pipe.fileno()
        self._format = output
        self._file = file
        self._lines = self._bytes = 0
        if sys.platform == "linux":  # a large pipe: a late reader must not slow down what it measures
            fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def run(self) -> None:
        while chunk := os.read(self._descriptor, _PIPE_BYTES):
            self._file.write(chunk)
            self._bytes += len(chunk)
            if self._format == "log":
                self._lines += chunk.count(b"\n")

    @property
    def count(self) -> int:
        """Of the deliveries so far."""
        return self._lines if self._format == "log" else self._bytes // ROW.size


def deliveries(
    file: IO[bytes], output: Format, topic: str, written: Mapping[Key, Written], delay_ms: int
) -> dict[Key, Delivered]:
    """Everything in ``file``, by partition. Where only rows were written, the due times are the written ones."""
    file.seek(0)
    return _lines(file) if output == "log" else _rows(file.read(), topic, written, delay_ms)


def _lines(file: IO[bytes]) -> dict[Key, Delivered]:
    """A last line without its end was not delivered."""
    columns: dict[Key, Delivered] = {}
    for line in file:
        if line.endswith(b"\n"):
            one = orjson.loads(line)
            column = columns.setdefault((one["topic"], one["partition"]), Delivered())
            column.add(one["offset"], one["due_ms"], one["delivered_ms"], one["delivered_ms"])
    return columns


def _rows(data: bytes, topic: str, written: Mapping[Key, Written], delay_ms: int) -> dict[Key, Delivered]:
    rows = np.frombuffer(data, _ROW, count=len(data) // ROW.size)
    columns: dict[Key, Delivered] = {}
    for number in np.unique(rows["partition"]).tolist():
        key = topic, number
        mine = rows[rows["partition"] == number]
        column = columns[key] = Delivered()
        column.offsets = array("q", mine["offset"].astype("<i8").tobytes())
        column.due_ms = _due_ms(column.offsets, written.get(key, Written()), delay_ms)
        column.delivered_ms = array("d", (mine["delivered_us"] / 1000).tobytes())
        column.arrived_ms = column.delivered_ms
    return columns


def _due_ms(offsets: array[int], written: Written, delay_ms: int) -> array[int]:
    """By offset; 0 of what was never written, which the judge finds."""
    due_ms = written.due_ms(delay_ms)
    return array("q", [due_ms[offset] if 0 <= offset < len(due_ms) else 0 for offset in offsets])


def assignments_ms(log: str) -> list[float]:
    """When partitions were assigned, by a contender's stderr: a line of `notes.py`, or the service's own event."""
    return [float(moment) for moment in _ASSIGNED.findall(log)] + [
        datetime.fromisoformat(event["ts"]).timestamp() * 1000
        for event in (orjson.loads(line) for line in log.splitlines() if line.startswith("{"))
        if event["event"] == "assigned"
    ]
