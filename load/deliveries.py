"""What came out of the service, read where a user reads it: its stdout or the target topic."""

from __future__ import annotations

import fcntl
import os
import sys
import threading
import time
from collections import deque
from typing import IO, Any, cast

import orjson
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from load.oracle import Delivered, Key
from load.quantiles import quantile

_PIPE_BYTES = 1024 * 1024
_RECENT = 1000
_HEADER_PREFIX = "delayed-consumer."


class Deliveries:
    """Columns of what was delivered, by partition. One thread adds, others look."""

    def __init__(self) -> None:
        self.by_partition: dict[Key, Delivered] = {}
        self.count = 0
        self.first_arrived_ms: float | None = None
        self.last_arrived_ms: float | None = None
        self._recent_ms: deque[float] = deque(maxlen=_RECENT)

    def add(self, key: Key, offset: int, due_ms: int, delivered_ms: float, arrived_ms: float) -> None:
        column = self.by_partition.get(key)
        if column is None:
            column = self.by_partition[key] = Delivered()
        column.add(offset, due_ms, delivered_ms, arrived_ms)
        self._recent_ms.append(delivered_ms - due_ms)
        self.count += 1
        self.last_arrived_ms = arrived_ms
        if self.first_arrived_ms is None:
            self.first_arrived_ms = arrived_ms

    def recent_lateness_ms(self) -> float:
        """The median of the last deliveries; nan when there are none."""
        return quantile(sorted(self._recent_ms.copy()), 0.5)


class LineReader(threading.Thread):
    """Reads the JSON lines of SINK=log from a pipe until it is closed.

    A last line without its end is what a killed process had not finished: it was not delivered.
    """

    def __init__(self, pipe: IO[bytes], deliveries: Deliveries) -> None:
        super().__init__(name="line-reader", daemon=True)
        self._descriptor = pipe.fileno()
        self._deliveries = deliveries
        self.error: Exception | None = None
        if sys.platform == "linux":  # a large pipe: a late reader must not slow down what it measures
            fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def run(self) -> None:
        try:
            self._read()
        except Exception as error:  # a line that is no record; handed to the thread that waits
            self.error = error

    def _read(self) -> None:
        rest = b""
        while chunk := os.read(self._descriptor, _PIPE_BYTES):
            arrived_ms = time.time() * 1000
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            for line in lines:
                self._take(orjson.loads(line), arrived_ms)

    def _take(self, record: dict[str, Any], arrived_ms: float) -> None:
        key = (record["topic"], record["partition"])
        self._deliveries.add(key, record["offset"], record["due_ms"], record["delivered_ms"], arrived_ms)


class TopicReader(threading.Thread):
    """Reads the target topic of SINK=topic, committed records only; stops when told.

    Where a record came from is in its headers, when it was delivered is its timestamp (whole milliseconds).
    """

    def __init__(self, bootstrap: str, topic: str, partitions: int, delay_ms: int, deliveries: Deliveries) -> None:
        super().__init__(name="topic-reader", daemon=True)
        self._delay_ms = delay_ms
        self._deliveries = deliveries
        self._furthest_due_ms: dict[Key, int] = {}
        self._stopped = threading.Event()
        self.error: Exception | None = None
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "load-reader", "isolation.level": "read_committed"}
        )
        self._consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])

    def run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._read()
        except Exception as error:  # handed to the thread that waits
            self.error = error
        finally:
            self._consumer.close()

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def _read(self) -> None:
        first = self._consumer.poll(0.1)
        if first is None:
            return
        arrived_ms = time.time() * 1000
        for message in [first, *self._consumer.consume(500, 0)]:
            error = message.error()
            if error is not None:
                raise KafkaException(error)
            self._take(message, arrived_ms)

    def _take(self, message: Message, arrived_ms: float) -> None:
        source = _source(message)
        key = source["topic"], int(source["partition"])
        due_ms = max(int(source["timestamp"]) + self._delay_ms, self._furthest_due_ms.get(key, 0))
        self._furthest_due_ms[key] = due_ms
        self._deliveries.add(key, int(source["offset"]), due_ms, message.timestamp()[1], arrived_ms)


def _source(message: Message) -> dict[str, str]:
    """The headers that the service appended, without their prefix."""
    headers = cast("list[tuple[str, bytes]]", message.headers() or [])
    return {
        name.removeprefix(_HEADER_PREFIX): value.decode() for name, value in headers if name.startswith(_HEADER_PREFIX)
    }
