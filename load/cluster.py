"""Where a measurement takes place: a broker of our own, or the one the user named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from load.broker import Broker, available
from load.progress import say
from load.topics import log_bytes

_DEFAULT_PORT = 9092
_RECORD_OVERHEAD_BYTES = 9  # its length, attributes, deltas, and the lengths of key, value and headers
_BATCH_OVERHEAD_BYTES = 61


class NoBrokerError(Exception):
    """No broker can be started here. The message says why."""


@dataclass(frozen=True)
class Cluster:
    bootstrap: str
    data_directory: Path | None  # of our own broker

    @property
    def port(self) -> int:
        """Of the first broker named."""
        port = self.bootstrap.split(",")[0].rpartition(":")[2]
        return int(port) if port.isdigit() else _DEFAULT_PORT

    def log_bytes(self, topic: str, records: int, size_bytes: int, batch_records: int) -> float:
        """How large the topic's log is: on our own broker's disk, else estimated."""
        if self.data_directory is not None:
            return float(log_bytes(self.data_directory, topic))
        return records * (size_bytes + _RECORD_OVERHEAD_BYTES + _BATCH_OVERHEAD_BYTES / batch_records)

    def environment(self, topic: str, delay_seconds: float) -> dict[str, str]:
        """The settings every measurement has; the group is as new as the topic."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "KAFKA_TOPICS": topic,
            "KAFKA_GROUP_ID": topic,
            "DELAY_SECONDS": str(delay_seconds),
        }


@contextmanager
def cluster(bootstrap: str | None) -> Iterator[Cluster]:
    """The cluster at ``bootstrap``, or one started for the purpose.

    Raises:
        NoBrokerError: neither is to be had.
    """
    if bootstrap is not None:
        yield Cluster(bootstrap, None)
        return
    reason = available()
    if reason is not None:
        raise NoBrokerError(f"{reason} Or name a cluster with --bootstrap.")
    say("starting Apache Kafka ...")
    with Broker() as broker:
        yield Cluster(broker.bootstrap, broker.data_directory)
