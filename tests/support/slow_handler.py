"""A handler for SINK=python that takes some milliseconds, with its effect in the middle of them."""

from __future__ import annotations

import os
import time

import orjson

from delayed_consumer.record import Record

_STDOUT = 1
_BEFORE_SECONDS = _AFTER_SECONDS = 0.002


def write_slowly(record: Record) -> None:
    """Writes what the log sink writes of a delivery's place and times."""
    time.sleep(_BEFORE_SECONDS)
    line = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "due_ms": record.due_ms,
        "delivered_ms": time.time_ns() // 1000 / 1000,
    }
    os.write(_STDOUT, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    time.sleep(_AFTER_SECONDS)
