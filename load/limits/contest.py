"""Contestants take turns at the same work, each time in a process of its own; their medians are compared."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from load.backlog import DELAY_SECONDS
from load.cluster import Cluster
from load.progress import say

ROUNDS = 3
_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class Contestant:
    """A function of `contestants`, and the settings it runs with."""

    function: str
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """A topic full of records that are due."""

    cluster: Cluster
    topic: str
    records: int
    partitions: int


def median_rates(work: Work, contestants: Mapping[str, Contestant]) -> dict[str, float]:
    """Records a second of each, by the name that it has here."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, contestant in contestants.items():
            rates[name].append(work.records / figures(work, contestant)["seconds"])
            say(f"{name}: {rates[name][-1]:,.0f} records/s")
    return {name: statistics.median(measured) for name, measured in rates.items()}


def figures(work: Work, contestant: Contestant) -> dict[str, float]:
    """What one run of it has measured. Every run is a group of its own."""
    environment = {
        **os.environ,
        **work.cluster.environment(work.topic, DELAY_SECONDS),
        "KAFKA_GROUP_ID": f"{work.topic}-{os.urandom(4).hex()}",
        "HTTP_PORT": "0",
        **contestant.settings,
    }
    command = [sys.executable, "-m", "load.limits.contestants", contestant.function]
    done = subprocess.run(
        [*command, str(work.records), str(work.partitions)],
        env=environment,
        stdout=subprocess.PIPE,
        timeout=_TIMEOUT_SECONDS,
        check=True,
    )
    measured: dict[str, float] = json.loads(done.stdout)
    return measured
