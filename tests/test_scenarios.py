"""The schedules that load/ measures with."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from load.checks import at_least, at_most, exactly
from load.quantiles import quantile
from load.scenarios import LONGEST_GAP_SECONDS, SCENARIOS, SHORTEST_GAP_SECONDS

SPARSE = replace(SCENARIOS["sparse"], seconds=600)


def test_high_and_medium_are_evenly_spaced_at_their_rate() -> None:
    for scenario in (replace(SCENARIOS["high"], seconds=2), SCENARIOS["medium"]):
        slots = [slot for slot in scenario.slots() if slot.due_after_ms < scenario.seconds * 1000]
        assert len(slots) == scenario.rate * scenario.seconds
        gaps = {round(later.due_after_ms - now.due_after_ms, 6) for now, later in pairwise(slots)}
        assert gaps == {1000 / scenario.rate}


def test_records_are_spread_over_all_partitions_but_the_empty_ones() -> None:
    scenario = replace(SCENARIOS["medium"], partitions=4, empty_partitions=1)
    counted = Counter(slot.partition for slot in scenario.slots())
    assert sorted(counted) == [0, 1, 2]
    assert max(counted.values()) - min(counted.values()) <= 1


def test_a_tail_longer_than_the_look_ahead_lies_behind_the_measured_records() -> None:
    scenario = SCENARIOS["medium"]
    *_, last = scenario.slots()
    assert last.due_after_ms > (scenario.seconds + 4) * 1000


@pytest.mark.parametrize("seed", range(20))
def test_sparse_gaps_lie_between_one_second_and_sixty(seed: int) -> None:
    moments = [0.0, *(slot.due_after_ms for slot in replace(SPARSE, seed=seed).slots())]
    gaps = [(later - now) / 1000 for now, later in pairwise(moments)]
    assert min(gaps) >= SHORTEST_GAP_SECONDS
    assert max(gaps) <= LONGEST_GAP_SECONDS


@pytest.mark.parametrize("seed", range(20))
def test_sparse_has_partitions_with_one_record_and_one_with_none(seed: int) -> None:
    counted = Counter(slot.partition for slot in replace(SPARSE, seed=seed).slots())
    assert [counted[number] for number in (3, 4, 5)] == [1, 1, 0]


def test_sparse_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    assert list(SPARSE.slots()) == list(SPARSE.slots())
    assert list(SPARSE.slots()) != list(replace(SPARSE, seed=2).slots())


def test_quantiles_are_values_that_were_measured() -> None:
    values = [1.0, 2.0, 3.0, 4.0]
    assert [quantile(values, q) for q in (0.0, 0.5, 0.51, 1.0)] == [1.0, 2.0, 3.0, 4.0]


def test_a_number_that_could_not_be_measured_does_not_pass() -> None:
    nan = float("nan")
    assert not any(check("x", nan, 0).passed for check in (at_most, at_least, exactly))


def test_a_check_passes_at_its_bound_and_fails_beyond_it() -> None:
    assert at_most("x", 2.0, 2.0).passed
    assert not at_most("x", 2.1, 2.0).passed
    assert at_least("x", 0.4, 0.4).passed
    assert not at_least("x", 0.39, 0.4).passed
