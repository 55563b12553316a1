"""What waiting costs, and how soon a fresh service delivers."""

from __future__ import annotations

import time

from load.backlog import DELAY_SECONDS, backlog
from load.checks import Check, Section, at_most
from load.cluster import Cluster
from load.progress import say
from load.service import ServiceProcess
from load.usage import cpu_between
from load.verdicts import MIB
from load.wait import wait_until

PARTITIONS = 100
_RECORDS_PER_PARTITION = 5
_DUE_IN_MS = 800_000.0  # long after the end, and with the delay still in the past when it was written
_WATCHED_SECONDS = 30.0
_SETTLE_SECONDS = 20.0
_CPU_PERCENT = 0.5
_FIRST_DELIVERY_SECONDS = 5.0
_STARTS = 3


def idle(cluster: Cluster) -> Section:
    checks = [*_waiting(cluster), _first_delivery(cluster)]
    return Section(f"idle: {PARTITIONS} partitions wait and nothing is due; start to first delivery", checks)


def _waiting(cluster: Cluster) -> list[Check]:
    topic, _ = backlog(cluster, "idle", PARTITIONS * _RECORDS_PER_PARTITION, 200, PARTITIONS, _DUE_IN_MS)
    with ServiceProcess(cluster.environment(topic, DELAY_SECONDS)) as service:
        service.wait_ready()
        say("idle: waiting until all partitions are paused ...")
        wait_until(lambda: _paused(service) == PARTITIONS, _SETTLE_SECONDS, service)
        paused = _paused(service)
        say(f"idle: {paused} partitions are paused; watching for {_WATCHED_SECONDS:.0f} s ...")
        begun = service.usage.now()
        time.sleep(_WATCHED_SECONDS)
        ended = service.usage.now()
        service.stop()
    return [
        Check("partitions paused", paused),
        at_most("CPU of a core while all wait", cpu_between(begun, ended).process, _CPU_PERCENT, "%"),
        Check("RSS while all wait", ended.rss_bytes / MIB, "MiB"),
    ]


def _paused(service: ServiceProcess) -> int:
    return sum(one["state"] == "paused" for one in service.status()["partitions"])


def _first_delivery(cluster: Cluster) -> Check:
    """The worst of some starts, each of a new group on records that are already due."""
    worst_seconds = 0.0
    topic, _ = backlog(cluster, "first", 1000, 200, 4)
    for number in range(_STARTS):
        settings = {**cluster.environment(topic, DELAY_SECONDS), "KAFKA_GROUP_ID": f"{topic}-{number}"}
        with ServiceProcess(settings) as service:
            wait_until(lambda: service.deliveries.first_arrived_ms is not None, 30, service)
            arrived_ms = service.deliveries.first_arrived_ms or float("inf")
            worst_seconds = max(worst_seconds, (arrived_ms - service.started_ms) / 1000)
            service.stop()
    return at_most(f"start to first delivery, worst of {_STARTS}", worst_seconds, _FIRST_DELIVERY_SECONDS, "s")
