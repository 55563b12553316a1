"""Topics with names of their own, filled with records whose timestamps are chosen."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are public, but not marked so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)
from confluent_kafka.cimpl import NewTopic

from load.oracle import Key, Written
from tests.support.wait import wait_until

_TIMEOUT_SECONDS = 20.0
_QUIET = {"log_level": 0}  # a broker that a test stops is no news

Headers = list[tuple[str, bytes | None]]


@dataclass(frozen=True)
class Record:
    """What is produced; ``timestamp_ms`` 0 lets the client take the time."""

    timestamp_ms: int = 0
    value: bytes | None = b"value"
    key: bytes | None = None
    headers: Headers = field(default_factory=list)
    partition: int = 0


@dataclass
class Topic:
    """An existing topic, and what was acknowledged of it."""

    bootstrap: str
    name: str
    partitions: int
    records: dict[tuple[int, int], Record] = field(default_factory=dict)
    """By partition and offset, in the order of their acknowledgement."""

    def produce(self, *records: Record, **properties: Any) -> None:
        """Waits until all are acknowledged. ``properties`` are the producer's, with underscores for dots."""
        extra = {name.replace("_", "."): value for name, value in properties.items()}
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5, **_QUIET, **extra})
        send(producer, self, records)
        assert producer.flush(_TIMEOUT_SECONDS) == 0

    def delete(self) -> None:
        """Returns when the brokers no longer list it."""
        client = admin(self.bootstrap)
        client.delete_topics([self.name])[self.name].result(_TIMEOUT_SECONDS)
        wait_until(lambda: self.name not in client.list_topics(timeout=_TIMEOUT_SECONDS).topics)

    def set_config(self, name: str, value: str) -> None:
        """Returns when the brokers have the new value."""
        client = admin(self.bootstrap)
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, self.name, incremental_configs=[entry])
        client.incremental_alter_configs([resource])[resource].result(_TIMEOUT_SECONDS)
        asked = ConfigResource(ConfigResource.Type.TOPIC, self.name)
        wait_until(lambda: client.describe_configs([asked])[asked].result(_TIMEOUT_SECONDS)[name].value == value)

    @property
    def written(self) -> dict[Key, Written]:
        """As the oracle wants it."""
        columns: dict[Key, Written] = {(self.name, number): Written() for number in range(self.partitions)}
        for (number, offset), record in self.records.items():
            columns[self.name, number].add(offset, record.timestamp_ms)
        return columns


def send(producer: Producer, topic: Topic, records: Iterable[Record]) -> None:
    """Hands records to a producer of the test's own; ``topic`` notes each when it is acknowledged."""
    for record in records:

        def acknowledged(error: KafkaError | None, message: Message, record: Record = record) -> None:
            assert error is None, error
            topic.records[int(message.partition() or 0), int(message.offset() or 0)] = record

        producer.produce(
            topic.name,
            value=record.value,
            key=record.key,
            partition=record.partition,
            timestamp=record.timestamp_ms,
            headers=list(record.headers),
            on_delivery=acknowledged,
        )
        producer.poll(0)


def now_ms() -> int:
    return int(time.time() * 1000)


def unique(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def admin(bootstrap: str) -> AdminClient:
    """To be kept referenced until its futures are done."""
    return AdminClient({"bootstrap.servers": bootstrap, **_QUIET})


def create_topic(
    bootstrap: str, partitions: int = 1, config: Mapping[str, str] | None = None, name: str | None = None
) -> Topic:
    """A new topic, under a name of its own unless one is given."""
    name = name or unique("topic")
    client = admin(bootstrap)
    new = NewTopic(name, num_partitions=partitions, config=dict(config or {}))
    client.create_topics([new])[name].result(_TIMEOUT_SECONDS)
    return Topic(bootstrap, name, partitions)


def committed(topic: Topic, group: str | None = None) -> dict[int, int | None]:
    """The group's committed offset per partition, None without one; the group is called as the topic by default."""
    consumer = Consumer({"bootstrap.servers": topic.bootstrap, "group.id": group or topic.name, **_QUIET})
    try:
        asked = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        answers = consumer.committed(asked, timeout=_TIMEOUT_SECONDS)
        return {one.partition: one.offset if one.offset >= 0 else None for one in answers}
    finally:
        consumer.close()


def read_all(
    topic: Topic, count: int, idle_seconds: float = _TIMEOUT_SECONDS, isolation: str = "read_committed"
) -> list[Message]:
    """At most ``count`` messages from the start of the topic, as a reader of its own sees them: committed ones.

    Fewer when nothing has come for ``idle_seconds``.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": topic.bootstrap,
            "group.id": unique("reader"),
            "isolation.level": isolation,
            **_QUIET,
        }
    )
    try:
        consumer.assign([TopicPartition(topic.name, number, 0) for number in range(topic.partitions)])
        messages: list[Message] = []
        while len(messages) < count:
            message = consumer.poll(idle_seconds)
            if message is None:
                break
            messages += [message, *consumer.consume(count - len(messages) - 1, 0)]
        return messages
    finally:
        consumer.close()
