"""Makes the records that handlers get, column by column: a Python call for each would cost more than fetching it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from operator import add, sub
from typing import Any

from delayed_consumer.core.records import Run
from delayed_consumer.origin import Origins
from delayed_consumer.record import Record


def columns(run: Run, indices: Sequence[int], origins: Origins, tried: Iterator[int]) -> tuple[Iterable[Any], ...]:
    """Of these records: topic, partition, offset, timestamp_ms, due_ms, key, value, headers, attempt.

    ``tried``: how often they were tried in vain. A column each, without a Python call for each record, and some
    without an end: the offsets have one.
    """
    messages = _at(run.messages, indices)
    message = type(messages[0])
    keys, values = map(message.key, messages), map(message.value, messages)
    offsets, due_ms = _at(run.offsets, indices), _at(run.due_ms, indices)
    if origins.may_be_elsewhere(run.partition.topic):
        found = [origins.of(run, index) for index in indices]
        where = tuple([getattr(one, name) for one in found] for name in ("topic", "partition", "offset"))
        headers = [list(one.headers) for one in found]
        written_ms, first_attempts = [one.timestamp_ms for one in found], [one.attempts + 1 for one in found]
        return *where, written_ms, due_ms, keys, values, headers, map(add, first_attempts, tried)
    headers = _copies(list(map(message.headers, messages)))
    topic, number = map(repeat, run.partition)
    timestamps_ms = _at(run.timestamps_ms, indices)
    return topic, number, offsets, timestamps_ms, due_ms, keys, values, headers, map(add, repeat(1), tried)


def records(
    run: Run, indices: Sequence[int], begun_ms: float, origins: Origins, tried: Iterator[int]
) -> Iterator[Record]:
    """These records, for a call that begins at ``begun_ms``."""
    due_ms = _at(run.due_ms, indices)
    late_ms = map(sub, repeat(begun_ms), due_ms)
    in_time = due_ms[-1] > begun_ms  # the clock was set back since they were due
    return _made(run, indices, map(max, repeat(0.0), late_ms) if in_time else late_ms, origins, tried)


def records_one_by_one(
    run: Run, indices: Sequence[int], begin: Callable[[int], float], origins: Origins, tried: Iterator[int]
) -> Iterator[Record]:
    """The same, for a call each: ``begin`` gets a record's ``due_ms`` when that record is asked for and says how late
    it is, in milliseconds."""
    return _made(run, indices, map(begin, _at(run.due_ms, indices)), origins, tried)


def _made(
    run: Run, indices: Sequence[int], lateness_ms: Iterable[float], origins: Origins, tried: Iterator[int]
) -> Iterator[Record]:
    *where, due_ms, keys, values, headers, attempts = columns(run, indices, origins, tried)
    rows = zip(*where, due_ms, lateness_ms, keys, values, headers, attempts, strict=False)
    return map(tuple.__new__, repeat(Record), rows)


def _copies(headers: Sequence[Any]) -> list[list[Any]]:
    """A list of its own for each record: the client's is what a dead letter is made of."""
    return [list(pairs) if pairs else [] for pairs in headers] if any(headers) else [[] for _ in headers]


def _at(column: Sequence[Any], indices: Sequence[int]) -> Sequence[Any]:
    return column[indices.start : indices.stop] if isinstance(indices, range) else [column[one] for one in indices]
