"""A topic full of records that fall due at one moment."""

from __future__ import annotations

import time
from collections.abc import Callable

from load.cluster import Cluster
from load.producer import TopicWriter
from load.topics import create_topic

_BATCH_RECORDS = 10_000
DELAY_SECONDS = 900.0
ALREADY_DUE_MS = -1000.0


def backlog(
    cluster: Cluster,
    name: str,
    records: int,
    size_bytes: int,
    partitions: int,
    due_in_ms: float = ALREADY_DUE_MS,
    keys: Callable[[], bytes | None] = lambda: None,
) -> tuple[str, TopicWriter]:
    """Writes ``records`` records, spread evenly, that are due ``due_in_ms`` from now with a delay of DELAY_SECONDS.

    ``keys`` gives each its key. Returns the topic and what was written.
    """
    topic = create_topic(cluster.bootstrap, f"load-{name}", partitions)
    writer = TopicWriter(cluster.bootstrap, topic, partitions, size_bytes, _BATCH_RECORDS)
    timestamp_ms = round(time.time() * 1000 + due_in_ms - DELAY_SECONDS * 1000)
    for index in range(records):
        writer.write(index % partitions, timestamp_ms, keys())
    writer.close()
    return topic, writer
