"""Makes what a user sees out of what the engine knows and what the brokers last told."""

from __future__ import annotations

from dataclasses import dataclass

from delayed_consumer.core.flow import Limits, reads_on_ms
from delayed_consumer.core.window import Assignment
from delayed_consumer.status import PartitionState, PartitionStatus

DELIVERING_FOR_MS = 500.0  # a delivery takes microseconds: shown a little longer, so that it can be seen
BLOCKED_AFTER_MS = 2_000.0


@dataclass(frozen=True, slots=True)
class LogEnd:
    """What the brokers said of a partition.

    Where its log ends, up to which offset its records are due, and what the group has committed.
    """

    end: int
    due_end: int
    committed: int | None


def partition_status(
    one: Assignment,
    limits: Limits,
    log: LogEnd | None,
    known_end: int | None,
    committed: int | None,
    now_ms: float,
) -> PartitionStatus:
    """``log`` is what the brokers last said; ``known_end``, from the last fetch, is newer while it reads.

    ``committed`` is what we have committed ourselves; None: nothing yet.
    """
    ends = [end for end in (None if log is None else log.end, known_end, one.position) if end is not None]
    end = max(ends, default=None)
    unread_due = max(0, log.due_end - one.position) if log is not None and one.position is not None else 0
    overdue = one.due_records(now_ms) + unread_due
    first = one.committable
    oldest_ms = one.oldest_unfinished_due_ms
    next_due_ms = one.next_due_ms if one.next_due_ms is not None else oldest_ms
    pause_ends_ms = reads_on_ms(one, limits) if one.paused else None
    return PartitionStatus(
        topic=one.partition.topic,
        partition=one.partition.number,
        state=_state(one, now_ms),
        paused=one.paused,
        position=one.position,
        committed=log.committed if committed is None and log is not None else committed,
        end=end,
        held=one.held_records,
        held_bytes=one.bytes,
        in_flight=one.in_flight.records,
        next_due_ms=next_due_ms,
        paused_until_ms=None if pause_ends_ms is None else int(pause_ends_ms),
        waiting=None if end is None or first is None else max(0, end - first - overdue),
        overdue=None if first is None else overdue,
        oldest_overdue_seconds=0.0 if oldest_ms is None else max(0.0, now_ms - oldest_ms) / 1000,
    )


def _state(one: Assignment, now_ms: float) -> PartitionState:
    if one.in_flight:
        return "blocked" if now_ms - one.last_progress_ms >= BLOCKED_AFTER_MS else "delivering"
    if now_ms - one.last_start_ms < DELIVERING_FOR_MS:
        return "delivering"
    if one.paused:
        return "paused"
    return "reading" if one.reading and not one.at_end else "waiting"
