"""One guarantee put to the test: the service is killed in the middle of its work and started again."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Protocol

from delayed_consumer.demo.cluster import Arrival, RealCluster
from delayed_consumer.demo.crash_view import Row
from delayed_consumer.demo.process import Process
from delayed_consumer.demo.service import HANDLER
from delayed_consumer.demo.tally import Tally
from delayed_consumer.errors import GaveUpError

JOIN_SECONDS = 4.0  # until the first record is due: the embedded group takes 3 s
REJOIN_SECONDS = 30.0  # for the first record after the kill: the embedded group takes 9 s, a slow machine more
KILL_WITHIN_SECONDS = 0.5  # of the moment when half is delivered
QUIET_SECONDS = 5.0  # all is due, and nothing has come for so long: what is missing is lost
PATIENCE_SECONDS = 60.0
TURN_SECONDS = 0.02

_SETTINGS = {
    "COMMIT_INTERVAL_SECONDS": "1",
    # A real cluster gives a static member its partitions back at once; the embedded one when its session is over.
    "KAFKA_GROUP_INSTANCE_ID": "demo",
    "KAFKA_CONF_SESSION_TIMEOUT_MS": "6000",
    "KAFKA_CONF_HEARTBEAT_INTERVAL_MS": "500",
    "HTTP_PORT": "0",
    "LOG_FORMAT": "text",
}


class Cluster(Protocol):
    """Where the demo runs: embedded or real."""

    def create_topic(self, name: str) -> int: ...

    def produce(self, topic: str, value: bytes, *, partition: int, timestamp_ms: int) -> None: ...

    def flush(self) -> None: ...


@dataclass(frozen=True)
class Stage:
    """What all trials of a demo have in common."""

    cluster: Cluster
    environment: Mapping[str, str]  # how the service connects
    delay_seconds: float
    stopped: threading.Event  # ends a trial before its time


class Interrupted(Exception):  # noqa: N818 - it is no error
    """Ended before its time: by Ctrl-C, or by what went wrong in another trial."""


class Trial:
    """One guarantee: two lives of the service on a topic of its own, with a handler that takes some time."""

    def __init__(self, guarantee: str, stage: Stage) -> None:
        self._guarantee = guarantee
        self._stage = stage
        self._topic = f"delayed-consumer-demo-{guarantee}-{uuid.uuid4().hex[:8]}"
        self._tally = Tally()
        self._state = "joining its group"
        self._arrived_at = self._last_due_at = 0.0
        self._killed_ms: float | None = None
        self._undone: int | None = None
        self._ended = False

    def prepare(self, seconds: float, rate: float) -> None:
        """Writes all records; they fall due one after another, from some seconds ahead on."""
        cluster, delay_ms = self._stage.cluster, round(self._stage.delay_seconds * 1000)
        partitions = cluster.create_topic(self._topic)
        first_due_ms = (time.time() + JOIN_SECONDS) * 1000
        self._last_due_at = time.monotonic() + JOIN_SECONDS + seconds
        for number in range(max(1, int(seconds * rate))):
            offset, partition = divmod(number, partitions)
            timestamp_ms = int(first_due_ms + number * 1000 / rate) - delay_ms
            self._tally.due_ms[partition, offset] = timestamp_ms + delay_ms
            cluster.produce(self._topic, b"order %d" % number, partition=partition, timestamp_ms=timestamp_ms)
        cluster.flush()

    def run(self) -> None:
        """Raises GaveUpError when the service ends by itself or does not get on."""
        half = len(self._tally.due_ms) / 2
        with self._life() as service:
            self._watch(service, lambda: len(self._tally.arrived) >= half)
            kill_at = time.monotonic() + random.uniform(0, KILL_WITHIN_SECONDS)  # noqa: S311 - nothing secret
            self._watch(service, lambda: time.monotonic() >= kill_at)
            service.kill()
            self._killed_ms = time.time() * 1000
            self._take(service)
        self._state = "killed, joining again"
        with self._life() as service:
            self._arrived_at = time.monotonic() + REJOIN_SECONDS
            self._watch(service, self._complete)
            service.stop()
            self._take(service)
        self._judge()
        self._ended = True
        self._state = "done"

    @property
    def kept(self) -> bool:
        """Whether it held what it promises."""
        return self._ended and self._tally.keeps(self._guarantee)

    def row(self) -> Row:
        """As far as it has come."""
        tally = self._tally
        return Row(
            self._guarantee,
            self._state,
            written=len(tally.due_ms),
            delivered=tally.delivered,
            before=tally.delivered if self._killed_ms is None else tally.before(self._killed_ms),
            repeated=tally.repeated if self._ended else None,
            lost=tally.lost if self._ended else None,
            undone=self._undone,
            kept=self.kept if self._ended else None,
        )

    # How it delivers

    def _sink(self) -> Mapping[str, str]:
        return {"SINK": "python", "SINK_HANDLER": HANDLER}

    def _arrivals(self, service: Process) -> Iterable[Arrival]:
        return service.arrivals()

    def _judge(self) -> None:
        """All that was delivered is in the tally already."""

    # What it does

    @contextmanager
    def _life(self) -> Iterator[Process]:
        service = Process(
            {
                **self._stage.environment,
                **_SETTINGS,
                **self._sink(),
                "DELIVERY": self._guarantee,
                "DELAY_SECONDS": str(self._stage.delay_seconds),
                "KAFKA_TOPICS": self._topic,
                "KAFKA_GROUP_ID": self._topic,
            }
        )
        try:
            yield service
        finally:
            service.kill()
            service.close()

    def _watch(self, service: Process, condition: Callable[[], bool]) -> None:
        """Takes what is delivered until ``condition`` is true."""
        give_up_at = max(time.monotonic(), self._last_due_at) + PATIENCE_SECONDS
        while not condition():
            if self._stage.stopped.wait(TURN_SECONDS):
                raise Interrupted
            service.raise_if_ended()
            self._take(service)
            if time.monotonic() > give_up_at:
                raise GaveUpError(f"the demo's service with {self._guarantee} does not get on")

    def _take(self, service: Process) -> None:
        for arrival in self._arrivals(service):
            self._tally.arrive(*arrival)
            self._arrived_at = time.monotonic()
            self._state = "delivering" if self._killed_ms is None else "delivering the rest"

    def _complete(self) -> bool:
        now = time.monotonic()
        return not self._tally.lost or now > QUIET_SECONDS + max(self._arrived_at, self._last_due_at)


class RelayTrial(Trial):
    """Into another topic, in transactions: what counts is what a reader of committed records sees of it."""

    def __init__(self, guarantee: str, stage: Stage, cluster: RealCluster) -> None:
        """``cluster`` is the stage's."""
        super().__init__(guarantee, stage)
        self._real = cluster
        self._target = f"{self._topic}-target"

    def prepare(self, seconds: float, rate: float) -> None:
        self._real.create_topic(self._target)
        super().prepare(seconds, rate)

    def run(self) -> None:
        with closing(self._real.reader(self._target, "read_committed")) as self._reader:
            super().run()

    def _sink(self) -> Mapping[str, str]:
        return {"SINK": "topic", "SINK_TOPIC": self._target}

    def _arrivals(self, service: Process) -> Iterable[Arrival]:  # noqa: ARG002
        return self._reader.arrivals()

    def _judge(self) -> None:
        """By readers of their own, from the start to the end."""
        judged = Tally(self._tally.due_ms)
        with closing(self._real.reader(self._target, "read_committed")) as committed:
            for arrival in committed.to_the_end():
                judged.arrive(*arrival)
        with closing(self._real.reader(self._target, "read_uncommitted")) as everything:
            self._undone = sum(1 for _ in everything.to_the_end()) - judged.delivered
        self._tally = judged
