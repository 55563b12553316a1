"""The topic of a case: written once, read by every contender in every round.

Its timestamps are fixed. A contender's delay is chosen when it starts, such that the first record falls due some
seconds later: that is how all of them read the very same log.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from itertools import islice

from load.cluster import Cluster
from load.compare.cases import Case
from load.oracle import Key, Written
from load.producer import TopicWriter
from load.topics import create_topic

_DELAY_MS = 900_000
_DUE_FOR_MS = 1000  # what a backlog is overdue when it is written
_TAIL_BATCH_RECORDS = 100  # single ones would take minutes to write


@dataclass(frozen=True)
class Schedule:
    """With a contender's delay: when the log's records fall due. Those within ``[from_ms, until_ms)`` are measured."""

    delay_ms: int
    first_due_ms: float
    from_ms: float
    until_ms: float

    def measures(self, due_ms: float) -> bool:
        return self.from_ms <= due_ms < self.until_ms


@dataclass(frozen=True)
class Log:
    """A case's topic, and what was written into it."""

    case: Case
    topic: str
    first_timestamp_ms: int
    written: dict[Key, Written]
    size_bytes: float  # on the broker's disk

    def schedule(self, ahead_seconds: float) -> Schedule:
        """The first record falls due ``ahead_seconds`` from now; a backlog is due already."""
        if self.case.is_catch_up:
            return Schedule(_DELAY_MS, self.first_timestamp_ms + _DELAY_MS, -math.inf, math.inf)
        first_due_ms = math.ceil((time.time() + ahead_seconds) * 1000)
        from_ms = first_due_ms + self.case.warm_up_seconds * 1000
        until_ms = from_ms + self.case.seconds * 1000
        return Schedule(first_due_ms - self.first_timestamp_ms, first_due_ms, from_ms, until_ms)


def write_log(cluster: Cluster, case: Case, age_ms: int = _DELAY_MS + _DUE_FOR_MS) -> Log:
    """Fills a new topic: what is measured in the batches that the case names, the tail in larger ones.

    ``age_ms``: how old the first record is when it is written; negative if its timestamp has yet to come.
    """
    topic = create_topic(cluster.bootstrap, "load-compare", case.partitions, {"retention.ms": "-1"})
    first_ms = round(time.time() * 1000) - age_ms
    slots = case.slots()
    written: dict[Key, Written] = {(topic, number): Written() for number in range(case.partitions)}
    for records, batch_records in ((case.records_until_the_end, case.batch_records), (None, _TAIL_BATCH_RECORDS)):
        writer = TopicWriter(cluster.bootstrap, topic, case.partitions, case.size_bytes, batch_records, case.codec)
        writer.written = written
        for slot in islice(slots, records):
            writer.write(slot.partition, first_ms + round(slot.due_after_ms))
        writer.close()
    size_bytes = cluster.log_bytes(topic, case.records, case.size_bytes, case.batch_records)
    return Log(case, topic, first_ms, written, size_bytes)
