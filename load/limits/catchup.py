"""How fast a backlog that is already due is caught up with, against a loop that does nothing but read it."""

from __future__ import annotations

from collections.abc import Mapping

from load.backlog import backlog
from load.checks import Check, Section, at_least
from load.cluster import Cluster
from load.limits.contest import Contestant, Work, median_rates
from load.progress import say

RECORDS = 1_000_000
PARTITIONS = 4
BARE = {
    "bare loop, the client's defaults": Contestant("bare-with-defaults"),
    "bare loop, tuned": Contestant("bare"),
}
_CORE = "the service's core"
_LEAST_SHARE_OF_BARE = 0.4


def catchup(cluster: Cluster) -> Section:
    """All read the same topic in turns, each time in a process of its own; the medians are compared."""
    median = median_rates(due_records(cluster, "catchup"), {**BARE, _CORE: Contestant("core")})
    return Section(
        f"catchup: {RECORDS:,} due records of 200 B in {PARTITIONS} partitions, the core with a sink that does nothing",
        [
            *(Check(name, rate, "records/s") for name, rate in median.items()),
            at_least("core / the faster bare loop", median[_CORE] / faster_bare(median), _LEAST_SHARE_OF_BARE),
        ],
    )


def due_records(cluster: Cluster, name: str) -> Work:
    say(f"{name}: writing {RECORDS:,} records of 200 B ...")
    topic, _ = backlog(cluster, name, RECORDS, 200, PARTITIONS)
    return Work(cluster, topic, RECORDS, PARTITIONS)


def faster_bare(median: Mapping[str, float]) -> float:
    return max(median[name] for name in BARE)
