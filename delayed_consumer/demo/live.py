"""`delayed-consumer demo`: the service itself on an embedded broker, with records that arrive late on purpose."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import orjson

from delayed_consumer.app import Service
from delayed_consumer.demo.tally import Tally
from delayed_consumer.demo.view import Frame, View
from delayed_consumer.embedded import EmbeddedCluster
from delayed_consumer.errors import ConfigError, ExitCode
from delayed_consumer.settings import Settings
from delayed_consumer.sinks.log import LogSink

TOPIC = "orders"
MOST_RECORDS = 50_000  # the embedded broker keeps 5 MB a partition and drops the oldest silently
JOIN_TIMEOUT_SECONDS = 15.0
FINISH_TIMEOUT_SECONDS = 10.0
FRAME_SECONDS = 0.25


class Demo:
    """One run: an embedded cluster, a producer, and a service whose output is read back."""

    def __init__(self, seconds: float, rate: float, delay_seconds: float) -> None:
        """Raises ConfigError when the embedded broker could not keep the records."""
        if seconds * rate > MOST_RECORDS:
            raise ConfigError([f"--seconds times --rate is more than {MOST_RECORDS:,} records; lower one of them"])
        self._seconds = seconds
        self._rate = rate
        self._delay_ms = round(delay_seconds * 1000)
        self._cluster = EmbeddedCluster()
        self._partitions = self._cluster.create_topic(TOPIC)
        self._sent = [0] * self._partitions
        self._tally = Tally()
        self._stopped = threading.Event()
        self._failure: Exception | None = None

    def run(self, view: View) -> int:
        """Returns the exit code: OK when nothing was early, lost or repeated."""
        with self._service() as service:
            if not self._joined(service):
                raise self._failure or ConfigError(["the demo's service did not join its group"])
            producer = threading.Thread(target=self._produce, name="demo-producer")
            producer.start()
            started = time.monotonic()
            try:
                while self._failure is None and not self._finished(started, producer):
                    view.show(self._frame(service, time.monotonic() - started))
                    time.sleep(FRAME_SECONDS)
            except KeyboardInterrupt:
                view.interrupted()
            finally:
                self._stopped.set()
                producer.join()
            view.show(self._frame(service, time.monotonic() - started))
        if self._failure is not None:
            raise self._failure
        totals = service.metrics.totals()
        view.summary(self._tally, pauses=totals["pauses"], resumes=totals["resumes"])
        wrong = self._tally.early or self._tally.repeated or self._tally.lost
        return ExitCode.GAVE_UP if wrong else ExitCode.OK

    @contextmanager
    def _service(self) -> Iterator[Service]:
        """The service on a thread of its own, its log sink writing into a pipe that is read here."""
        read_end, write_end = os.pipe()
        settings = Settings(
            {},
            kafka_bootstrap_servers=self._cluster.bootstrap_servers,
            kafka_topics=[TOPIC],
            delay_seconds=self._delay_ms / 1000,
            http_port=0,
        )
        service = Service(settings, sink=lambda _: LogSink(write_end))
        reader = threading.Thread(target=self._read_back, args=(read_end,), name="demo-reader")
        runner = threading.Thread(target=self._run, args=(service,), name="demo-service")
        reader.start()
        runner.start()
        try:
            yield service
        finally:
            service.stop()
            runner.join()
            os.close(write_end)
            reader.join()

    def _run(self, service: Service) -> None:
        try:
            service.run()
        except Exception as error:  # shown by the main thread
            self._failure = error

    def _read_back(self, read_end: int) -> None:
        with os.fdopen(read_end, "rb") as lines:
            for line in lines:
                record = orjson.loads(line)
                self._tally.arrive(record["partition"], record["offset"], record["delivered_ms"])

    def _joined(self, service: Service) -> bool:
        give_up = time.monotonic() + JOIN_TIMEOUT_SECONDS
        while time.monotonic() < give_up and self._failure is None:
            if service.board.ask(FRAME_SECONDS).ready:
                return True
        return False

    def _produce(self) -> None:
        """A steady partition, one with bursts, one with a record now and then, and one that gets a single record."""
        rng = random.Random(1)  # noqa: S311 - the same demo every time
        started = time.monotonic()
        for number in range(int(self._seconds * self._rate)):
            if self._stopped.wait(max(0.0, started + number / self._rate - time.monotonic())):
                break
            self._send(self._pick_partition(number, time.monotonic() - started, rng))
        self._cluster.flush()

    def _pick_partition(self, number: int, elapsed: float, rng: random.Random) -> int:
        if number == 0:
            return 3 % self._partitions
        if elapsed % 8 < 1:
            return 1 % self._partitions
        return 2 % self._partitions if rng.random() < 0.3 / self._rate else 0

    def _send(self, partition: int) -> None:
        timestamp_ms = int(time.time() * 1000)
        offset = self._sent[partition]
        self._sent[partition] += 1
        self._tally.due_ms[(partition, offset)] = timestamp_ms + self._delay_ms
        self._cluster.produce(TOPIC, b"order %d" % offset, partition=partition, timestamp_ms=timestamp_ms)

    def _finished(self, started: float, producer: threading.Thread) -> bool:
        if producer.is_alive():
            return False
        last_due_in = self._seconds + self._delay_ms / 1000 + FINISH_TIMEOUT_SECONDS
        return not self._tally.lost or time.monotonic() - started > last_due_in

    def _frame(self, service: Service, elapsed: float) -> Frame:
        return Frame(
            elapsed_seconds=elapsed,
            total_seconds=self._seconds + self._delay_ms / 1000,
            produced=len(self._tally.due_ms),
            delivered=len(self._tally.arrived),
            lateness_ms=self._tally.lateness_ms[-1] if self._tally.lateness_ms else None,
            partitions=service.board.ask(FRAME_SECONDS).partitions,
            delivered_by_partition=self._delivered_by_partition(),
            now_ms=time.time() * 1000,
        )

    def _delivered_by_partition(self) -> dict[int, int]:
        counts: dict[int, int] = {}
        for partition, _ in list(self._tally.arrived):
            counts[partition] = counts.get(partition, 0) + 1
        return counts


def demo(*, seconds: float, rate: float, delay_seconds: float, out: TextIO) -> int:
    """Runs the demo and shows it on ``out``. Returns the exit code."""
    with View(out, delay_seconds) as view:
        return Demo(seconds, rate, delay_seconds).run(view)
