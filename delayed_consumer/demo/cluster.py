"""What `demo --crash` needs of a real cluster: topics of its own, deleted at the end, and a reader of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from delayed_consumer.errors import UnreachableError
from delayed_consumer.origin import PREFIX
from delayed_consumer.probe import Probe
from delayed_consumer.probe.connection import ClientProperties, silent_logger

PARTITIONS = 4
TIMEOUT_S = 30.0

Arrival = tuple[int, int, float]
"""Partition and offset of a record, and when it was delivered."""


class RealCluster:
    """A cluster that others use too; the topics made here are deleted at the end.

    Every method raises AuthError, UnreachableError or ConfigError when the brokers do not do what they are asked.
    """

    def __init__(self, client_config: ClientProperties) -> None:
        self._config = client_config
        self.bootstrap_servers = str(client_config["bootstrap.servers"])
        self._topics: list[str] = []
        self._probe = Probe(client_config, timeout_s=TIMEOUT_S)
        self._producer = Producer({**client_config, "enable.idempotence": True}, logger=silent_logger())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """What cannot be deleted stays: its name says whose it was. Groups whose topics are gone go by themselves."""
        self._probe.close()
        admin = AdminClient(dict(self._config), logger=silent_logger())
        for deleted in admin.delete_topics(self._topics).values() if self._topics else ():
            with suppress(KafkaException):
                deleted.result(TIMEOUT_S)

    def create_topic(self, name: str) -> int:
        """Returns the number of its partitions."""
        self._topics.append(name)
        self._probe.create_topic(name, PARTITIONS, {})
        return PARTITIONS

    def produce(self, topic: str, value: bytes, *, partition: int, timestamp_ms: int) -> None:
        self._producer.produce(topic, value, partition=partition, timestamp=timestamp_ms)
        self._producer.poll(0)

    def flush(self) -> None:
        """Waits until all that was produced is acknowledged."""
        self._producer.flush(TIMEOUT_S)

    def reader(self, topic: str, isolation: Literal["read_committed", "read_uncommitted"]) -> RelayReader:
        return RelayReader(self._config, topic, isolation)


class RelayReader:
    """Reads what SINK=topic wrote, from the start, as a consumer with this ``isolation.level`` sees it."""

    def __init__(self, client_config: ClientProperties, topic: str, isolation: str) -> None:
        self._consumer = Consumer(
            {
                **client_config,
                "group.id": topic,  # never joined, and nothing is committed
                "enable.auto.commit": False,
                "isolation.level": isolation,
                "enable.partition.eof": True,
            },
            logger=silent_logger(),
        )
        self._unread = set(range(PARTITIONS))
        self._consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])

    def close(self) -> None:
        self._consumer.close()

    def arrivals(self) -> Iterator[Arrival]:
        """What has come since the last call."""
        return self._taken(self._consumer.consume(1_000, 0))

    def to_the_end(self) -> Iterator[Arrival]:
        """All that is there. Raises UnreachableError when that cannot be read."""
        give_up = time.monotonic() + TIMEOUT_S
        while self._unread:
            yield from self._taken(self._consumer.consume(1_000, 0.1))
            if time.monotonic() > give_up:
                raise UnreachableError("the brokers do not give back what was written to them")

    def _taken(self, messages: list[Message]) -> Iterator[Arrival]:
        for message in messages:
            error = message.error()
            if error is None:
                source = dict(message.headers() or [])
                partition, offset = (int(source[PREFIX + name] or b"") for name in ("partition", "offset"))
                yield partition, offset, float(message.timestamp()[1])
            elif error.code() == KafkaError._PARTITION_EOF:
                self._unread.discard(int(message.partition() or 0))
