"""What commits cost: after each record, after each hundred, and periodically."""

from __future__ import annotations

from load.backlog import DELAY_SECONDS, backlog
from load.checks import Check, Section
from load.cluster import Cluster
from load.measure import measure
from load.progress import say
from load.quantiles import quantile
from load.scenarios import Scenario
from load.service import ServiceProcess
from load.verdicts import promises
from load.wait import wait_until

EVERY_RECORDS = (0, 100, 1)  # 0: periodically only
_RECORDS = 300_000
_AT_MOST_SECONDS = 20.0
_STEADY = Scenario("commits", rate=1000, seconds=10, partitions=4)


def commits(cluster: Cluster) -> Section:
    """Catch-up of a due backlog, and lateness at a steady rate, for each setting."""
    topic, _ = backlog(cluster, "commits", _RECORDS, 200, 4)
    section = Section(f"commits: catch-up through SINK=log, and lateness at {_STEADY.rate:,.0f} records/s")
    for every in EVERY_RECORDS:
        say(f"commits: COMMIT_EVERY_RECORDS={every} ...")
        section.checks.extend(_catch_up(cluster, topic, every))
        section.checks.extend(_steady(cluster, every))
    return section


def _label(every: int) -> str:
    return f"COMMIT_EVERY_RECORDS={every}" if every else "every 5 s"


def _catch_up(cluster: Cluster, topic: str, every: int) -> list[Check]:
    settings = {
        **cluster.environment(topic, DELAY_SECONDS),
        "KAFKA_GROUP_ID": f"{topic}-{every}",
        "COMMIT_EVERY_RECORDS": str(every),
    }
    with ServiceProcess(settings) as service:
        service.wait_ready()
        deliveries = service.deliveries
        wait_until(lambda: deliveries.count >= _RECORDS, _AT_MOST_SECONDS, service)
        seconds = ((deliveries.last_arrived_ms or 0.0) - (deliveries.first_arrived_ms or 0.0)) / 1000
        rate = deliveries.count / seconds if seconds else float("nan")
        service.stop()
    return [Check(f"{_label(every)}: catch-up", rate, "records/s")]


def _steady(cluster: Cluster, every: int) -> list[Check]:
    run = measure(_STEADY, cluster, environment={"COMMIT_EVERY_RECORDS": str(every)})
    late_ms = run.lateness_ms()
    lost_or_early = [check for check in promises(run.verdict) if check.bound is not None and not check.passed]
    return [
        Check(f"{_label(every)}: lateness p50", quantile(late_ms, 0.5), "ms"),
        Check(f"{_label(every)}: lateness p99", quantile(late_ms, 0.99), "ms"),
        Check(f"{_label(every)}: commits sent", run.metrics.get("delayed_consumer_commits_total{ok}", float("nan"))),
        Check(f"{_label(every)}: CPU of a core", run.cpu.process, "%"),
        *lost_or_early,
    ]
