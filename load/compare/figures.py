"""The figures of one run, and of all rounds together. Pure."""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isnan, nan

from hdrh.histogram import HdrHistogram

from load.compare.log import Log
from load.compare.run import Run
from load.oracle import Delivered, Key, Verdict, judge
from load.usage import cpu_between

_LONGEST_US = 3_600_000_000
_DIGITS = 3
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Figures:
    """Of one run. What does not apply, or could not be measured, is nan."""

    early: float
    delivered_percent: float  # of the measured records
    out_of_order: float
    duplicates: float
    lateness_p50_ms: float
    lateness_p99_ms: float
    lateness_p999_ms: float
    lateness_max_ms: float
    records_per_second: float  # catching up
    of_bare: float  # the same as a share of the bare loop's in the same round
    bytes_per_log_byte: float
    cpu_us_per_record: float
    cpu_percent: float  # of a core
    machine_cpu_percent: float  # of a core, everything that ran
    rss_mib: float
    rebalances: float  # after the first assignment
    ready_before_measured_seconds: float  # negative: it was not ready in time


@dataclass(frozen=True)
class Spread:
    """One figure over the rounds."""

    median: float
    least: float
    most: float


def spread(values: Iterable[float]) -> Spread:
    """nan of nothing; rounds without the figure do not count."""
    known = sorted(value for value in values if not isnan(value))
    return Spread(statistics.median(known), known[0], known[-1]) if known else Spread(nan, nan, nan)


def spreads(rounds: Sequence[Figures]) -> dict[str, Spread]:
    columns = [asdict(one) for one in rounds]
    return {name: spread(column[name] for column in columns) for name in columns[0]}


def lateness_histogram(lateness_ms: Iterable[float]) -> HdrHistogram:
    """In microseconds, with three digits that count."""
    histogram = HdrHistogram(1, _LONGEST_US, _DIGITS)
    for late_ms in lateness_ms:
        histogram.record_value(min(_LONGEST_US, max(0, round(late_ms * 1000))))
    return histogram


def judged(run: Run, log: Log) -> tuple[Figures, HdrHistogram]:
    """One run's figures, and its lateness where records fell due one by one."""
    verdict = judge(log.written, run.delivered, run.schedule.delay_ms, run.schedule.until_ms)
    late_ms = [] if log.case.is_catch_up else measured_lateness_ms(run, log, verdict)
    histogram = lateness_histogram(late_ms)
    late_quantiles_ms = quantiles_ms(histogram)
    cpu = cpu_between(run.begun, run.ended)
    return Figures(
        early=verdict.early,
        delivered_percent=_delivered_percent(run, log, verdict),
        out_of_order=verdict.out_of_order,
        duplicates=verdict.duplicates,
        lateness_p50_ms=late_quantiles_ms[0],
        lateness_p99_ms=late_quantiles_ms[1],
        lateness_p999_ms=late_quantiles_ms[2],
        lateness_max_ms=late_quantiles_ms[3],
        records_per_second=_records_per_second(run.delivered) if log.case.is_catch_up else nan,
        of_bare=nan,
        bytes_per_log_byte=run.received_bytes / log.size_bytes,
        cpu_us_per_record=_cpu_us_per_record(run),
        cpu_percent=cpu.process,
        machine_cpu_percent=cpu.machine,
        rss_mib=run.peak_rss_bytes / _MIB,
        rebalances=len(run.assigned_ms) - 1 if run.assigned_ms else nan,
        ready_before_measured_seconds=_ready_before_measured_seconds(run, log),
    ), histogram


def measured_lateness_ms(run: Run, log: Log, verdict: Verdict) -> list[float]:
    """Of every measured record. One that did not come is as late as it was when the contender was stopped: to leave
    it out would make those look best that deliver least."""
    columns = zip(verdict.due_ms, verdict.lateness_ms, strict=True)
    came = [(due_ms, late_ms) for due_ms, late_ms in columns if run.schedule.measures(due_ms)]
    missing = Counter(_measured_due_ms(run, log)) - Counter(due_ms for due_ms, _ in came)
    return [*(late for _, late in came), *(run.stopped_ms - due for due in missing.elements())]


def _measured_due_ms(run: Run, log: Log) -> Iterator[int]:
    for records in log.written.values():
        due_ms = records.due_ms(run.schedule.delay_ms)
        yield from due_ms[bisect_left(due_ms, run.schedule.from_ms) : bisect_left(due_ms, run.schedule.until_ms)]


def quantiles_ms(histogram: HdrHistogram) -> tuple[float, float, float, float]:
    """p50, p99, p99.9 and the highest."""
    if histogram.get_total_count() == 0:
        return nan, nan, nan, nan
    middle, high, higher = (histogram.get_value_at_percentile(percent) / 1000 for percent in (50, 99, 99.9))
    return middle, high, higher, histogram.get_max_value() / 1000


def _delivered_percent(run: Run, log: Log, verdict: Verdict) -> float:
    came = sum(map(run.schedule.measures, verdict.due_ms))
    return 100 * came / sum(1 for _ in _measured_due_ms(run, log))


def _records_per_second(delivered: Mapping[Key, Delivered]) -> float:
    """From the first delivery to the last."""
    columns = [column.delivered_ms for column in delivered.values() if len(column)]
    seconds = (max(map(max, columns)) - min(map(min, columns))) / 1000 if columns else 0.0
    return sum(map(len, columns)) / seconds if seconds else nan


def _cpu_us_per_record(run: Run) -> float:
    columns = (column.delivered_ms for column in run.delivered.values())
    records = sum(run.begun.at_ms <= moment <= run.ended.at_ms for column in columns for moment in column)
    return (run.ended.cpu_seconds - run.begun.cpu_seconds) / records * 1e6 if records else nan


def _ready_before_measured_seconds(run: Run, log: Log) -> float:
    known = bool(run.assigned_ms) and not log.case.is_catch_up
    return (run.schedule.from_ms - min(run.assigned_ms)) / 1000 if known else nan
