"""`python -m load compare`: its cases, what it reads from the contenders, and its figures."""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from math import isnan, nan
from pathlib import Path

import pytest

from load.compare.about import About
from load.compare.ahead import WHY, ahead
from load.compare.cases import Case, chosen_cases
from load.compare.command import add_options
from load.compare.contender import BARE, contenders
from load.compare.contest import Entry
from load.compare.figures import Figures, Spread, judged, lateness_histogram, quantiles_ms, spread
from load.compare.log import Log
from load.compare.notes import ROW
from load.compare.output import assignments_ms, deliveries
from load.compare.postgres_server import PostgresQueue
from load.compare.run import Run
from load.compare.table import markdown
from load.oracle import Delivered, Key, Written
from load.usage import Usage

ROOT = Path(__file__).parents[1]
EVERYONE = contenders(PostgresQueue())
TOPIC = "orders"
FIRST_MS = 1_000_000
STEADY = Case("steady", 1, 200, records=40, rate=10.0, warm_up_seconds=1.0, seconds=2.0)
LATE_MS = 0.25


def cases(*arguments: str) -> list[Case]:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return chosen_cases(parser.parse_args(arguments))


def steady_log() -> Log:
    """A record every 100 ms: the first ten are for warming up, twenty are measured, ten lie behind."""
    written = Written((index, FIRST_MS + index * 100) for index in range(STEADY.records))
    return Log(STEADY, TOPIC, FIRST_MS, {(TOPIC, 0): written}, size_bytes=1000.0)


def steady_run(log: Log, late_ms: dict[int, float], stopped_after_ms: float = 3500.0) -> Run:
    """One that delivered these offsets, so late."""
    schedule = log.schedule(ahead_seconds=5.0)
    column = Delivered()
    for offset, late in late_ms.items():
        due_ms = log.written[TOPIC, 0].timestamps_ms[offset] + schedule.delay_ms
        column.add(offset, due_ms, due_ms + late, due_ms + late)
    return Run(
        schedule,
        schedule.first_due_ms + stopped_after_ms,
        begun=Usage(schedule.from_ms, 1.0, 0, 10.0),
        ended=Usage(schedule.until_ms, 1.5, 0, 11.0),
        received_bytes=1500.0,
        peak_rss_bytes=2**20,
        assigned_ms=[schedule.first_due_ms - 1000],
        delivered={(TOPIC, 0): column},
    )


def figures_of(late_ms: dict[int, float]) -> Figures:
    log = steady_log()
    return judged(steady_run(log, late_ms), log)[0]


# Cases


def test_without_options_all_rates_are_tried_and_the_middle_one_with_an_empty_partition_and_with_more() -> None:
    chosen = cases()
    assert [(one.rate, one.partitions, one.empty_partitions) for one in chosen if not one.is_catch_up] == [
        (4, 4, 0),
        (100, 4, 0),
        (1000, 4, 0),
        (10_000, 4, 0),
        (1000, 4, 1),
        (1000, 64, 0),
    ]
    assert [(one.records, one.size_bytes) for one in chosen if one.is_catch_up] == [
        (1_000_000, 200),
        (1_000_000, 1000),
    ]


def test_a_rate_by_itself_is_one_case() -> None:
    assert [one.rate for one in cases("--rates", "100")] == [100]


def test_a_tail_of_later_records_lies_behind_the_measured_ones() -> None:
    for case in cases():
        if not case.is_catch_up:
            tail = case.records - case.records_until_the_end
            assert tail >= 6 * case.rate
            assert tail >= 900 * case.rate or tail * case.size_bytes / case.partitions > 2**20


def test_an_empty_partition_has_no_records_and_the_others_as_many_as_each_other() -> None:
    (case,) = [one for one in cases() if one.empty_partitions]
    counted = Counter(slot.partition for slot in case.slots())
    assert sorted(counted) == [0, 1, 2]
    assert max(counted.values()) - min(counted.values()) <= 1


def test_a_slow_rate_is_measured_for_longer() -> None:
    (case,) = cases("--rates", "4", "--seconds", "1")
    assert case.rate * case.seconds == 20


def test_a_backlog_is_due_at_one_moment() -> None:
    (case,) = cases("--rates", "--catch-up", "100", "--sizes", "200")
    assert {slot.due_after_ms for slot in case.slots()} == {0}
    assert case.records_until_the_end == 100


def test_the_batches_are_those_of_a_live_producer_unless_they_are_said() -> None:
    (live,) = cases("--rates", "10000")
    (said,) = cases("--rates", "10000", "--batch-records", "7", "--codec", "zstd")
    assert (live.batch_records, live.codec) == (50, "none")
    assert (said.batch_records, said.codec) == (7, "zstd")


def test_every_contender_waits_but_the_bare_loop() -> None:
    assert [name for name, one in EVERYONE.items() if not one.waits] == [BARE]


# What they say


def test_what_a_contender_notes_is_what_is_read() -> None:
    program = """
from load.compare.notes import Notes, assigned
notes = Notes()
assigned()
notes.delivered_together([(1, 7), (0, 3)])
notes.delivered(1, 8)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={"COMPARE_RECORDS": "3"}, capture_output=True, check=True
    )
    written = {(TOPIC, 0): Written([(number, 50) for number in range(4)]), (TOPIC, 1): Written()}
    columns = deliveries(io.BytesIO(done.stdout), "rows", TOPIC, written, delay_ms=5)
    assert {key: list(column.offsets) for key, column in columns.items()} == {(TOPIC, 0): [3], (TOPIC, 1): [7, 8]}
    assert list(columns[TOPIC, 0].due_ms) == [55]
    assert len(assignments_ms(done.stderr.decode())) == 1


def test_a_row_keeps_its_microseconds() -> None:
    data = ROW.pack(0, 0, 1_763_000_000_000_123)
    written = {(TOPIC, 0): Written([(0, 0)])}
    column = deliveries(io.BytesIO(data), "rows", TOPIC, written, delay_ms=0)[TOPIC, 0]
    assert column.delivered_ms[0] == pytest.approx(1_763_000_000_000.123, abs=0.0005)


def test_half_a_row_and_half_a_line_were_not_delivered() -> None:
    row = ROW.pack(0, 0, 1)
    line = b'{"topic":"orders","partition":0,"offset":0,"due_ms":1,"delivered_ms":2.5}\n'
    for data, output in ((row + row[:-1], "rows"), (line + line[:-1], "log")):
        with tempfile.TemporaryFile() as file:
            file.write(data)
            columns: dict[Key, Delivered] = deliveries(file, output, TOPIC, {}, delay_ms=0)  # type: ignore[arg-type]
        assert [list(column.offsets) for column in columns.values()] == [[0]]


def test_assignments_are_found_in_the_log_of_the_service_too() -> None:
    log = '{"ts":"1970-01-01T00:00:02.500+00:00","event":"assigned"}\n{"ts":"1970-01-01T00:00:03+00:00","event":"x"}\n'
    assert assignments_ms(log) == [2500]


# Figures


def test_lateness_is_that_of_the_measured_records() -> None:
    late_ms = dict.fromkeys(range(40), LATE_MS) | {0: 900.0, 39: 700.0}
    figures = figures_of(late_ms)
    assert figures.lateness_p50_ms == pytest.approx(LATE_MS, rel=0.002)
    assert figures.lateness_max_ms == pytest.approx(LATE_MS, rel=0.002)
    assert figures.delivered_percent == 100


def test_a_record_that_did_not_come_is_as_late_as_it_was_at_the_end() -> None:
    """Number 29 was due 2.9 s after the first, and the contender was stopped after 3.5."""
    figures = figures_of(dict.fromkeys(range(29), LATE_MS))
    assert figures.lateness_max_ms == pytest.approx(600, rel=0.002)
    assert figures.delivered_percent == 95


def test_a_record_early_by_a_microsecond_is_counted_wherever_it_lies() -> None:
    assert figures_of(dict.fromkeys(range(40), LATE_MS) | {35: -0.001}).early == 1


def test_costs_are_those_of_the_measured_time() -> None:
    figures = figures_of(dict.fromkeys(range(40), LATE_MS))
    assert figures.cpu_us_per_record == 0.5 / 20 * 1e6
    assert figures.cpu_percent == pytest.approx(25)
    assert figures.bytes_per_log_byte == 1.5
    assert (figures.rss_mib, figures.rebalances, figures.ready_before_measured_seconds) == (1, 0, 2)


def test_a_backlog_is_timed_from_the_first_delivery_to_the_last() -> None:
    log = replace(steady_log(), case=Case("catch-up", 1, 200, records=40))
    run = steady_run(log, dict.fromkeys(range(40), LATE_MS))
    figures, lateness = judged(run, log)
    assert figures.records_per_second == pytest.approx(40 / 3.9, rel=0.001)
    assert isnan(figures.lateness_p50_ms)
    assert lateness.get_total_count() == 0


def test_a_histogram_keeps_three_digits() -> None:
    histogram = lateness_histogram([0.123, 4567.0])
    assert quantiles_ms(histogram)[0] == pytest.approx(0.123, rel=0.001)
    assert quantiles_ms(histogram)[3] == pytest.approx(4567, rel=0.001)


def test_a_spread_has_the_middle_and_both_ends_of_what_is_known() -> None:
    assert spread([3.0, nan, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert isnan(spread([nan]).median)


# The report


def test_the_report_names_what_was_left_out_and_what_failed_and_why() -> None:
    good = Entry(rounds=[figures_of(dict.fromkeys(range(40), LATE_MS))])
    bad = Entry(failures=["RuntimeError: it ended with 1:\nno memory"])
    about = About("python -m load compare", "today", {"cores": 2}, 1, {"postgres": "no server is installed"})
    report = markdown({STEADY: {"aiokafka": good, "java": bad}}, EVERYONE, about)
    assert "- **Left out:** postgres: no server is installed." in report
    assert "- **java failed in a round:** RuntimeError: it ended with 1: no memory" in report
    (row,) = [line for line in report.splitlines() if line.startswith("| aiokafka")]
    assert row.split(" | ")[1:4] == ["0", "100", "0.25"]


def test_the_report_says_who_is_ahead_in_every_round_and_why() -> None:
    ours = figures_of(dict.fromkeys(range(40), LATE_MS))
    lighter, heavier = replace(ours, rss_mib=0.5), replace(ours, rss_mib=2.0)
    entries = {
        "service-log": Entry(rounds=[ours, ours]),
        "aiokafka": Entry(rounds=[lighter, lighter]),
        "java": Entry(rounds=[lighter, heavier]),
        "sleeping": Entry(rounds=[replace(lighter, delivered_percent=25.0)] * 2),
        "naive-pause": Entry(rounds=[replace(lighter, early=1.0)] * 2),
    }
    assert [(one.name, one.figure, one.theirs, one.ours) for one in ahead({STEADY: entries})] == [
        ("aiokafka", "rss_mib", 0.5, 1.0)
    ]
    report = markdown({STEADY: entries}, EVERYONE, About("python -m load compare", "today", {}, 2, {}))
    assert f"- **peak RSS, MiB:** aiokafka at steady: 0.5 for 1. Why: {WHY['rss_mib']}." in report
    assert "Nobody" in markdown({STEADY: {"service-log": Entry(rounds=[ours])}}, EVERYONE, About("", "", {}, 1, {}))
