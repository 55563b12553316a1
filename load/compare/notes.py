"""What a contender says: a row for each delivery on stdout, a line for each assignment on stderr.

It runs inside what is measured, so it imports little and keeps rows in memory for a while.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Iterable

ROW = struct.Struct("<iqq")
"""Partition, offset, and the wall clock's microseconds at the delivery. `Notes.java` writes the same."""

_FULL_BYTES = 1000 * ROW.size
_FLUSH_EVERY_US = 50_000


class Notes:
    """Writes rows when there are many, when the last time was a while ago, and when COMPARE_RECORDS are there."""

    def __init__(self) -> None:
        self._rows = bytearray()
        self._left = int(os.environ["COMPARE_RECORDS"])
        self._flushed_us = 0

    def delivered(self, partition: int, offset: int) -> None:
        """One record, now."""
        self.delivered_together([(partition, offset)])

    def delivered_together(self, records: Iterable[tuple[int, int]]) -> None:
        """Partitions and offsets of records that were handed over in one call, now."""
        now_us = time.time_ns() // 1000
        rows = [ROW.pack(partition, offset, now_us) for partition, offset in records]
        self._rows += b"".join(rows)
        self._left -= len(rows)
        if len(self._rows) >= _FULL_BYTES or now_us - self._flushed_us > _FLUSH_EVERY_US or self._left <= 0:
            self._flushed_us = now_us
            self.flush()

    def flush(self) -> None:
        sys.stdout.buffer.write(self._rows)
        sys.stdout.buffer.flush()
        self._rows.clear()


def assigned(*_: object) -> None:
    """Says that partitions were assigned: a client's callback."""
    sys.stderr.write(f"assigned {time.time_ns() // 1_000_000} ms\n")
    sys.stderr.flush()
