"""What SINK_HANDLER names in the measurements."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence

from delayed_consumer import batch
from delayed_consumer.record import Record
from load.quantiles import quantile

SLEEP_SECONDS = 0.02

_lateness_ms = array("d")
_seen_bytes = 0


def take_record(_: Record) -> None:
    """Does nothing."""


@batch
def take_batch(_: Sequence[Record]) -> None:
    """Does nothing."""


def look_at_record(record: Record) -> None:
    """Touches key and value."""
    global _seen_bytes
    _seen_bytes += len(record.key or b"") + len(record.value or b"")


@batch
def look_at_batch(records: Sequence[Record]) -> None:
    """Touches every key and value."""
    global _seen_bytes
    _seen_bytes += sum(len(record.key or b"") + len(record.value or b"") for record in records)


def sleep(_: Record) -> None:
    """Takes its time, as somebody else's service does."""
    time.sleep(SLEEP_SECONDS)


def note_lateness(record: Record) -> None:
    """By its own clock, the moment it is called."""
    _lateness_ms.append(time.time() * 1000 - record.due_ms)


def lateness_figures() -> dict[str, float]:
    """In milliseconds, and how many were early."""
    ascending = sorted(_lateness_ms)
    return {
        "p50": quantile(ascending, 0.5),
        "p99": quantile(ascending, 0.99),
        "p99.9": quantile(ascending, 0.999),
        "max": quantile(ascending, 1.0),
        "early": sum(late_ms < 0 for late_ms in ascending),
        "calls": len(ascending),
    }
