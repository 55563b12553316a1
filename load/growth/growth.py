"""Measures each point of each curve with the service, SINK=python."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from load.checks import Check, Section, at_most, exactly
from load.cluster import Cluster
from load.compare.contender import SERVICE_PYTHON, contenders
from load.compare.figures import Figures, judged
from load.compare.log import write_log
from load.compare.postgres_server import PostgresQueue
from load.compare.run import run
from load.growth.pictures import draw
from load.growth.points import DELAY, Curve, Point, curves
from load.progress import say

_LIMIT_SECONDS = 60.0
_DELAY_ROUNDS = 3  # of the one curve that must be flat; runs a minute apart differ by 5% of a core
_RSS_MAY_GROW = 1.1  # over all delays
_CPU_MAY_GROW_PERCENT = 5.0  # of a core, over all delays


def growth(cluster: Cluster, out: Path) -> Section:
    """Every curve, and a picture of all. What must not grow at all is checked: memory and CPU with the delay."""
    measured = {curve.name: _measured(cluster, curve) for curve in curves()}
    checks = [check for curve in curves() for check in _checks(curve, measured[curve.name])]
    return Section("growth: what the service costs", checks, pictures=[draw(measured, out)])


def _measured(cluster: Cluster, curve: Curve) -> list[Figures]:
    """Of each point; of several rounds the one whose CPU is in the middle."""
    rounds = _DELAY_ROUNDS if curve.name == DELAY else 1
    runs = [[_measure(cluster, curve.name, point) for point in curve.points] for _ in range(rounds)]
    return [sorted(of_point, key=lambda one: one.cpu_percent)[rounds // 2] for of_point in zip(*runs, strict=True)]


def _measure(cluster: Cluster, name: str, point: Point) -> Figures:
    service = contenders(PostgresQueue())[SERVICE_PYTHON]
    service = replace(service, settings={**service.settings, **point.settings})
    # The first record falls due when the service has started, so that it is as old as the delay by then.
    log = write_log(cluster, point.case, round(1000 * (point.delay_seconds - service.start_seconds)))
    figures, _ = judged(run(service, log, cluster, _LIMIT_SECONDS), log)
    say(f"growth: {name} {point.x:g}: {figures.cpu_percent:.1f}% of a core, {figures.rss_mib:.0f} MiB")
    return figures


def _checks(curve: Curve, measured: list[Figures]) -> list[Check]:
    checks: list[Check] = []
    for point, figures in zip(curve.points, measured, strict=True):
        label = f"{curve.name} {point.x:g}"
        checks += [
            Check(f"{label}: CPU of a core", figures.cpu_percent, "%"),
            Check(f"{label}: peak RSS", figures.rss_mib, "MiB"),
            Check(f"{label}: lateness p50", figures.lateness_p50_ms, "ms"),
            Check(f"{label}: lateness p99", figures.lateness_p99_ms, "ms"),
            exactly(f"{label}: early", figures.early, 0),
            exactly(f"{label}: delivered", figures.delivered_percent, 100, "%"),
        ]
    if curve.name == DELAY:
        memory, cpu = ([getattr(one, name) for one in measured] for name in ("rss_mib", "cpu_percent"))
        checks.append(at_most("delay: peak RSS, the largest / the smallest", max(memory) / min(memory), _RSS_MAY_GROW))
        checks.append(at_most("delay: CPU, most less least", max(cpu) - min(cpu), _CPU_MAY_GROW_PERCENT, "%"))
    return checks
