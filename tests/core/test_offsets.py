from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from delayed_consumer.core.offsets import InFlight
from delayed_consumer.core.records import Run
from tests.core.making import run_of


def started(*lengths: int) -> tuple[InFlight, list[Run]]:
    """Runs of these lengths in flight, one behind the other with gaps between their offsets."""
    in_flight, runs, first_offset = InFlight(), [], 10
    for length in lengths:
        run = run_of([0] * length, first_offset=first_offset)
        in_flight.start(run)
        runs.append(run)
        first_offset = run.next_offset + 3
    return in_flight, runs


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.data())
def test_the_first_offset_not_done_is_right_in_any_order_of_finishing(lengths: list[int], data: st.DataObject) -> None:
    in_flight, unfinished = started(*lengths)
    while unfinished:
        assert in_flight.first_unfinished is not None
        assert in_flight.first_unfinished.first_offset == min(run.first_offset for run in unfinished)
        assert (in_flight.records, len(in_flight)) == (sum(map(len, unfinished)), len(unfinished))
        assert in_flight.bytes == sum(run.size_bytes for run in unfinished)
        run = unfinished.pop(data.draw(st.integers(0, len(unfinished) - 1)))
        done, rest = run.split(data.draw(st.integers(1, len(run))))
        in_flight.finish(done)
        if len(rest):
            unfinished.append(rest)
    assert in_flight.first_unfinished is None
    assert (in_flight.records, in_flight.bytes, len(in_flight)) == (0, 0, 0)


def test_what_finishes_behind_the_first_does_not_move_it() -> None:
    in_flight, (first, second, third) = started(2, 2, 2)
    in_flight.finish(second)
    in_flight.finish(third)
    assert in_flight.first_unfinished is first


def test_what_is_left_of_a_run_stays_before_those_behind_it() -> None:
    in_flight, (first, second) = started(3, 1)
    in_flight.finish(first.split(2)[0])
    assert in_flight.first_unfinished is not None
    assert in_flight.first_unfinished.offsets == [first.offsets[2]]
    in_flight.finish(in_flight.first_unfinished)
    assert in_flight.first_unfinished is second
