"""The arithmetic of what a partition still holds: waiting (not yet due) and overdue (due, not delivered).

A record is due at the running maximum of (timestamp + delay) of its partition. So everything before the first
record whose timestamp lies after now - delay is due, and nothing from there on is: that offset is the *border*.
All counts are of offsets: gaps of compaction, aborted records and transaction markers are in them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from delayed_consumer.core.records import Partition

StartFrom = Literal["earliest", "latest"]


class RecordTime(NamedTuple):
    """Where a record is, and when it was made."""

    offset: int
    timestamp_ms: int


# The first record at or after each offset, None where there is none up to the end of the log. A partition that
# could not be read is left out.
FirstRecords = Callable[[Mapping[Partition, int]], Mapping[Partition, RecordTime | None]]


@dataclass(frozen=True, slots=True)
class LogBounds:
    """What the brokers say of one partition. ``border``: the first record not yet due; None: there is none."""

    first: int
    end: int
    border: RecordTime | None


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """One partition; None where the brokers gave no answer.

    ``start`` is the first offset not done: where a restart would begin. ``oldest_overdue_seconds`` is 0 when
    nothing is overdue, and None until the oldest record was read.
    """

    partition: Partition
    committed: int | None
    start: int | None = None
    end: int | None = None
    border: int | None = None
    next_due_ms: int | None = None
    oldest_overdue_seconds: float | None = None

    @property
    def border_is_hidden(self) -> bool:
        """Whether a record that is done already, but not due by its timestamp, hides where waiting begins."""
        return self.border is not None and self.start is not None and self.border < self.start < (self.end or 0)

    @property
    def overdue(self) -> int | None:
        if self.start is None or self.border is None:
            return None
        return max(0, self.border - self.start)

    @property
    def waiting(self) -> int | None:
        if self.start is None or self.border is None or self.end is None:
            return None
        return self.end - max(self.border, self.start)


def first_waiting_ms(now_ms: float, delay_ms: int) -> int:
    """The smallest timestamp that is not yet due: due is timestamp + delay <= now."""
    return max(0, math.floor(now_ms - delay_ms) + 1)


def partition_lag(
    partition: Partition, committed: int | None, bounds: LogBounds | None, delay_ms: int, start_from: StartFrom
) -> PartitionLag:
    """What is left of one partition."""
    if bounds is None:
        return PartitionLag(partition, committed)
    border, next_due_ms = bounds.end, None
    if bounds.border is not None and bounds.border.offset < bounds.end:
        border, next_due_ms = bounds.border.offset, bounds.border.timestamp_ms + delay_ms
    start = _start(committed, bounds, start_from)
    lag = PartitionLag(partition, committed, start, bounds.end, border, next_due_ms)
    return replace(lag, oldest_overdue_seconds=None if lag.overdue else 0.0)


def _start(committed: int | None, bounds: LogBounds, start_from: StartFrom) -> int:
    """What was deleted cannot be delivered. A commit beyond the end belongs to an earlier topic of this name."""
    if committed is None:
        return bounds.end if start_from == "latest" else bounds.first
    if committed > bounds.end:
        return bounds.first
    return max(committed, bounds.first)


def examine(
    lags: Collection[PartitionLag], delay_ms: Callable[[str], int], now_ms: float, first_records: FirstRecords
) -> list[PartitionLag]:
    """The same partitions, put right by reading a record or two of each.

    The brokers' lookup by time knows only the first record of the whole log that is not yet due, and takes
    transaction markers, which bear the time of the commit, for records. So an early record with a timestamp of
    next year, once it is done, hides all that became due behind it, and a marker at the end counts as a record.
    It also gives the age of the oldest overdue record. A partition that could not be read stays as it is.
    """
    examined = {lag.partition: lag for lag in lags}
    heads = first_records({one.partition: one.start for one in lags if _has_more(one) and one.start is not None})
    for partition, head in heads.items():
        examined[partition] = _with_head(examined[partition], head, delay_ms(partition.topic), now_ms)
    # What waits from its head on, or has no more records, has its border there.
    due = {partition: lag for partition in heads if (lag := examined[partition]).border != lag.start}
    for partition, border in _borders(due, delay_ms, now_ms, first_records).items():
        examined[partition] = _with_border(due[partition], border, delay_ms(partition.topic))
    return list(examined.values())


def _has_more(lag: PartitionLag) -> bool:
    return lag.start is not None and lag.end is not None and lag.start < lag.end


def _with_head(lag: PartitionLag, head: RecordTime | None, delay_ms: int, now_ms: float) -> PartitionLag:
    """``head``: the first record not done. Where it waits, so does all behind it."""
    if head is None or (lag.end is not None and head.offset >= lag.end):
        return replace(lag, start=lag.end, border=lag.end, next_due_ms=None, oldest_overdue_seconds=0.0)
    due_ms = head.timestamp_ms + delay_ms
    if due_ms > now_ms:
        return replace(lag, start=head.offset, border=head.offset, next_due_ms=due_ms, oldest_overdue_seconds=0.0)
    return replace(lag, start=head.offset, oldest_overdue_seconds=(now_ms - due_ms) / 1000)


def _borders(
    due: Mapping[Partition, PartitionLag],
    delay_ms: Callable[[str], int],
    now_ms: float,
    first_records: FirstRecords,
) -> dict[Partition, RecordTime | None]:
    """The borders of partitions whose first record is overdue."""
    waiting_from_ms = {partition: first_waiting_ms(now_ms, delay_ms(partition.topic)) for partition in due}
    ends = {partition: lag.end or 0 for partition, lag in due.items()}
    asked = {partition: max(lag.border or 0, (lag.start or 0) + 1) for partition, lag in due.items()}
    found = first_records({partition: offset for partition, offset in asked.items() if offset < ends[partition]})
    borders = {partition: record for partition, record in found.items() if record and record.offset < ends[partition]}
    misled = {
        partition: (record.offset + 1, ends[partition])
        for partition, record in borders.items()
        if record.timestamp_ms < waiting_from_ms[partition]
    }
    return {**dict.fromkeys(found), **borders, **search_borders(misled, waiting_from_ms, first_records)}


def _with_border(lag: PartitionLag, border: RecordTime | None, delay_ms: int) -> PartitionLag:
    if border is None:
        return replace(lag, border=lag.end, next_due_ms=None)
    return replace(lag, border=border.offset, next_due_ms=border.timestamp_ms + delay_ms)


@dataclass(slots=True)
class _Span:
    """Where a border may be: records before ``low`` are due, none from ``high`` to ``border`` exists."""

    low: int
    high: int
    border: RecordTime | None = None

    def narrow(self, middle: int, found: RecordTime | None, waiting_from_ms: int) -> None:
        if found is None or found.offset >= self.high:
            self.high = middle
        elif found.timestamp_ms >= waiting_from_ms:
            self.high, self.border = middle, found
        else:
            self.low = found.offset + 1


def search_borders(
    spans: Mapping[Partition, tuple[int, int]],
    waiting_from_ms: Mapping[Partition, int],
    first_records: FirstRecords,
) -> dict[Partition, RecordTime | None]:
    """The first record that is not yet due between two offsets, by bisection: a record of each partition per step.

    For where the brokers' lookup by time cannot help: it knows only the first such record of the whole log.
    Exact where timestamps ascend; where they step back, it is one of the places at which waiting begins.
    A partition that could not be read is left out.
    """
    searched = {partition: _Span(*span) for partition, span in spans.items()}
    unread: set[Partition] = set()
    while middles := _middles(searched, unread):
        found = first_records(middles)
        unread |= middles.keys() - found.keys()
        for partition, record in found.items():
            searched[partition].narrow(middles[partition], record, waiting_from_ms[partition])
    return {partition: span.border for partition, span in searched.items() if partition not in unread}


def _middles(spans: Mapping[Partition, _Span], unread: Collection[Partition]) -> dict[Partition, int]:
    return {
        partition: (span.low + span.high) // 2
        for partition, span in spans.items()
        if span.low < span.high and partition not in unread
    }
