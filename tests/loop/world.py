"""A service in a world without threads, sockets and real time: everything of it that decides is the real thing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from confluent_kafka import Message

from delayed_consumer.core.due import FuturePolicy
from delayed_consumer.core.engine import Engine, InFlightLimit
from delayed_consumer.core.flow import Limits
from delayed_consumer.core.records import Partition, Run
from delayed_consumer.delivery import AtLeastOnce, AtMostOnce, Delivery
from delayed_consumer.dispatch import Dispatcher
from delayed_consumer.events import Events
from delayed_consumer.loop import Loop
from delayed_consumer.metrics import Metrics
from delayed_consumer.positions import Positions, anchor_new_group
from delayed_consumer.reporter import Reporter
from delayed_consumer.sinks import Outcome
from delayed_consumer.source import Source, consumer_properties
from delayed_consumer.status import StatusBoard
from tests.loop.clock import ManualClock
from tests.loop.kafka import FakeConsumer, FakeKafka

MOST_STEPS = 50_000  # more in one wait means that the loop spins
COMMIT_INTERVAL_MS = 5_000


@dataclass(frozen=True, slots=True)
class Delivered:
    """One record as the sink got it."""

    partition: Partition
    offset: int
    due_ms: int
    at_ms: float  # the wall clock when it was handed over
    life: int  # of the service: 1 until the first crash or stop
    message: Message


class RecordingSink:
    """Remembers what it gets, and is as slow, as stuck or as unwilling as a test wants it."""

    def __init__(self, clock: ManualClock) -> None:
        self.in_flight_limit = InFlightLimit(runs=1, records_per_run=500)
        self.takes_ms: dict[Partition, float] = {}
        self.stuck: set[Partition] = set()
        self.failing: dict[tuple[Partition, int], str] = {}
        self.delivered: list[Delivered] = []
        self.life = 0
        self.on_deliver: Callable[[Run], None] = lambda _: None
        self._clock = clock
        self._working: list[tuple[float, Run]] = []

    def deliver(self, run: Run, delivered_ms: float) -> None:
        self.on_deliver(run)
        now_ms = self._clock.now_ms()
        for offset, due_ms, message in zip(run.offsets, run.due_ms, run.messages, strict=True):
            self.delivered.append(Delivered(run.partition, offset, due_ms, now_ms, self.life, message))
            if (run.partition, offset) in self.failing:
                break
        self._working.append((self._clock.steady_ms() + self.takes_ms.get(run.partition, 0.0), run))

    def outcomes(self) -> list[Outcome]:
        now_ms = self._clock.steady_ms()
        ended = [one for one in self._working if one[0] <= now_ms and one[1].partition not in self.stuck]
        self._working = [one for one in self._working if one not in ended]
        return [self._outcome(run) for _, run in ended]

    def wind_up(self, partitions: Collection[Partition]) -> list[Run]:
        return self.forget(partitions)

    def forget(self, partitions: Collection[Partition]) -> list[Run]:
        """All that it was handed it has begun."""
        return []

    def close(self) -> None:
        self._working.clear()

    def _outcome(self, run: Run) -> Outcome:
        for done, offset in enumerate(run.offsets):
            failure = self.failing.get((run.partition, offset))
            if failure is not None:
                return Outcome(run, done, failure)
        return Outcome(run, len(run))


class Lines(logging.Handler):
    """The log as (event, message)."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((str(getattr(record, "event", "")), record.getMessage()))

    def of(self, event: str) -> list[str]:
        return [message for name, message in self.lines if name == event]


@dataclass
class Setup:
    """The settings that matter to the loop, as `app` would hand them on."""

    delay_ms: int = 60_000
    delay_ms_by_topic: Mapping[str, int] | None = None
    lookahead_ms: float = 4_000.0
    max_records: int = 200_000
    max_bytes: int = 64 * 1024 * 1024
    future: FuturePolicy = field(default_factory=lambda: FuturePolicy(86_400_000, "wait"))
    commit_every_records: int = 0
    delivery: Literal["at-most-once", "at-least-once"] = "at-least-once"
    start_from: Literal["earliest", "latest"] = "earliest"
    on_data_loss: Literal["stop", "continue"] = "stop"
    grace_ms: float = 20_000.0

    def delay_of(self, topic: str) -> int:
        return (self.delay_ms_by_topic or {}).get(topic, self.delay_ms)


class World:
    """Kafka, a clock, a sink, and one service after the other."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.kafka = FakeKafka(self.clock)
        self.sink = RecordingSink(self.clock)
        self.setup = Setup()
        self.log = Lines()
        self.metrics = Metrics(StatusBoard(), self.setup.delay_of, {})
        self._logger = logging.Logger("world", logging.DEBUG)
        self._logger.addHandler(self.log)
        self._events = Events(self._logger, self.metrics)
        self.loop: Loop
        self.engine: Engine
        self.reporter: Reporter

    # The service

    def start(self, *partitions: Partition) -> None:
        """A new process that is given these partitions, or all that there are."""
        self.sink.life += 1
        limits = Limits(self.setup.lookahead_ms, self.setup.max_records, self.setup.max_bytes)
        self.engine = Engine(self.setup.delay_of, self.setup.future, limits, self._in_flight_limit())
        dispatcher = Dispatcher(self.sink, self.clock)
        self.loop = Loop(
            self.engine,
            dispatcher,
            self.clock,
            self._events,
            source=self._source,
            delivery=lambda source: self._delivery(dispatcher, source),
            positions=lambda source: Positions(source, self.setup.on_data_loss),
            grace_ms=self.setup.grace_ms,
        )
        self.reporter = Reporter(self.loop, self.engine, limits, self.clock, StatusBoard(), self._events)
        if self.setup.start_from == "latest":
            anchor_new_group(self.loop.source, list(self.kafka.logs))
        self.loop.source.subscribe(["^any"])
        self.client.is_given(partitions or self.kafka.logs)

    @property
    def client(self) -> FakeConsumer:
        """The present process's."""
        return self.kafka.consumers[-1]

    def crash(self) -> None:
        self.client.dies()
        self.sink.close()

    def stop(self) -> int:
        self.loop.stop()
        return self.loop.close()

    def run_for(self, duration_ms: float) -> None:
        end_ms = self.clock.steady_ms() + duration_ms
        self.run_until(lambda: self.clock.steady_ms() >= end_ms, duration_ms)

    def run_until(self, condition: Callable[[], object], within_ms: float = 60_000) -> None:
        end_ms = self.clock.steady_ms() + within_ms
        for _ in range(MOST_STEPS):
            if condition():
                return
            assert self.clock.steady_ms() <= end_ms, f"not within {within_ms} ms"
            self.loop.step()
        raise AssertionError("the loop spins: time does not pass")

    # What is to be seen

    def offsets(self, partition: Partition, life: int | None = None) -> list[int]:
        """What was delivered of a partition, in the order it was."""
        return [one.offset for one in self.sink.delivered if one.partition == partition and life in (None, one.life)]

    def lateness_ms(self) -> list[float]:
        return [one.at_ms - one.due_ms for one in self.sink.delivered]

    def check(self) -> None:
        """What must hold in every test: never early, by the record's own timestamp."""
        for one in self.sink.delivered:
            assert one.at_ms >= one.due_ms, f"{one} is early"
            timestamp_ms = one.message.timestamp()[1]
            if timestamp_ms >= 0 and self.setup.future.action == "wait":
                assert one.due_ms >= timestamp_ms + self.setup.delay_of(one.partition.topic)

    def _in_flight_limit(self) -> InFlightLimit:
        limit = self.sink.in_flight_limit
        return InFlightLimit(limit.runs, self.setup.commit_every_records or limit.records_per_run)

    def _delivery(self, dispatcher: Dispatcher, source: Source) -> Delivery:
        if self.setup.delivery == "at-most-once":
            return AtMostOnce(dispatcher, source, self.clock, COMMIT_INTERVAL_MS)
        return AtLeastOnce(dispatcher, source, self.setup.commit_every_records)

    def _source(self, loop: Loop) -> Source:
        properties = consumer_properties(
            {},
            group_id="group",
            group_instance_id=None,
            commit_interval_seconds=COMMIT_INTERVAL_MS / 1000,
            hold_max_bytes=self.setup.max_bytes,
        )
        return Source(properties, self._logger, loop)
