"""What is left of an HTTP library's speed when the service posts with it."""

from __future__ import annotations

from load.backlog import backlog
from load.checks import Check, Section, at_least
from load.cluster import Cluster
from load.limits.bare import THREADS
from load.limits.contest import Contestant, Work, median_rates
from load.limits.http_server import http_server
from load.progress import say

_RECORDS = 20_000
_PARTITIONS = 4
_ALONE, _SINK = f"urllib3 alone, {THREADS} threads", f"SINK=http, SINK_CONCURRENCY={THREADS}, ORDERING=none"
_LEAST_SHARE = 0.7


def http(cluster: Cluster) -> Section:
    say(f"http: writing {_RECORDS:,} records of 200 B ...")
    topic, _ = backlog(cluster, "http", _RECORDS, 200, _PARTITIONS)
    with http_server() as url:
        settings = {"SINK": "http", "SINK_URL": url, "SINK_CONCURRENCY": str(THREADS), "ORDERING": "none"}
        median = median_rates(
            Work(cluster, topic, _RECORDS, _PARTITIONS),
            {_ALONE: Contestant("bare-posts", {"SINK_URL": url}), _SINK: Contestant("service", settings)},
        )
    return Section(
        f"http: {_RECORDS:,} due records of 200 B in {_PARTITIONS} partitions, a server on this machine",
        [
            *(Check(name, rate, "requests/s") for name, rate in median.items()),
            at_least("the sink / urllib3 alone", median[_SINK] / median[_ALONE], _LEAST_SHARE),
        ],
    )
