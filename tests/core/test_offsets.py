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
    in_flight, runs = started(*lengths)
    unfinished = dict.fromkeys(runs, 0)
    while unfinished:
        first = min(run.offsets[done] for run, done in unfinished.items())
        assert in_flight.first_unfinished_offset == first
        assert in_flight.span_offsets == runs[-1].next_offset - first
        assert in_flight.records == sum(len(run) - done for run, done in unfinished.items())
        assert (in_flight.bytes, len(in_flight)) == (sum(run.size_bytes for run in unfinished), len(unfinished))
        run = list(unfinished)[data.draw(st.integers(0, len(unfinished) - 1))]
        done = data.draw(st.integers(unfinished.pop(run) + 1, len(run)))
        in_flight.finish(run, done)
        if done < len(run):
            unfinished |= {run: done}
    assert in_flight.first_unfinished_offset is None
    assert (in_flight.records, in_flight.bytes, len(in_flight), in_flight.span_offsets) == (0, 0, 0, 0)


def test_what_finishes_behind_the_first_does_not_move_it() -> None:
    in_flight, (first, second, third) = started(2, 2, 2)
    in_flight.finish(second, 2)
    in_flight.finish(third, 2)
    assert in_flight.first_unfinished_offset == first.first_offset


def test_what_is_left_of_a_run_stays_before_those_behind_it() -> None:
    in_flight, (first, second) = started(3, 1)
    in_flight.finish(first, 2)
    assert in_flight.first_unfinished_offset == first.offsets[2]
    in_flight.finish(first, 3)
    assert in_flight.first_unfinished_offset == second.first_offset
