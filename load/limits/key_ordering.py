"""Whether all workers are kept busy while records of one key wait for each other."""

from __future__ import annotations

import random

from load.backlog import backlog
from load.checks import Check, Section, at_least
from load.cluster import Cluster
from load.limits.contest import Contestant, Work, figures
from load.limits.handler_functions import SLEEP_SECONDS
from load.limits.handlers import python_sink
from load.progress import say

_KEYS = 100
_SECONDS = 6  # as long as the workers would take if none ever waited
_WORKERS = (16, 32)
_LEAST_SHARE = 0.8


def key_ordering(cluster: Cluster, seed: int) -> Section:
    """One partition, each record's key drawn at random (of ``seed``)."""
    handler = f"a handler of {SLEEP_SECONDS * 1000:g} ms"
    section = Section(f"key-ordering: ORDERING=key, {_KEYS} keys in one partition, {handler}, seed {seed}")
    for workers in _WORKERS:
        section.checks.extend(_reached(cluster, workers, random.Random(seed)))
    return section


def _reached(cluster: Cluster, workers: int, rng: random.Random) -> list[Check]:
    possible = workers / SLEEP_SECONDS
    records = round(_SECONDS * possible)
    say(f"key-ordering: {workers} workers ...")
    topic, _ = backlog(cluster, "keys", records, 200, 1, keys=lambda: b"%d" % rng.randrange(_KEYS))
    settings = {**python_sink("sleep"), "ORDERING": "key", "SINK_CONCURRENCY": str(workers)}
    rate = records / figures(Work(cluster, topic, records, 1), Contestant("service", settings))["seconds"]
    return [
        Check(f"{workers} workers", rate, "records/s"),
        at_least(f"{workers} workers: share of {possible:,.0f} records/s", rate / possible, _LEAST_SHARE),
    ]
