"""As fast as the machine can: the rate is doubled until the service does not keep up."""

from __future__ import annotations

from dataclasses import replace

from load.checks import Check, Section
from load.cluster import Cluster
from load.measure import GRACE_SECONDS, Measurement, SinkName, measure
from load.progress import say
from load.quantiles import quantile
from load.scenarios import Scenario

_SECONDS = 8.0
_FASTEST_RATE = 160_000
_KEPT_UP_P99_MS = 1000.0


def ladder(first: Scenario, cluster: Cluster, sink: SinkName) -> Section:
    """From twice the rate of ``first`` on. How far that is depends on the machine, so lateness fails nothing."""
    section = Section("high: how far it goes")
    rate = first.rate * 2
    kept_up = True
    while kept_up and rate <= _FASTEST_RATE:
        say(f"ladder: {rate:,.0f} records/s ...")
        run = measure(replace(first, name="ladder", rate=rate, seconds=_SECONDS), cluster, sink)
        kept_up = run.verdict.lost == 0 and quantile(run.lateness_ms(), 0.99) <= _KEPT_UP_P99_MS
        section.checks.extend(_rung(run))
        rate *= 2
    return section


def _rung(run: Measurement) -> list[Check]:
    late_ms = run.lateness_ms()
    label = run.scenario.rate_text
    broken = run.verdict.faults - run.verdict.lost + run.verdict.duplicates
    return [
        Check(f"{label}: lateness p50", quantile(late_ms, 0.5), "ms"),
        Check(f"{label}: lateness p99", quantile(late_ms, 0.99), "ms"),
        Check(f"{label}: CPU of a core", run.cpu.process, "%"),
        Check(f"{label}: not delivered {GRACE_SECONDS:g} s after the end", run.verdict.lost),
        Check(f"{label}: early, repeated or out of order", broken, "", 0, "="),
    ]
