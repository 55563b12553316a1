"""What relaying costs: against loops that only read and produce, and exactly-once against at-least-once."""

from __future__ import annotations

from collections.abc import Mapping

from load.backlog import backlog
from load.checks import Check, Section, at_least, at_most, exactly
from load.cluster import Cluster
from load.limits.contest import Contestant, Work, median_rates
from load.measure import Measurement, measure
from load.progress import say
from load.quantiles import quantile
from load.scenarios import Scenario
from load.topics import create_topic

_RECORDS = 500_000
_PARTITIONS = 4
_LEAST_SHARE_OF_BARE = 0.7
_LEAST_SHARE_EXACTLY_ONCE = 0.6
_EXACTLY_ONCE_P99_MS = 50.0
# A broker compiles what transactions need while it runs: its first minute says little about the others.
_WARM_UPS = 3
_STEADY = Scenario("relay", rate=10_000, seconds=15, partitions=_PARTITIONS)

_BARE, _BARE_WITH_ORIGIN = "bare relay", "bare relay that writes the same headers and sees each acknowledgement"
_AT_LEAST_ONCE, _EXACTLY_ONCE = "at-least-once", "exactly-once"


def relay(cluster: Cluster) -> Section:
    median = _catch_up(cluster)
    at_least_once = _steady(cluster, _AT_LEAST_ONCE)
    *warm_ups, exactly_once = (_steady(cluster, _EXACTLY_ONCE) for _ in range(_WARM_UPS + 1))
    return Section(
        f"relay: {_RECORDS:,} due records of 200 B in {_PARTITIONS} partitions; {_STEADY.rate_text} when they are due",
        [
            *(Check(f"catch-up, {name}", rate, "records/s") for name, rate in median.items()),
            at_least(f"{_AT_LEAST_ONCE} / {_BARE}", median[_AT_LEAST_ONCE] / median[_BARE], _LEAST_SHARE_OF_BARE),
            Check(f"{_AT_LEAST_ONCE} / {_BARE_WITH_ORIGIN}", median[_AT_LEAST_ONCE] / median[_BARE_WITH_ORIGIN]),
            at_least(
                f"{_EXACTLY_ONCE} / {_AT_LEAST_ONCE} in catch-up",
                median[_EXACTLY_ONCE] / median[_AT_LEAST_ONCE],
                _LEAST_SHARE_EXACTLY_ONCE,
            ),
            *_standing(at_least_once, _AT_LEAST_ONCE, None),
            *(_warming_up(run, number) for number, run in enumerate(warm_ups, start=1)),
            *_standing(exactly_once, _EXACTLY_ONCE, _EXACTLY_ONCE_P99_MS),
            at_least(
                f"{_EXACTLY_ONCE} / {_AT_LEAST_ONCE} at {_STEADY.rate_text}",
                _throughput(exactly_once) / _throughput(at_least_once),
                _LEAST_SHARE_EXACTLY_ONCE,
            ),
        ],
    )


def _catch_up(cluster: Cluster) -> dict[str, float]:
    say(f"relay: writing {_RECORDS:,} records of 200 B ...")
    topic, _ = backlog(cluster, "relay", _RECORDS, 200, _PARTITIONS)

    def target() -> Mapping[str, str]:
        return {"SINK": "topic", "SINK_TOPIC": create_topic(cluster.bootstrap, "load-relay-target", _PARTITIONS)}

    return median_rates(
        Work(cluster, topic, _RECORDS, _PARTITIONS),
        {
            _BARE: Contestant("bare-relay", target()),
            _BARE_WITH_ORIGIN: Contestant("bare-relay-with-origin", target()),
            _AT_LEAST_ONCE: Contestant("service", {**target(), "DELIVERY": _AT_LEAST_ONCE}),
            _EXACTLY_ONCE: Contestant("service", {**target(), "DELIVERY": _EXACTLY_ONCE}),
        },
    )


def _steady(cluster: Cluster, mode: str) -> Measurement:
    say(f"relay: {mode} ...")
    return measure(_STEADY, cluster, "topic", environment={"DELIVERY": mode})


def _standing(run: Measurement, mode: str, p99_bound_ms: float | None) -> list[Check]:
    """Late is what a read_committed reader of the target sees, the time to the commit included."""
    arrived_ms = run.arrival_lateness_ms()
    label = f"{mode}, {_STEADY.rate_text}"
    return [
        Check(f"{label}: lateness at the reader p50", quantile(arrived_ms, 0.5), "ms"),
        Check(f"{label}: lateness at the reader p99", quantile(arrived_ms, 0.99), "ms", p99_bound_ms),
        Check(f"{label}: lateness at the reader max", quantile(arrived_ms, 1.0), "ms"),
        exactly(f"{label}: early", run.verdict.early, 0),
        exactly(f"{label}: lost", run.verdict.lost, 0),
        at_most(f"{label}: duplicates", run.verdict.duplicates, 0),
        Check(f"{label}: CPU of a core", run.cpu.process, "%"),
    ]


def _warming_up(run: Measurement, number: int) -> Check:
    label = f"{_EXACTLY_ONCE}, {_STEADY.rate_text}, run {number} on this broker: lateness at the reader p99"
    return Check(label, quantile(run.arrival_lateness_ms(), 0.99), "ms")


def _throughput(run: Measurement) -> float:
    """Records a second at the reader, from the first to the last."""
    arrived = [moment_ms for column in run.delivered.values() for moment_ms in column.arrived_ms]
    return 1000 * len(arrived) / (max(arrived) - min(arrived)) if len(arrived) > 1 else float("nan")
