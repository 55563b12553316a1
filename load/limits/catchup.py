"""How fast a backlog that is already due is caught up with, against a loop that does nothing but read it."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping

from load.backlog import DELAY_SECONDS, backlog
from load.checks import Check, Section, at_least
from load.cluster import Cluster
from load.limits.contestants import CONTESTANTS
from load.progress import say

RECORDS = 1_000_000
PARTITIONS = 4
_ROUNDS = 3
_LEAST_SHARE_OF_BARE = 0.4
_TIMEOUT_SECONDS = 120.0


def catchup(cluster: Cluster) -> Section:
    """All read the same topic in turns, each time in a process of its own; the medians are compared."""
    say(f"catchup: writing {RECORDS:,} records of 200 B ...")
    topic, _ = backlog(cluster, "catchup", RECORDS, 200, PARTITIONS)
    rates: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for round_number in range(_ROUNDS):
        for contestant, measured in rates.items():
            measured.append(_rate(cluster, topic, contestant, round_number))
            say(f"catchup: {contestant} {measured[-1]:,.0f} records/s")
    median = {contestant: statistics.median(measured) for contestant, measured in rates.items()}
    return Section(
        f"catchup: {RECORDS:,} due records of 200 B in {PARTITIONS} partitions, the core with a sink that does nothing",
        [
            Check("bare poll + consume(500), the client's defaults", median["bare-with-defaults"], "records/s"),
            Check("the same with fetch.queue.backoff.ms=20", median["bare"], "records/s"),
            Check("the service's core", median["core"], "records/s"),
            at_least("core / the faster bare loop", median["core"] / _faster_bare(median), _LEAST_SHARE_OF_BARE),
        ],
    )


def _faster_bare(median: Mapping[str, float]) -> float:
    return max(median["bare"], median["bare-with-defaults"])


def _rate(cluster: Cluster, topic: str, contestant: str, round_number: int) -> float:
    """Records per second from the first record to the last."""
    environment = {
        **os.environ,
        **cluster.environment(topic, DELAY_SECONDS),
        "KAFKA_GROUP_ID": f"{topic}-{contestant}-{round_number}",
        "HTTP_PORT": "0",
    }
    done = subprocess.run(
        [sys.executable, "-m", "load.limits.contestants", contestant, str(RECORDS), str(PARTITIONS)],
        env=environment,
        stdout=subprocess.PIPE,
        timeout=_TIMEOUT_SECONDS,
        check=True,
    )
    seconds: float = json.loads(done.stdout)["seconds"]
    return RECORDS / seconds
