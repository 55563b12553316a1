"""Which partitions read, which are held back, which are paused: decided from one look at all of them.

A partition *reads* until what it holds reaches a look-ahead beyond now, and again when that has shrunk
to half. In between it is satisfied, and while every partition is satisfied the loop takes nothing: the
client's queue fills up and fetching stops by itself, with nothing thrown away.

A pause throws away what the client has prefetched of a partition. So a partition is paused where that is
nothing (at the end of its log, to which it reads on while the hold is nearly empty and nothing of it is due),
where nothing of it is due for long, or where it would fill the hold. One
that delivers all the time is never paused, however far ahead it was read while another was waited for:
pausing those at different moments made 1.5 bytes fetched for each useful one at 1,000 records/s.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from delayed_consumer.core.records import Partition
from delayed_consumer.core.window import Assignment

SHORT_WAIT_MS = 1_000  # a pause at the end of the log throws nothing away: worth it from here on
LONG_WAIT_MS = 30_000  # with something due before that, a pause in mid-log costs more than it saves
TO_THE_END_MS = 10_000  # with nothing due before that, reading on to the end of a short log saves its pause the cost
ANSWER_WITHIN_MS = 2_000  # a resumed partition answers in milliseconds, with a record or the end of the log


@dataclass(frozen=True, slots=True)
class Limits:
    """How far ahead to read, and how much to hold over all partitions, in flight included."""

    lookahead_ms: float
    max_records: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class FlowChange:
    """What to tell the client, and what follows for the loop."""

    pause: list[Partition]
    resume: list[tuple[Partition, int | None]]  # and the offset to go on at; None: where it was assigned
    stuck: list[Partition]  # those of ``resume`` that had been resumed before and stayed silent
    taking: bool  # records may be taken from the client
    short_of_room: bool  # something would read if the hold had room
    again_ms: float  # when to look again if nothing happens before


class Room:
    """What is left of the hold.

    Half of it is common: whoever needs it takes it. A quarter is divided evenly, so that one partition's far
    future cannot keep another from its due records. The last quarter is for what a step takes beyond a share.
    """

    def __init__(self, assignments: Collection[Assignment], limits: Limits) -> None:
        records = sum(one.records for one in assignments)
        size_bytes = sum(one.bytes for one in assignments)
        shares = 4 * max(1, len(assignments))
        self.exhausted = records >= limits.max_records or size_bytes >= limits.max_bytes
        self.nearly_empty = records * 16 < limits.max_records and size_bytes * 16 < limits.max_bytes
        self._common_records = limits.max_records / 2 - records
        self._common_bytes = limits.max_bytes / 2 - size_bytes
        self._share_records = limits.max_records / shares
        self._share_bytes = limits.max_bytes / shares

    def has_some_for(self, one: Assignment) -> bool:
        if self._common_records > 0 and self._common_bytes > 0:
            return True
        return not self.exhausted and one.records < self._share_records and one.bytes < self._share_bytes

    def records_at_once(self, record_bytes: float) -> int:
        """How many records of this size one step may take, all of them perhaps of one partition."""
        records = max(self._common_records, self._share_records)
        size_bytes = max(self._common_bytes, self._share_bytes)
        return int(min(records, size_bytes / record_bytes))


def decide(assignments: Collection[Assignment], limits: Limits, now_ms: float) -> FlowChange:
    """One look at all partitions. Sets their flags to what is decided; the caller tells the client."""
    room = Room(assignments, limits)
    longest_delay_ms = max((one.delay_ms for one in assignments), default=0)
    for one in assignments:
        one.hungry = _is_hungry(one, limits, longest_delay_ms, now_ms) or (
            room.nearly_empty and _waits_in_mid_log(one, now_ms)
        )
        one.set_reading(one.hungry and room.has_some_for(one), now_ms)
    some_read = any(one.reading for one in assignments)
    to_pause = [one for one in assignments if _should_pause(one, room, some_read, limits, now_ms)]
    stuck = [one for one in assignments if _is_stuck(one, now_ms)]
    to_resume = stuck + [one for one in assignments if one.paused and one.reading]
    for one in to_pause:
        one.was_paused()
    for one in to_resume:
        one.was_resumed(now_ms)
    return FlowChange(
        pause=[one.partition for one in to_pause],
        resume=[(one.partition, one.position) for one in to_resume],
        stuck=[one.partition for one in stuck],
        taking=some_read or (not room.exhausted and _may_hear_of_more(assignments)),
        short_of_room=any(one.hungry and not one.reading for one in assignments),
        again_ms=min((_again_ms(one, limits, now_ms) for one in assignments), default=float("inf")),
    )


def reads_on_ms(one: Assignment, limits: Limits) -> float | None:
    """When this partition must read on: half a look-ahead before its last held record is due."""
    furthest_ms = one.furthest_due_ms
    return None if furthest_ms is None else furthest_ms - limits.lookahead_ms / 2


def _is_hungry(one: Assignment, limits: Limits, longest_delay_ms: int, now_ms: float) -> bool:
    """Whether it should read, room permitting.

    At the end of the log there is nothing to read, except where a record that arrives may be due before what the
    client hands over first: at once, the delay being shorter than the look-ahead, or before what is prefetched of a
    partition with a longer delay.
    """
    if one.at_end and not one.paused and one.delay_ms >= max(limits.lookahead_ms, longest_delay_ms):
        return False
    furthest_ms = one.furthest_due_ms
    if furthest_ms is None:
        return True
    if one.reading:
        return furthest_ms - now_ms < limits.lookahead_ms
    # The very moment at which `_again_ms` asks to look again, not later: nobody would look then.
    return furthest_ms - limits.lookahead_ms / 2 <= now_ms


def _waits_in_mid_log(one: Assignment, now_ms: float) -> bool:
    """Nothing of it is due for some time, and the end of its log may be near: there a pause costs nothing."""
    if one.at_end or one.paused or one.next_due_ms is None:
        return False
    return one.next_due_ms - now_ms >= TO_THE_END_MS


def _should_pause(one: Assignment, room: Room, some_read: bool, limits: Limits, now_ms: float) -> bool:
    if one.paused or one.reading:
        return False
    if room.exhausted or (some_read and not room.has_some_for(one)):
        return True  # whatever the client hands over next would be more of this one
    reads_on = reads_on_ms(one, limits)
    if reads_on is None or reads_on - now_ms < SHORT_WAIT_MS:
        return False
    return one.at_end or (one.next_due_ms is not None and one.next_due_ms - now_ms >= LONG_WAIT_MS)


def _may_hear_of_more(assignments: Collection[Assignment]) -> bool:
    """All have been read as far as they should, and the log of one that is not paused may go on at any moment."""
    all_read = all(one.paused or one.at_end for one in assignments)
    return not assignments or (all_read and any(not one.paused for one in assignments))


def _is_stuck(one: Assignment, now_ms: float) -> bool:
    """Resumed, wanting to read, and silent: the client still has it paused, or lost the request."""
    if one.paused or not one.reading or one.awaited_since_ms is None:
        return False
    return now_ms - one.awaited_since_ms >= ANSWER_WITHIN_MS


def _again_ms(one: Assignment, limits: Limits, now_ms: float) -> float:
    if one.reading:
        return float("inf") if one.awaited_since_ms is None else one.awaited_since_ms + ANSWER_WITHIN_MS
    reads_on = reads_on_ms(one, limits)
    return reads_on if reads_on is not None and reads_on > now_ms else float("inf")
