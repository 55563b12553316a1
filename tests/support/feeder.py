"""Writes records into a topic all the time, as life does."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from confluent_kafka import Producer

from tests.support.topics import Record, Topic, now_ms, send

_TURN_SECONDS = 0.02
_FLUSH_SECONDS = 20.0


class Feeder(threading.Thread):
    """``rate`` records a second on all partitions in turn, stamped with the time they are written.

    It runs while its ``with`` block does; then all that it wrote is acknowledged.
    """

    def __init__(self, topic: Topic, rate: float) -> None:
        super().__init__(name="feeder", daemon=True)
        self._topic = topic
        self._rate = rate
        self._stopped = threading.Event()
        self._producer = Producer({"bootstrap.servers": topic.bootstrap, "linger.ms": 1, "log_level": 0})

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self.join()
        assert self._producer.flush(_FLUSH_SECONDS) == 0

    def run(self) -> None:
        written, begun_ms = 0, now_ms()
        while not self._stopped.wait(_TURN_SECONDS):
            at_ms = now_ms()
            wanted = int((at_ms - begun_ms) / 1000 * self._rate)
            send(
                self._producer,
                self._topic,
                [Record(at_ms, partition=number % self._topic.partitions) for number in range(written, wanted)],
            )
            written = max(written, wanted)
