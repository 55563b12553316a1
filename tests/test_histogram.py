from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import overload

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delayed_consumer.histogram import EXPORTED_BOUNDS_SECONDS, LatenessHistogram

NOW_MS = 1_795_000_000_000
BUCKET_WIDTH = 1.0801

microseconds_late = st.one_of(st.integers(0, 2_000), st.integers(0, 900_000_000))


def runs() -> st.SearchStrategy[tuple[list[int], float]]:
    """Due times ascending, and a wall clock of whole microseconds that is past them all."""
    behind_ms = st.lists(st.one_of(st.integers(0, 3), st.integers(0, 400_000)), min_size=1, max_size=40)
    return st.builds(
        lambda behind, micros: (sorted(NOW_MS - one for one in behind), NOW_MS + micros / 1000),
        behind_ms,
        microseconds_late,
    )


def exact_lateness_ms(observed: Sequence[tuple[list[int], float]]) -> list[Fraction]:
    return sorted(Fraction(delivered_ms) - one for due_ms, delivered_ms in observed for one in due_ms)


def observed_in(observed: Sequence[tuple[list[int], float]]) -> LatenessHistogram:
    histogram = LatenessHistogram()
    for due_ms, delivered_ms in observed:
        histogram.observe(due_ms, delivered_ms)
    return histogram


@given(st.lists(runs(), min_size=1, max_size=5))
def test_exported_counts_are_exact(observed: list[tuple[list[int], float]]) -> None:
    lateness_ms = exact_lateness_ms(observed)
    bounds_ms = [Fraction(str(seconds)) * 1000 for seconds in EXPORTED_BOUNDS_SECONDS]
    counts = [sum(one <= bound for one in lateness_ms) for bound in bounds_ms]

    assert observed_in(observed).cumulative() == [
        *zip(EXPORTED_BOUNDS_SECONDS, counts, strict=True),
        (math.inf, len(lateness_ms)),
    ]


@given(st.lists(runs(), min_size=1, max_size=5))
def test_count_sum_and_maximum_are_exact(observed: list[tuple[list[int], float]]) -> None:
    lateness_ms = exact_lateness_ms(observed)
    histogram = observed_in(observed)

    assert histogram.count == len(lateness_ms)
    assert histogram.max_seconds == float(lateness_ms[-1]) / 1000
    assert histogram.sum_seconds == pytest.approx(float(sum(lateness_ms)) / 1000, rel=1e-9)
    assert histogram.early == 0


@given(st.lists(runs(), min_size=1, max_size=5), st.floats(0, 1))
def test_a_quantile_is_within_a_bucket_of_the_true_one(observed: list[tuple[list[int], float]], q: float) -> None:
    lateness_ms = exact_lateness_ms(observed)
    true_ms = float(lateness_ms[max(0, math.ceil(q * len(lateness_ms)) - 1)])

    found = observed_in(observed).quantile(q)

    assert found is not None
    assert true_ms / BUCKET_WIDTH - 0.051 <= found * 1000 <= true_ms * BUCKET_WIDTH + 0.051
    assert found * 1000 <= float(lateness_ms[-1])


@pytest.mark.parametrize("seconds", EXPORTED_BOUNDS_SECONDS)
def test_a_bound_belongs_to_its_bucket_and_what_the_clock_tells_apart_does_not(seconds: float) -> None:
    bound_ms = Fraction(str(seconds)) * 1000
    at = NOW_MS + float(bound_ms)
    for delivered_ms in (math.nextafter(at, 0), at, math.nextafter(at, math.inf)):
        inside = Fraction(delivered_ms) - NOW_MS <= bound_ms
        assert dict(observed_in([([NOW_MS] * 3, delivered_ms)]).cumulative())[seconds] == (3 if inside else 0)


@pytest.mark.parametrize("seconds", [bound for bound in EXPORTED_BOUNDS_SECONDS if bound >= 0.001])
def test_a_run_across_a_bound_is_parted_at_it(seconds: float) -> None:
    due_ms = [NOW_MS - int(seconds * 1000) + one for one in (-2, -1, 0, 0, 1)]
    assert dict(observed_in([(due_ms, float(NOW_MS))]).cumulative())[seconds] == 3


def test_there_is_no_quantile_before_the_first_record() -> None:
    assert LatenessHistogram().quantile(0.5) is None
    assert LatenessHistogram().cumulative()[-1] == (math.inf, 0)


def test_an_empty_run_counts_nothing() -> None:
    histogram = LatenessHistogram()
    histogram.observe([], NOW_MS)
    assert histogram.count == histogram.early == 0


def test_lateness_beyond_the_coarsest_bucket_is_counted_up_to_the_maximum() -> None:
    histogram = LatenessHistogram()
    histogram.observe([0, NOW_MS - 5_000_000], NOW_MS)

    assert histogram.quantile(1.0) == NOW_MS / 1000
    assert histogram.cumulative()[-2:] == [(300.0, 0), (math.inf, 2)]


def test_an_early_record_is_counted_apart_and_does_not_flatter_the_lateness() -> None:
    histogram = LatenessHistogram()
    histogram.observe([NOW_MS - 10, NOW_MS + 1, NOW_MS + 2], NOW_MS)
    histogram.observe([NOW_MS + 1], NOW_MS)

    assert (histogram.early, histogram.count) == (3, 1)
    assert histogram.sum_seconds == histogram.max_seconds == 0.01


def test_delivery_in_the_very_millisecond_is_not_early() -> None:
    histogram = LatenessHistogram()
    histogram.observe([NOW_MS, NOW_MS + 1], float(NOW_MS))
    assert (histogram.early, histogram.count, histogram.max_seconds) == (1, 1, 0.0)


class Looked(Sequence[int]):
    """Counts how often an item is looked at; a sum goes through it in C and is not counted."""

    def __init__(self, items: list[int]) -> None:
        self.items = items
        self.looks = 0

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[int]:
        return iter(self.items)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[int]: ...
    def __getitem__(self, index: int | slice) -> int | Sequence[int]:
        self.looks += 1
        return self.items[index]


def test_a_run_costs_a_search_and_not_a_look_at_each_record() -> None:
    due_ms = Looked([NOW_MS - 900_000 + one for one in range(500)])
    LatenessHistogram().observe(due_ms, NOW_MS)
    assert due_ms.looks < 20


@given(
    st.lists(
        st.tuples(
            st.integers(0, 400_000).map(lambda behind: NOW_MS - behind), microseconds_late.map(lambda us: us - 500)
        ),
        min_size=1,
        max_size=40,
    )
)
def test_records_delivered_each_at_its_own_moment_count_as_if_alone(records: list[tuple[int, int]]) -> None:
    due_ms, late_microseconds = zip(*records, strict=True)
    delivered_ms = [due + late / 1000 for due, late in zip(due_ms, late_microseconds, strict=True)]
    together = LatenessHistogram()
    together.observe(due_ms, delivered_ms)
    alone = observed_in([([due], delivered) for due, delivered in zip(due_ms, delivered_ms, strict=True)])

    assert together.cumulative() == alone.cumulative()
    assert (together.early, together.max_seconds) == (alone.early, alone.max_seconds)
    assert together.sum_seconds == pytest.approx(alone.sum_seconds)


def test_a_reader_on_another_thread_sees_counts_that_only_grow() -> None:
    histogram, done = LatenessHistogram(), threading.Event()

    def write() -> None:
        for one in range(2_000):
            histogram.observe([NOW_MS - one, NOW_MS - one // 2, NOW_MS], NOW_MS + 0.5)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    before: list[tuple[float, int]] = histogram.cumulative()
    while not done.is_set():
        now = histogram.cumulative()
        assert all(new >= old for (_, old), (_, new) in zip(before, now, strict=True))
        assert now == sorted(now)
        before = now
    writer.join()
    assert histogram.count == 6_000
