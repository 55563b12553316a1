"""The numbers of one scenario and what they must be."""

from __future__ import annotations

from pathlib import Path

from load.checks import Check, Section, at_least, at_most, exactly
from load.measure import Measurement
from load.oracle import Verdict
from load.quantiles import quantile

LATENESS_P50_MS = 0.5
LATENESS_P99_MS = 2.0
BYTES_PER_USEFUL_BYTE = 1.1
STOP_SECONDS = 1.0
RSS_ABOVE_HOLD_BYTES = 100 * 1024 * 1024
MIB = 1024 * 1024

_FASTEST_RATE_BOUND = 10_000  # what was promised up to here; above it numbers are for information
_SLOWEST_RATE_WITH_BYTES_BOUND = 100  # below it a group's own traffic outweighs the records
_TIMED_OUT = ("SESSTMOUT", "MAXPOLL")


def section(run: Measurement, pictures: list[Path]) -> Section:
    """All checks of one scenario."""
    scenario = run.scenario
    title = (
        f"{scenario.name}: {scenario.rate_text} for {scenario.seconds:g} s, {scenario.partitions} partitions"
        f" ({scenario.empty_partitions} empty), {scenario.size_bytes} B, delay {scenario.delay_seconds:g} s,"
        f" sink {run.sink}{', live' if run.generator_lateness_ms is not None else ''}"
    )
    checks = [*promises(run.verdict), *_lateness(run), *_group(run), *_cost(run), *_bytes(run)]
    return Section(title, checks, list(run.verdict.findings), pictures)


def promises(verdict: Verdict, duplicates_allowed: int = 0) -> list[Check]:
    """What the oracle found."""
    return [
        exactly("early", verdict.early, 0),
        exactly("lost", verdict.lost, 0),
        at_most("duplicates", verdict.duplicates, duplicates_allowed),
        exactly("out of order", verdict.out_of_order, 0),
        exactly("wrong due_ms", verdict.wrong_due, 0),
        exactly("never written", verdict.unknown, 0),
        Check("delivered", verdict.delivered),
    ]


def _lateness(run: Measurement) -> list[Check]:
    late_ms, arrived_ms = run.lateness_ms(), run.arrival_lateness_ms()
    bound = run.sink == "log" and run.scenario.rate <= _FASTEST_RATE_BOUND
    generator = run.generator_lateness_ms
    return [
        Check("lateness p50", quantile(late_ms, 0.5), "ms", LATENESS_P50_MS if bound else None),
        Check("lateness p99", quantile(late_ms, 0.99), "ms", LATENESS_P99_MS if bound else None),
        Check("lateness p99.9", quantile(late_ms, 0.999), "ms"),
        Check("lateness max", quantile(late_ms, 1.0), "ms"),
        Check("lateness at the reader p50", quantile(arrived_ms, 0.5), "ms"),
        Check("lateness at the reader p99", quantile(arrived_ms, 0.99), "ms"),
        *([] if generator is None else _generator(generator)),
    ]


def _generator(late_ms: list[float]) -> list[Check]:
    return [
        Check("generator itself late p50", quantile(late_ms, 0.5), "ms"),
        Check("generator itself late p99", quantile(late_ms, 0.99), "ms"),
        Check("generator itself late max", quantile(late_ms, 1.0), "ms"),
    ]


def _group(run: Measurement) -> list[Check]:
    def counted(name: str) -> float:
        return run.metrics.get(f"delayed_consumer_{name}", float("nan"))

    rebalances = [counted(f"rebalances_total{{{event}}}") for event in ("assigned", "revoked", "lost")]
    return [
        at_least("ready before the first is due", (run.first_due_ms - run.ready_ms) / 1000, 0, "s"),
        exactly("session time-outs", sum(run.log.count(word) for word in _TIMED_OUT), 0),
        exactly("rebalances after the first assignment", sum(rebalances) - 1, 0),
        exactly("stuck pauses healed", counted("stuck_pauses_total"), 0),
        Check("pauses", counted("pauses_total")),
        Check("commits sent", counted("commits_total{ok}")),
        exactly("commits failed", counted("commits_total{failed}"), 0),
        exactly("exit code", run.stopped.exit_code, 0),
        at_most("stop takes", run.stopped.seconds, STOP_SECONDS, "s"),
    ]


def _cost(run: Measurement) -> list[Check]:
    bound_mib = (run.hold_max_bytes + RSS_ABOVE_HOLD_BYTES) / MIB
    return [
        Check("CPU of a core", run.cpu.process, "%"),
        Check("CPU of a core, all that ran on the machine", run.cpu.machine, "%"),
        at_most("peak RSS", run.peak_rss_bytes / MIB, bound_mib, "MiB"),
    ]


def _bytes(run: Measurement) -> list[Check]:
    """Fetched by the client's own count, and received by the kernel's, which other connections are part of."""
    fetched = run.metrics.get("delayed_consumer_client_received_bytes_total", float("nan"))
    useful = run.log_bytes or float("nan")
    live = run.generator_lateness_ms is not None  # one answer of the broker for each record: 1.7 for any client
    bound = run.scenario.tail_is_delivered and run.scenario.rate >= _SLOWEST_RATE_WITH_BYTES_BOUND and not live
    return [
        Check("bytes fetched per useful byte", fetched / useful, "", BYTES_PER_USEFUL_BYTE if bound else None),
        Check("bytes received by its sockets per useful byte", run.kernel_received_bytes / useful),
        Check("bytes fetched", fetched, "B"),
        Check("useful bytes (the topic's log)", run.log_bytes, "B"),
    ]
