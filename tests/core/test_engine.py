from __future__ import annotations

from delayed_consumer.core.due import FuturePolicy
from delayed_consumer.core.engine import STEP_RECORDS, Engine, InFlightLimit
from delayed_consumer.core.flow import ANSWER_WITHIN_MS, Limits
from delayed_consumer.core.records import Run
from tests.core.making import DELAY_MS, LOOKAHEAD_MS, engine_of, partition, read

FOREVER = float("inf")


def assigned(engine: Engine, *numbers: int) -> Engine:
    engine.assign([partition(number) for number in numbers])
    return engine


def offsets(runs: list[Run]) -> list[tuple[int, list[int]]]:
    return [(run.partition.number, list(run.offsets)) for run in runs]


# Taking what is due


def test_a_record_is_taken_at_its_due_millisecond_and_not_before() -> None:
    engine = assigned(engine_of(), 0)
    read(engine, 0, [1000])
    assert engine.next_due_ms() == 1000 + DELAY_MS
    assert engine.take_due(999.999 + DELAY_MS) == []
    assert offsets(engine.take_due(1000 + DELAY_MS)) == [(0, [0])]


def test_each_topic_has_its_own_delay() -> None:
    engine = Engine({"orders": 5}.__getitem__, FuturePolicy(0, "wait"), Limits(0, 1, 1), InFlightLimit(1, 1))
    assigned(engine, 0)
    read(engine, 0, [10])
    assert engine.next_due_ms() == 15


def test_partitions_do_not_wait_for_each_other() -> None:
    engine = assigned(engine_of(0), 0, 1)
    read(engine, 0, [50_000])
    read(engine, 1, [1, 2])
    assert offsets(engine.take_due(2)) == [(1, [0, 1])]


def test_a_partition_with_as_much_in_flight_as_it_may_have_waits() -> None:
    engine = assigned(engine_of(0, in_flight=InFlightLimit(runs=1, records_per_run=2)), 0)
    read(engine, 0, [1, 2, 3])
    first = engine.take_due(10)
    assert offsets(first) == [(0, [0, 1])]
    assert engine.take_due(10) == []
    assert engine.next_due_ms() == FOREVER, "nothing can start, so there is nothing to wait for"
    engine.finish(first[0], 2, 0)
    assert engine.next_due_ms() == 3
    assert offsets(engine.take_due(10)) == [(0, [2])]


def test_more_runs_of_a_partition_start_where_the_sink_keeps_their_order() -> None:
    engine = assigned(engine_of(0, in_flight=InFlightLimit(runs=2, records_per_run=1)), 0)
    read(engine, 0, [1, 2, 3])
    assert [offsets(engine.take_due(10)) for _ in range(3)] == [[(0, [0])], [(0, [1])], []]


# What may be committed


def test_an_offset_is_committable_when_it_has_moved_and_only_then() -> None:
    engine = assigned(engine_of(0), 0)
    assert engine.take_committable() == []
    read(engine, 0, [1, 2], first_offset=7)
    assert engine.take_committable() == [(partition(0), 7)], "a new group is anchored where it starts"
    (run,) = engine.take_due(1)
    assert engine.take_committable() == []
    engine.finish(run, 1, 0)
    assert engine.take_committable() == [(partition(0), 8)]
    read(engine, 0, [3], first_offset=9)
    assert engine.take_committable() == []


def test_what_is_done_of_a_failed_run_is_committable_and_what_failed_is_not() -> None:
    engine = assigned(engine_of(0), 0)
    read(engine, 0, [1, 1, 1])
    (run,) = engine.take_due(1)
    engine.finish(run, 2, 0)
    assert engine.take_committable() == [(partition(0), 2)]
    engine.finish(run, 2, 0)
    assert engine.take_committable() == []


# Rebalances


def test_what_was_held_of_a_revoked_partition_is_dropped() -> None:
    engine = assigned(engine_of(0), 0, 1)
    read(engine, 0, [1])
    read(engine, 1, [1])
    engine.revoke([partition(0)])
    assert offsets(engine.take_due(1)) == [(1, [0])]
    assert list(engine.positions()) == [partition(1)]


def test_what_comes_back_late_from_a_former_assignment_matches_nothing() -> None:
    engine = assigned(engine_of(0), 0)
    read(engine, 0, [1])
    (run,) = engine.take_due(1)
    assert engine.owns(run)
    engine.revoke([partition(0)])
    assert not engine.owns(run)
    assigned(engine, 0)
    assert not engine.owns(run)


def test_a_partition_that_comes_again_starts_anew() -> None:
    engine = assigned(engine_of(), 0)
    read(engine, 0, [10_000_000])
    engine.reached_end(partition(0), 1)
    assert engine.change_flow(0) is not None
    (one,) = engine.assignments
    assert one.paused
    assigned(engine, 0)
    (one,) = engine.assignments
    assert (one.paused, one.reading, one.records, one.position) == (False, True, 0, None)


def test_records_of_a_partition_that_is_not_ours_are_left_to_its_owner() -> None:
    engine = assigned(engine_of(), 0)
    assert engine.hold(partition(1), ["m"], [0], [1], [1], 0.0) is None
    engine.reached_end(partition(1), 5)
    assert engine.positions() == {partition(0): None}


def test_a_partition_without_an_offset_goes_on_where_it_was_told_to() -> None:
    engine = assigned(engine_of(), 0)
    engine.moved({partition(0): 42})
    assert engine.positions() == {partition(0): 42}
    assert engine.take_committable() == [(partition(0), 42)], "it is committed before the first delivery"


# Looking at the flow


def test_the_flow_is_not_looked_at_again_before_something_can_have_changed() -> None:
    engine = assigned(engine_of(), 0)
    assert engine.change_flow(0) is not None
    assert engine.change_flow(1) is None
    read(engine, 0, [10_000])
    engine.reached_end(partition(0), 1)
    assert engine.change_flow(1) is not None
    assert engine.change_flow(2) is None
    assert engine.wake_ms() == 10_000 + DELAY_MS - LOOKAHEAD_MS / 2
    assert engine.change_flow(engine.wake_ms()) is not None


def test_room_made_by_the_sink_is_used_at_once() -> None:
    engine = assigned(engine_of(0, limits=Limits(LOOKAHEAD_MS, max_records=4, max_bytes=10**6)), 0)
    read(engine, 0, [1, 1, 1, 1])
    engine.change_flow(1)
    assert not engine.taking
    (run,) = engine.take_due(1)
    engine.finish(run, 4, 0)
    change = engine.change_flow(1)
    assert change is not None
    assert change.resume == [(partition(0), 4)]
    assert engine.taking


def test_few_records_are_taken_at_a_time() -> None:
    assert assigned(engine_of(), 0).room_records() <= STEP_RECORDS


def test_fewer_records_are_taken_where_their_size_would_overfill_the_hold() -> None:
    engine = assigned(engine_of(limits=Limits(LOOKAHEAD_MS, 10**6, max_bytes=10_000)), 0)
    read(engine, 0, [1], size=1_000)
    assert engine.room_records() <= 9
    read(engine, 0, [1], size=20_000)
    assert engine.room_records() == 1, "the client's callbacks are served all the same"


# The watchdog


def test_records_that_somebody_else_has_seen_are_expected_within_two_seconds() -> None:
    engine = assigned(engine_of(), 0)
    engine.reached_end(partition(0), 5)
    engine.expect(partition(0), 6, now_ms=100)
    change = engine.change_flow(100)
    assert change is not None
    assert change.taking
    change = engine.change_flow(100 + ANSWER_WITHIN_MS)
    assert change is not None
    assert (change.stuck, change.resume) == ([partition(0)], [(partition(0), 5)])


def test_nothing_is_expected_that_was_read_or_is_paused_or_is_not_ours() -> None:
    engine = assigned(engine_of(), 0, 1, 2)
    engine.reached_end(partition(0), 6)
    read(engine, 1, [10_000_000])
    for number in range(4):
        engine.expect(partition(number), 6, now_ms=0)
    assert [one.awaited_since_ms for one in engine.assignments] == [None, None, None]


def test_silence_while_a_broker_is_away_is_not_a_stuck_pause() -> None:
    engine = assigned(engine_of(), 0)
    engine.reached_end(partition(0), 5)
    engine.expect(partition(0), 6, now_ms=0)
    engine.change_flow(0)
    engine.excuse_silence(1_999)
    change = engine.change_flow(2_000)
    assert change is None or change.stuck == []
    change = engine.change_flow(1_999 + ANSWER_WITHIN_MS)
    assert change is not None
    assert change.stuck == [partition(0)]
