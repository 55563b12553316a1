"""The oracle of load/ sees every way in which the service could break its word."""

from __future__ import annotations

import pytest

from load.oracle import Delivered, Verdict, Written, judge

KEY = ("orders", 0)
DELAY_MS = 1000

Row = tuple[int, int, float]
"""Offset, due_ms, delivered_ms."""

ON_TIME: list[Row] = [(0, 2000, 2000.1), (1, 2010, 2010.2), (2, 2020, 2020.3)]


def verdict_of(rows: list[Row], until_ms: float = float("inf"), restarted: bool = False) -> Verdict:
    """Three records, stamped 1000, 1010 and 1020, against what was delivered."""
    written = {KEY: Written([(0, 1000), (1, 1010), (2, 1020)])}
    return judge(written, {KEY: delivered(rows)}, DELAY_MS, until_ms, restarted)


def delivered(rows: list[Row]) -> Delivered:
    column = Delivered()
    for offset, due_ms, delivered_ms in rows:
        column.add(offset, due_ms, delivered_ms, delivered_ms + 0.5)
    return column


def counts(verdict: Verdict) -> dict[str, int]:
    """All counts that are not zero."""
    names = ("early", "lost", "duplicates", "out_of_order", "wrong_due", "unknown")
    return {name: getattr(verdict, name) for name in names if getattr(verdict, name)}


def test_records_on_time_and_in_order_are_flawless() -> None:
    verdict = verdict_of(ON_TIME)
    assert counts(verdict) == {}
    assert (verdict.expected, verdict.delivered) == (3, 3)
    assert list(verdict.lateness_ms) == pytest.approx([0.1, 0.2, 0.3])
    assert list(verdict.arrival_lateness_ms) == pytest.approx([0.6, 0.7, 0.8])


def test_a_record_a_thousandth_of_a_millisecond_early_is_found() -> None:
    verdict = verdict_of([ON_TIME[0], (1, 2010, 2009.999), ON_TIME[2]])
    assert counts(verdict) == {"early": 1}
    assert verdict.findings == ["early: orders[0] offset 1"]


def test_a_record_before_the_due_time_it_claims_is_early() -> None:
    assert counts(verdict_of([ON_TIME[0], (1, 2015, 2012.0), ON_TIME[2]])) == {"early": 1, "wrong_due": 1}


def test_a_lost_record_is_found() -> None:
    verdict = verdict_of([ON_TIME[0], ON_TIME[2]])
    assert counts(verdict) == {"lost": 1}
    assert verdict.findings == ["lost: orders[0] offset 1"]


def test_a_partition_that_delivered_nothing_has_lost_everything() -> None:
    assert judge({KEY: Written([(0, 1000), (1, 1010)])}, {}, DELAY_MS).lost == 2


def test_a_record_due_after_the_end_of_the_watch_is_not_lost() -> None:
    verdict = verdict_of(ON_TIME[:2], until_ms=2015)
    assert counts(verdict) == {}
    assert verdict.expected == 2


def test_a_duplicate_is_found_and_is_not_taken_for_wrong_order() -> None:
    verdict = verdict_of([*ON_TIME, (0, 2000, 2030.0)])
    assert counts(verdict) == {"duplicates": 1}
    assert verdict.faults == 0
    assert len(verdict.lateness_ms) == 3


def test_wrong_order_is_found() -> None:
    assert counts(verdict_of([ON_TIME[0], ON_TIME[2], (1, 2010, 2020.4)])) == {"out_of_order": 1}


@pytest.mark.parametrize("due_ms", [2009, 2011])
def test_a_due_time_a_millisecond_off_is_found(due_ms: int) -> None:
    assert counts(verdict_of([ON_TIME[0], (1, due_ms, 2015.0), ON_TIME[2]])) == {"wrong_due": 1}


def test_a_record_that_nobody_wrote_is_found() -> None:
    assert counts(verdict_of([*ON_TIME, (3, 2030, 2031.0)])) == {"unknown": 1}
    assert judge({}, {KEY: delivered(ON_TIME)}, DELAY_MS).unknown == 3


def test_due_times_are_the_running_maximum_where_timestamps_step_back() -> None:
    written = {KEY: Written([(0, 1000), (1, 400)])}
    too_soon = judge(written, {KEY: delivered([(0, 2000, 2000.0), (1, 1400, 2000.0)])}, DELAY_MS)
    right = judge(written, {KEY: delivered([(0, 2000, 2000.0), (1, 2000, 2000.0)])}, DELAY_MS)
    assert counts(too_soon) == {"wrong_due": 1}
    assert counts(right) == {}


def test_after_a_restart_the_running_maximum_may_have_begun_anew() -> None:
    written = {KEY: Written([(0, 1000), (1, 400)])}
    rows = {KEY: delivered([(0, 2000, 2000.0), (1, 1400, 2000.0)])}
    assert counts(judge(written, rows, DELAY_MS, restarted=True)) == {}


def test_offsets_may_have_gaps() -> None:
    written = {KEY: Written([(0, 1000), (5, 1010)])}
    assert counts(judge(written, {KEY: delivered([(0, 2000, 2000.0), (5, 2010, 2010.0)])}, DELAY_MS)) == {}
    assert counts(judge(written, {KEY: delivered([(0, 2000, 2000.0), (4, 2010, 2010.0)])}, DELAY_MS)) == {
        "lost": 1,
        "unknown": 1,
    }
