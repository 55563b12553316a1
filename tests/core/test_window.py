from __future__ import annotations

import weakref

from hypothesis import given
from hypothesis import strategies as st

from delayed_consumer.core.records import Run
from delayed_consumer.core.window import CUT_BYTES, Assignment
from tests.core.making import assignment, holding, partition, run_of

ALL = 1_000


def test_nothing_is_committable_before_anything_was_read() -> None:
    assert assignment().committable is None


def test_what_is_held_is_not_committable() -> None:
    one = holding(100, 200)
    assert (one.committable, one.position) == (0, 2)


def test_what_is_in_flight_is_not_committable() -> None:
    one = holding(100, 200)
    one.start_due(100, ALL)
    assert one.committable == 0


def test_committable_is_what_is_in_flight_then_what_is_held_then_the_position() -> None:
    one = holding(100, 200)
    first = one.start_due(100, ALL)
    assert first is not None
    one.in_flight.finish(first, 1)
    assert one.committable == 1
    second = one.start_due(200, ALL)
    assert second is not None
    assert one.committable == 1
    one.in_flight.finish(second, 1)
    assert one.committable == one.position == 2


def test_the_end_of_the_log_makes_control_records_behind_the_last_record_committable() -> None:
    one = assignment()
    one.reached_end(17)
    assert (one.committable, one.at_end) == (17, True)


def test_the_end_of_the_log_passes_nothing_that_is_held() -> None:
    one = holding(100)
    one.reached_end(5)
    assert (one.committable, one.position, one.at_end) == (0, 5, True)


def test_an_end_of_the_log_that_records_have_overtaken_is_none() -> None:
    one = holding(100, 200, 300)
    one.reached_end(2)
    assert (one.position, one.at_end) == (3, False)


def test_a_record_behind_the_end_of_the_log_moves_it() -> None:
    one = assignment()
    one.reached_end(0)
    one.hold(run_of([100]))
    assert not one.at_end


def test_a_resumed_partition_has_to_find_the_end_of_its_log_again() -> None:
    one = assignment()
    one.reached_end(0)
    one.was_paused()
    one.was_resumed(now_ms=50)
    assert (one.paused, one.at_end, one.awaited_since_ms) == (False, False, 50)


def test_the_end_of_the_log_is_an_answer_of_a_resumed_partition() -> None:
    one = assignment()
    one.was_resumed(now_ms=50)
    one.reached_end(0)
    assert one.awaited_since_ms is None


def test_a_record_is_an_answer_of_a_resumed_partition() -> None:
    one = assignment()
    one.was_resumed(now_ms=50)
    one.hold(run_of([100]))
    assert one.awaited_since_ms is None


def test_a_record_starts_at_its_due_millisecond_and_not_before() -> None:
    one = holding(100)
    assert one.start_due(99.999, ALL) is None
    assert one.start_due(100.0, ALL) is not None


def test_at_most_so_many_records_start_as_are_asked_for() -> None:
    one = holding(1, 2, 3, 4, 5)
    run = one.start_due(4, 3)
    assert run is not None
    assert run.offsets == [0, 1, 2]
    assert (one.held_records, one.in_flight.records, one.records) == (2, 3, 5)


def test_progress_is_made_when_the_first_record_in_flight_is_another_one() -> None:
    one = holding(100, 200, 300)
    first = one.start_due(100, ALL)
    assert first is not None
    one.start_due(200, 1)
    third = one.start_due(300, 1)
    assert third is not None
    one.finish(third, 1, 400)
    assert one.last_progress_ms == 100, "what is done behind it is no progress"
    one.finish(first, 1, 500)
    assert one.last_progress_ms == 500


def test_records_that_are_due_are_counted_in_flight_included() -> None:
    one = holding(100, 200, 300)
    one.hold(run_of([400, 500], first_offset=3))
    one.start_due(100, ALL)
    assert one.due_records(now_ms=400) == 4


def test_the_oldest_that_is_not_done_is_in_flight_or_else_held() -> None:
    one = holding(100, 200)
    assert one.oldest_unfinished_due_ms == 100
    run = one.start_due(100, ALL)
    assert run is not None
    assert (one.oldest_unfinished_due_ms, one.next_due_ms) == (100, 200)
    one.in_flight.finish(run, len(run))
    assert one.oldest_unfinished_due_ms == 200


class _Message:
    """Knows when nobody holds it any more."""


def test_records_that_are_done_leave_memory_before_the_last_one_of_their_read_has_started() -> None:
    one = assignment()
    messages = [_Message() for _ in range(8)]
    alive = [weakref.ref(message) for message in messages]
    moments = list(range(8))
    one.hold(Run(partition(0), 1, messages, moments, moments, moments, [CUT_BYTES // 2] * 8))
    del messages
    for now_ms in range(6):
        run = one.start_due(now_ms, ALL)
        assert run is not None
        one.finish(run, len(run), now_ms)
        del run
    assert [number for number, message in enumerate(alive) if message() is not None] == [6, 7]


@given(st.lists(st.lists(st.integers(0, 100), min_size=1, max_size=6), max_size=6), st.data())
def test_whatever_starts_is_due_in_order_and_accounted_for(portions: list[list[int]], data: st.DataObject) -> None:
    one = _read(portions)
    expected = list(range(sum(map(len, portions))))
    taken: list[int] = []
    for now_ms in sorted(data.draw(st.lists(st.integers(0, 100), max_size=8))):
        run = one.start_due(now_ms, data.draw(st.integers(1, 4)))
        if run is not None:
            assert run.due_ms[-1] <= now_ms
            taken += run.offsets
    assert taken == expected[: len(taken)]
    assert (one.in_flight.records, one.held_records) == (len(taken), len(expected) - len(taken))
    assert one.bytes == 100 * len(expected)


def _read(portions: list[list[int]]) -> Assignment:
    one, latest_ms, offset = assignment(), 0, 0
    for portion in portions:
        ascending = [latest_ms := max(latest_ms, due_ms) for due_ms in portion]
        one.hold(run_of(ascending, first_offset=offset))
        offset += len(portion)
    return one
