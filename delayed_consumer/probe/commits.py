"""Reads what a group has committed."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection

from confluent_kafka import Consumer, KafkaException, TopicPartition

from delayed_consumer.core.records import Partition
from delayed_consumer.probe.connection import ClientProperties, Connection, is_denial

_TURN_S = 0.5  # a coordinator that moves is found again in the next one


def committed_offsets(
    properties: ClientProperties,
    connection: Connection,
    logger: logging.Logger,
    group: str,
    partitions: Collection[Partition],
    timeout_s: float,
) -> dict[Partition, int | None]:
    """The committed offsets, None for a partition without one. Joins nothing.

    Not by AdminClient.list_consumer_group_offsets: where the broker asked is not, or no longer, the group's
    coordinator, it crashes the process (librdkafka#5040, seen with 2.16 on every cluster just started).
    """
    consumer = Consumer({**properties, "group.id": group, "error_cb": connection.on_error}, logger=logger)
    asked = [TopicPartition(*partition) for partition in partitions]
    deadline = time.monotonic() + timeout_s
    try:
        while True:
            try:
                return _by_partition(consumer.committed(asked, timeout=min(_TURN_S, timeout_s)))
            except KafkaException as failure:
                # A coordinator's refusal comes as a message; the question itself just gets no answer.
                message = consumer.poll(0)
                error = (message.error() if message is not None else None) or failure.args[0]
                connection.raise_if_denied()
                if is_denial(error) or time.monotonic() > deadline:
                    raise connection.translated(error, f"the group {group}") from failure
    finally:
        consumer.close()


def _by_partition(answers: Collection[TopicPartition]) -> dict[Partition, int | None]:
    return {Partition(one.topic, one.partition): one.offset if one.offset >= 0 else None for one in answers}
