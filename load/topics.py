"""Topics to measure with: made, filled and weighed."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

_TIMEOUT_SECONDS = 20.0
ERRORS_ONLY = 3  # of the syslog levels: a coordinator that is still loading is no news


def create_topic(bootstrap: str, name: str, partitions: int, config: Mapping[str, str] | None = None) -> str:
    """Creates a topic with a name of its own that begins with ``name``; returns the full name."""
    full_name = f"{name}-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": ERRORS_ONLY})
    topic = NewTopic(full_name, num_partitions=partitions, config=dict(config or {}))
    admin.create_topics([topic])[full_name].result(_TIMEOUT_SECONDS)
    return full_name


def end_offsets(bootstrap: str, topic: str, partitions: int) -> list[int]:
    """The end of the log of each partition."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "end-offsets", "log_level": ERRORS_ONLY})
    try:
        return [_end_offset(consumer, TopicPartition(topic, number)) for number in range(partitions)]
    finally:
        consumer.close()


def _end_offset(consumer: Consumer, partition: TopicPartition) -> int:
    """Of a partition that may be so new that its leader does not know it yet."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while True:
        try:
            return consumer.get_watermark_offsets(partition, timeout=_TIMEOUT_SECONDS)[1]
        except KafkaException as error:
            if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def log_bytes(data_directory: Path, topic: str) -> int:
    """How large the topic's log is on the broker's disk."""
    return sum(segment.stat().st_size for segment in data_directory.glob(f"{topic}-*/*.log"))
