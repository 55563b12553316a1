"""Reads single records, for their timestamps."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from delayed_consumer.backlog import RecordTime
from delayed_consumer.core.records import Partition
from delayed_consumer.probe.connection import ClientProperties, Connection, is_denial

_TURN_S = 0.05

_PROPERTIES: ClientProperties = {
    "group.id": "delayed-consumer-probe",  # the client wants one; nobody joins it
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    "auto.offset.reset": "earliest",  # what was deleted meanwhile is skipped
    "allow.auto.create.topics": False,
    "fetch.message.max.bytes": 16_384,
    "fetch.queue.backoff.ms": 2,  # 1000 by default, which is how long the next question would take
    "fetch.wait.max.ms": 10,
    "queued.min.messages": 1,
}


class RecordReader:
    """A consumer outside every group, which commits nothing."""

    def __init__(self, properties: ClientProperties, connection: Connection, logger: logging.Logger) -> None:
        self._connection = connection
        self._consumer = Consumer({**properties, **_PROPERTIES, "error_cb": connection.on_error}, logger=logger)

    def first_records(self, offsets: Mapping[Partition, int], timeout_s: float) -> dict[Partition, RecordTime | None]:
        """The first committed record at or after each offset, None where the log ends before one.

        A partition that does not answer in time is left out.

        Raises:
            AuthError: a topic may not be read.
        """
        self._consumer.incremental_assign([TopicPartition(*partition, offset) for partition, offset in offsets.items()])
        found: dict[Partition, RecordTime | None] = {}
        left = set(offsets)
        deadline = time.monotonic() + timeout_s
        while left and time.monotonic() < deadline:
            message = self._consumer.poll(_TURN_S)
            self._connection.raise_if_denied()
            if message is None or (partition := _partition_of(message)) not in left:
                continue
            self._note(partition, message, found)
            left.discard(partition)
            # At once: its further records would fill the queue and keep the others from being fetched.
            self._consumer.incremental_unassign([TopicPartition(*partition)])
        self._consumer.incremental_unassign([TopicPartition(*partition) for partition in left])
        return found

    def close(self) -> None:
        self._consumer.close()

    def _note(self, partition: Partition, message: Message, found: dict[Partition, RecordTime | None]) -> None:
        error = message.error()
        if error is None:
            found[partition] = RecordTime(int(message.offset() or 0), message.timestamp()[1])
        elif error.code() == KafkaError._PARTITION_EOF:
            found[partition] = None
        elif is_denial(error):
            raise self._connection.translated(error, f"the topic {partition.topic}")


def _partition_of(message: Message) -> Partition:
    return Partition(str(message.topic()), int(message.partition() or 0))
