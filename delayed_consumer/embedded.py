"""librdkafka's cluster inside the process, for the demo and the tests: no Java, no network, no disk."""

from __future__ import annotations

from confluent_kafka import Producer

TIMEOUT_S = 10


class EmbeddedCluster:
    """A broker on 127.0.0.1 that lives as long as this object.

    It keeps 5 MB a partition and then drops the oldest records silently, makes topics of four partitions on
    first use, and has no admin calls, no lookup by timestamp and no transactions (librdkafka 2.16).
    """

    def __init__(self) -> None:
        # log_level 3: it would say on stderr that it replaces the bootstrap servers.
        self._owner = Producer({"test.mock.num.brokers": 1, "log_level": 3})
        brokers = self._owner.list_topics(timeout=TIMEOUT_S).brokers.values()
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    def create_topic(self, name: str) -> int:
        """Makes the topic by asking for it. Returns the number of its partitions."""
        return len(self._owner.list_topics(name, timeout=TIMEOUT_S).topics[name].partitions)

    def produce(self, topic: str, value: bytes, *, partition: int, timestamp_ms: int, key: bytes | None = None) -> None:
        self._owner.produce(topic, value, key=key, partition=partition, timestamp=timestamp_ms)
        self._owner.poll(0)

    def flush(self) -> None:
        """Waits until all that was produced is acknowledged."""
        self._owner.flush(TIMEOUT_S)
