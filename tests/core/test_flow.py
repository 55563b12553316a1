from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delayed_consumer.core.flow import (
    ANSWER_WITHIN_MS,
    LONG_WAIT_MS,
    SHORT_WAIT_MS,
    TO_THE_END_MS,
    FlowChange,
    Limits,
    decide,
)
from delayed_consumer.core.window import Assignment
from tests.core.making import DELAY_MS, LIMITS, LOOKAHEAD_MS, RECORD_BYTES, assignment, holding, partition, run_of

NOW_MS = 1_795_000_000_000.0
HALF_MS = LOOKAHEAD_MS / 2
FILLED = Limits(LOOKAHEAD_MS, max_records=16, max_bytes=10_000_000)  # no longer nearly empty with one record
SMALL = Limits(LOOKAHEAD_MS, max_records=40, max_bytes=10_000_000)


def in_ms(*waits_ms: float) -> list[int]:
    return [int(NOW_MS + wait_ms) for wait_ms in waits_ms]


def held(*waits_ms: float, number: int = 0, delay_ms: int = DELAY_MS) -> Assignment:
    """A partition with records that are due in so many milliseconds."""
    return holding(*in_ms(*waits_ms), number=number, delay_ms=delay_ms)


def at_end(one: Assignment) -> Assignment:
    one.reached_end(one.position or 0)
    return one


def look(*assignments: Assignment, limits: Limits = LIMITS, now_ms: float = NOW_MS) -> FlowChange:
    return decide(assignments, limits, now_ms)


# Looking ahead and holding back


def test_a_new_partition_is_read() -> None:
    one = assignment()
    assert look(one) == FlowChange([], [], [], taking=True, short_of_room=False, again_ms=float("inf"))
    assert one.reading


def test_without_partitions_the_client_is_polled_for_the_first_ones() -> None:
    assert look().taking


def test_while_all_are_paused_the_client_has_nothing_to_take_from() -> None:
    one, other = held(LONG_WAIT_MS + LOOKAHEAD_MS), held(LONG_WAIT_MS + LOOKAHEAD_MS, number=1)
    look(one, other, limits=FILLED)
    assert (one.paused, other.paused) == (True, True)
    assert not look(one, other, limits=FILLED).taking


def test_a_partition_reads_until_it_holds_a_look_ahead() -> None:
    one = held(LOOKAHEAD_MS - 1)
    assert look(one).taking
    one.hold(run_of(in_ms(LOOKAHEAD_MS), first_offset=1))
    assert not look(one).taking


def test_a_satisfied_partition_reads_on_when_half_a_look_ahead_is_left_and_not_before() -> None:
    one = held(LOOKAHEAD_MS)
    change = look(one)
    assert (change.taking, change.again_ms) == (False, NOW_MS + HALF_MS)
    assert not look(one, now_ms=NOW_MS + HALF_MS - 1).taking
    assert look(one, now_ms=change.again_ms).taking


@given(
    st.lists(st.integers(-10_000, 100_000), min_size=1, max_size=4),
    st.floats(500, 100_000, allow_subnormal=False),
    st.floats(-20_000, 200_000),
    st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_a_partition_that_waits_for_time_to_pass_is_looked_at_again(
    waits_ms: list[int], lookahead_ms: float, elapsed_ms: float, reading: list[bool]
) -> None:
    """Else nothing would ever be read of it again. Whoever waits for room is looked at when there is some."""
    assignments = [held(wait_ms, number=number) for number, wait_ms in enumerate(waits_ms)]
    for one, was_reading in zip(assignments, reading, strict=False):
        one.reading = was_reading
    now_ms = NOW_MS + elapsed_ms
    change = look(*assignments, limits=replace(LIMITS, lookahead_ms=lookahead_ms), now_ms=now_ms)
    if not all(one.reading for one in assignments):
        assert now_ms < change.again_ms < float("inf")
    assert not change.short_of_room


def test_a_partition_at_the_end_of_its_log_has_enough() -> None:
    one = at_end(held(1))
    look(one)
    assert not one.reading


def test_an_empty_partition_costs_the_others_nothing() -> None:
    """What the client hands over next is not wanted, and is left in its queue."""
    assert not look(at_end(assignment(0)), held(LOOKAHEAD_MS, number=1)).taking


def test_the_client_is_waited_in_while_every_partition_is_paused_or_at_the_end() -> None:
    """A record that arrives then wakes the loop."""
    assert look(at_end(assignment(0)), held(LONG_WAIT_MS, number=1), limits=FILLED).taking


@pytest.mark.parametrize(("delay_ms", "reads"), [(0, True), (LOOKAHEAD_MS - 1, True), (LOOKAHEAD_MS, False)])
def test_a_delay_shorter_than_the_look_ahead_goes_on_reading_at_the_end_of_the_log(delay_ms: int, reads: bool) -> None:
    live = at_end(assignment(0, delay_ms=delay_ms))
    change = look(live, held(LOOKAHEAD_MS, number=1, delay_ms=delay_ms))
    assert (live.reading, change.taking) == (reads, reads)


def test_a_delay_shorter_than_another_one_goes_on_reading_at_the_end_of_the_log() -> None:
    """What is prefetched of the other lies before its records in the client's queue, and may be due later."""
    live = at_end(assignment(0, delay_ms=10_000))
    assert look(live, held(LOOKAHEAD_MS, number=1, delay_ms=10_000)).taking is False
    assert look(live, held(LOOKAHEAD_MS, number=1, delay_ms=10_001)).taking is True


# Pausing and resuming


@pytest.mark.parametrize(("wait_ms", "pauses"), [(LONG_WAIT_MS, True), (LONG_WAIT_MS - 1, False)])
def test_a_partition_of_which_nothing_is_due_for_long_is_paused(wait_ms: int, pauses: bool) -> None:
    one = held(wait_ms, 900_000)
    assert look(one, limits=FILLED).pause == ([one.partition] if pauses else [])
    assert one.paused == pauses


@pytest.mark.parametrize(("wait_ms", "reads_on"), [(TO_THE_END_MS, True), (TO_THE_END_MS - 1, False)])
def test_a_waiting_partition_reads_on_to_the_end_of_a_short_log_and_is_paused_there(
    wait_ms: int, reads_on: bool
) -> None:
    """A pause in mid-log would throw away what is prefetched."""
    one = held(wait_ms)
    assert (look(one).pause, one.reading) == ([], reads_on)
    assert look(at_end(one)).pause == [one.partition]


def test_a_waiting_partition_does_not_read_a_long_log_to_its_end() -> None:
    one = held(LONG_WAIT_MS)
    assert look(one).pause == []
    assert look(one, limits=FILLED).pause == [one.partition]


@pytest.mark.parametrize(("beyond_ms", "pauses"), [(0, True), (-1, False)])
def test_at_the_end_of_the_log_a_shorter_wait_is_paused_as_it_costs_nothing(beyond_ms: int, pauses: bool) -> None:
    one = at_end(held(HALF_MS + SHORT_WAIT_MS + beyond_ms))
    assert look(one).pause == ([one.partition] if pauses else [])


def test_a_paused_partition_is_told_once() -> None:
    one = held(LONG_WAIT_MS)
    assert look(one, limits=FILLED).pause == [one.partition]
    assert look(one, limits=FILLED, now_ms=NOW_MS + 1).pause == []


def test_a_paused_partition_is_resumed_half_a_look_ahead_before_its_last_record_is_due() -> None:
    one = at_end(held(LONG_WAIT_MS, 900_000))
    change = look(one)
    assert (one.paused, change.again_ms) == (True, NOW_MS + 900_000 - HALF_MS)
    assert look(one, now_ms=change.again_ms - 0.001).resume == []
    assert look(one, now_ms=change.again_ms).resume == [(one.partition, 2)]
    assert not one.paused


def test_a_partition_that_waits_for_nothing_is_not_paused() -> None:
    assert look(at_end(assignment())).pause == []


# Sharing the hold


def test_a_partition_over_its_share_is_paused_while_another_one_needs_to_read() -> None:
    far, hungry = held(*([LOOKAHEAD_MS] * 20), number=0), assignment(1)
    change = look(far, hungry, limits=SMALL)
    assert change.pause == [far.partition]
    assert (hungry.reading, change.taking) == (True, True)


def test_a_partition_over_its_share_is_left_alone_while_nobody_needs_to_read() -> None:
    """A pause throws away what is prefetched."""
    satisfied = held(*([LOOKAHEAD_MS] * 20))
    change = look(satisfied, limits=SMALL)
    assert (change.pause, change.taking) == ([], False)


def test_one_that_needs_more_than_its_share_waits_until_there_is_room() -> None:
    one = held(*([100] * 20))
    assert look(one, assignment(1), limits=SMALL).short_of_room
    run = one.start_due(NOW_MS + 100, 15)
    assert run is not None
    one.in_flight.finish(run, len(run))
    change = look(one, assignment(1), limits=SMALL)
    assert (one.reading, change.short_of_room, change.resume) == (True, False, [(one.partition, 20)])


def test_what_is_in_flight_counts_in_the_hold() -> None:
    one = held(*([0] * 40))
    one.start_due(NOW_MS, 40)
    assert not look(one, limits=SMALL).taking


@pytest.mark.parametrize(
    "limits", [SMALL, Limits(LOOKAHEAD_MS, 1_000_000, max_bytes=40 * RECORD_BYTES)], ids=["records", "bytes"]
)
def test_an_exhausted_hold_pauses_everything_and_recovers(limits: Limits) -> None:
    full, hungry = held(*([0] * 40), number=0), assignment(1)
    change = look(full, hungry, limits=limits)
    assert change.pause == [full.partition, hungry.partition]
    assert (change.taking, change.short_of_room) == (False, True)
    run = full.start_due(NOW_MS, 40)
    assert run is not None
    full.in_flight.finish(run, len(run))
    change = look(full, hungry, limits=limits)
    assert change.resume == [(full.partition, 40), (hungry.partition, None)]
    assert change.taking


# The watchdog


def resumed() -> Assignment:
    one = held(900_000)
    look(one)
    one.was_resumed(NOW_MS)
    one.start_due(NOW_MS + 900_000, 1)
    look(one)
    return one


def test_a_resumed_partition_that_stays_silent_is_resumed_again_every_two_seconds() -> None:
    one = resumed()
    change = look(one)
    assert (change.stuck, change.again_ms) == ([], NOW_MS + ANSWER_WITHIN_MS)
    assert look(one, now_ms=NOW_MS + ANSWER_WITHIN_MS - 1).stuck == []
    change = look(one, now_ms=NOW_MS + ANSWER_WITHIN_MS)
    assert (change.stuck, change.resume) == ([one.partition], [(one.partition, 1)])
    assert look(one, now_ms=NOW_MS + 2 * ANSWER_WITHIN_MS - 1).stuck == []
    assert look(one, now_ms=NOW_MS + 2 * ANSWER_WITHIN_MS).stuck == [one.partition]


def test_a_resumed_partition_that_answers_is_not_stuck() -> None:
    one = resumed()
    one.hold(run_of(in_ms(0), first_offset=1))
    assert look(one, now_ms=NOW_MS + ANSWER_WITHIN_MS).stuck == []


@given(st.lists(st.floats(0, 3 * ANSWER_WITHIN_MS), max_size=20))
def test_a_partition_is_stuck_at_most_once_in_two_seconds(waits_ms: Sequence[float]) -> None:
    one, now_ms, stuck_at_ms = resumed(), NOW_MS, NOW_MS
    for wait_ms in waits_ms:
        now_ms += wait_ms
        if look(one, now_ms=now_ms).stuck == [partition(0)]:
            assert now_ms - stuck_at_ms >= ANSWER_WITHIN_MS
            stuck_at_ms = now_ms
        else:
            assert now_ms - stuck_at_ms < ANSWER_WITHIN_MS
