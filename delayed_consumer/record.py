"""What a handler gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Record(NamedTuple):
    """A record that is due, as it came from Kafka: nothing is decoded.

    A record that is tried again by way of a retry topic has the coordinates, timestamp and headers that it had at
    first, so (topic, partition, offset) names it through all attempts. A tuple, because making an object of any other
    kind that cannot be changed costs more than fetching a record.

    Attributes:
        timestamp_ms: milliseconds since the epoch; negative for a record without a timestamp.
        due_ms: when this attempt was due.
        lateness_ms: how much later the handler was called; never negative.
        key: None for a record without a key.
        value: None for a tombstone.
        headers: in the record's order; names may occur more than once, a value may be None.
        attempt: 1 at first, counted over all retries.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    due_ms: int
    lateness_ms: float
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    attempt: int
