"""Those that `catchup` compares, each run in a process of its own: prints the seconds from first record to last."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Collection, Mapping

from confluent_kafka import Consumer, TopicPartition

from delayed_consumer.app import Service
from delayed_consumer.cli import favour_the_loop
from delayed_consumer.core.engine import InFlightLimit
from delayed_consumer.core.records import Partition, Run
from delayed_consumer.settings import Settings
from delayed_consumer.sinks import Outcome


def bare_with_defaults(records: int, partitions: int) -> float:
    """Reads and forgets, with the client's own settings."""
    return _bare(records, partitions, {})


def bare(records: int, partitions: int) -> float:
    """Reads and forgets, without the second's rest that the client's default takes whenever its queue is full."""
    return _bare(records, partitions, {"fetch.queue.backoff.ms": 20})


def _bare(records: int, partitions: int, tuned: Mapping[str, int]) -> float:
    topic = os.environ["KAFKA_TOPICS"]
    named = {"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"], "group.id": os.environ["KAFKA_GROUP_ID"]}
    consumer = Consumer({**named, **tuned})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
    while consumer.poll(0.1) is None:
        pass
    begun = time.perf_counter()
    read = 1
    while read < records:
        if consumer.poll(0.1) is not None:
            read += 1 + len(consumer.consume(500, 0))
    seconds = time.perf_counter() - begun
    consumer.close()
    return seconds


class NothingSink:
    """Is done with everything at once; calls ``at_the_end`` with the last of ``records``."""

    in_flight_limit = InFlightLimit(runs=64, records_per_run=500)

    def __init__(self, records: int, at_the_end: Callable[[], None]) -> None:
        self._left = records
        self._at_the_end = at_the_end
        self._ended: list[Outcome] = []
        self._begun = 0.0
        self.seconds = 0.0

    def deliver(self, run: Run, delivered_ms: float) -> None:  # noqa: ARG002
        self._begun = self._begun or time.perf_counter()
        self._ended.append(Outcome(run, len(run)))
        self._left -= len(run)
        if self._left <= 0:
            self.seconds = time.perf_counter() - self._begun
            self._at_the_end()

    def outcomes(self) -> list[Outcome]:
        ended, self._ended = self._ended, []
        return ended

    def forget(self, _: Collection[Partition]) -> list[Run]:
        """All that it was handed it is done with."""
        return []

    def close(self) -> None:
        self._ended.clear()


def core(records: int, _: int) -> float:
    """The whole service but for its sink."""
    service: Service
    sink = NothingSink(records, lambda: service.stop())
    service = Service(Settings(), sink=lambda _, __: sink)
    service.run()
    return sink.seconds


CONTESTANTS = {"bare-with-defaults": bare_with_defaults, "bare": bare, "core": core}


def main() -> None:
    contestant, records, partitions = sys.argv[1:]
    favour_the_loop()  # as the command line does for the service, and so for both
    seconds = CONTESTANTS[contestant](int(records), int(partitions))
    sys.stdout.write(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
