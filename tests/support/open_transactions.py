"""Transactions that nobody has ended yet, as the brokers see them."""

from __future__ import annotations

import signal
from collections.abc import Collection

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # it is public, but not marked so

from tests.support.service import ServiceProcess
from tests.support.topics import Topic, admin, now_ms
from tests.support.wait import wait_until

# What was sent before a freeze is answered within this; a transaction of a service that runs takes some 10 ms.
_SETTLED_MS = 300


def held_back(topic: Topic) -> dict[int, int]:
    """By partition: the offset from which readers of committed records wait for the end of a transaction."""
    client = admin(topic.bootstrap)
    end = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    latest = {TopicPartition(topic.name, number): end for number in range(topic.partitions)}
    ends, committed_ends = (
        {
            one.partition: future.result(20).offset
            for one, future in client.list_offsets(latest, isolation_level=level).items()
        }
        for level in (IsolationLevel.READ_UNCOMMITTED, IsolationLevel.READ_COMMITTED)
    )
    return {number: offset for number, offset in committed_ends.items() if offset < ends[number]}


def freeze_within_transaction(service: ServiceProcess, topic: Topic) -> None:
    """SIGSTOP, at a moment when the service has records of ``topic`` in a transaction that is not ended.

    Those of its own partitions go to the same partitions there. Frozen at a moment between two transactions it is let
    go, and another moment is tried.
    """

    def frozen() -> bool:
        partitions = service.partitions().keys()
        if not partitions:
            return False  # between two partitions' owners, perhaps for the last freeze
        service.signal(signal.SIGSTOP)
        if stays_open(topic, partitions):
            return True
        service.signal(signal.SIGCONT)
        return False

    wait_until(frozen, what=f"a moment within a transaction that writes to {topic.name}")


def stays_open(topic: Topic, partitions: Collection[int]) -> bool:
    """Whether one that has records in ``partitions`` is not ended in the time in which any other is."""
    first = {number: offset for number, offset in held_back(topic).items() if number in partitions}
    if not first:
        return False
    again_ms = now_ms() + _SETTLED_MS
    wait_until(lambda: now_ms() > again_ms)
    return bool(first.items() & held_back(topic).items())
