from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delayed_consumer.core.due import NO_TIMESTAMP, DueRule, FuturePolicy
from tests.core.making import ANY_FUTURE

INT64_MAX = 2**63 - 1
NOW_MS = 1_795_000_000_000.25
DAY_MS = 86_400_000

moments = st.integers(0, INT64_MAX)
delays = st.integers(0, 10**12)
timestamps = st.lists(st.one_of(moments, st.integers(-5, 5), st.just(NO_TIMESTAMP)), min_size=1, max_size=30)
policies = st.builds(FuturePolicy, st.sampled_from([0.0, 0.5, DAY_MS, float("inf")]), st.sampled_from(["wait", "cap"]))
clocks = st.floats(0, 4e12)


@given(st.lists(moments, min_size=1), delays)
def test_a_due_time_is_the_running_maximum_of_timestamp_and_delay(timestamps_ms: list[int], delay_ms: int) -> None:
    due = DueRule(delay_ms, ANY_FUTURE).due_times(timestamps_ms, NOW_MS)
    assert due.due_ms == [latest + delay_ms for latest in accumulate(timestamps_ms, max)]
    assert (due.future, due.missing) == (0, 0)


@given(timestamps, delays, policies, clocks)
def test_due_times_ascend_whatever_the_timestamps(
    timestamps_ms: list[int], delay_ms: int, future: FuturePolicy, now_ms: float
) -> None:
    due_ms = DueRule(delay_ms, future).due_times(timestamps_ms, now_ms).due_ms
    assert due_ms == sorted(due_ms)
    assert len(due_ms) == len(timestamps_ms)


@given(timestamps, delays, policies, clocks)
def test_no_record_is_due_before_its_delay_has_passed(
    timestamps_ms: list[int], delay_ms: int, future: FuturePolicy, now_ms: float
) -> None:
    """A record without a usable timestamp was made before it was read."""
    due_ms = DueRule(delay_ms, future).due_times(timestamps_ms, now_ms).due_ms
    for timestamp_ms, one_ms in zip(timestamps_ms, due_ms, strict=True):
        assert one_ms - delay_ms >= (now_ms if timestamp_ms < 0 else min(timestamp_ms, now_ms))


@given(timestamps, st.data(), delays, policies, clocks)
def test_it_does_not_matter_in_which_portions_records_are_read(
    timestamps_ms: list[int], data: st.DataObject, delay_ms: int, future: FuturePolicy, now_ms: float
) -> None:
    cut = data.draw(st.integers(1, len(timestamps_ms)))
    rule = DueRule(delay_ms, future)
    portions = [part for part in (timestamps_ms[:cut], timestamps_ms[cut:]) if part]
    due = [rule.due_times(part, now_ms) for part in portions]
    whole = DueRule(delay_ms, future).due_times(timestamps_ms, now_ms)
    assert [one for part in due for one in part.due_ms] == whole.due_ms
    assert (sum(part.future for part in due), sum(part.missing for part in due)) == (whole.future, whole.missing)


@pytest.mark.parametrize("timestamp_ms", [int(NOW_MS) + 2 * DAY_MS, 32_503_680_000_000, INT64_MAX])
def test_a_timestamp_in_the_future_waits_and_is_counted(timestamp_ms: int) -> None:
    due = DueRule(1000, FuturePolicy(DAY_MS, "wait")).due_times([timestamp_ms], NOW_MS)
    assert (due.due_ms, due.future) == ([timestamp_ms + 1000], 1)


@pytest.mark.parametrize("timestamp_ms", [int(NOW_MS) + 2 * DAY_MS, INT64_MAX])
def test_a_capped_timestamp_in_the_future_is_due_the_delay_after_it_was_read(timestamp_ms: int) -> None:
    rule = DueRule(1000, FuturePolicy(DAY_MS, "cap"))
    assert rule.due_times([timestamp_ms], NOW_MS).due_ms == [1_795_000_001_001]
    assert rule.due_times([int(NOW_MS)], NOW_MS).due_ms == [1_795_000_001_001], "the next one does not wait for it"


def test_a_timestamp_as_far_ahead_as_is_allowed_is_not_unusual() -> None:
    rule = DueRule(1000, FuturePolicy(DAY_MS, "cap"))
    allowed_ms = 1_795_000_000_000 + DAY_MS
    assert rule.due_times([allowed_ms], 1_795_000_000_000.0).due_ms == [allowed_ms + 1000]


def test_a_record_without_a_timestamp_is_due_the_delay_after_it_was_read_and_counted() -> None:
    due = DueRule(1000, ANY_FUTURE).due_times([NO_TIMESTAMP, 5], NOW_MS)
    assert due.due_ms == [1_795_000_001_001, 1_795_000_001_001]
    assert (due.future, due.missing) == (0, 1)


def test_a_timestamp_of_0_is_one() -> None:
    due = DueRule(1000, ANY_FUTURE).due_times([0], NOW_MS)
    assert (due.due_ms, due.missing) == ([1000], 0)
