"""The service: ordered start and stop of what `assembly` and this file make of the settings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from typing import TypeVar

from delayed_consumer.assembly import MakeSink, in_flight_limit, make_delivery, make_sink, sink_maker
from delayed_consumer.clock import SystemClock
from delayed_consumer.core.due import FuturePolicy
from delayed_consumer.core.engine import Engine
from delayed_consumer.core.flow import Limits
from delayed_consumer.core.records import Partition
from delayed_consumer.dispatch import Dispatcher
from delayed_consumer.errors import ConfigError, UnreachableError
from delayed_consumer.events import Events
from delayed_consumer.failure_topics import prepare
from delayed_consumer.jobs import Jobs
from delayed_consumer.logs import CLIENT_LOGGER, LOGGER
from delayed_consumer.loop import Loop
from delayed_consumer.metrics import Metrics
from delayed_consumer.positions import Positions, anchor_new_group
from delayed_consumer.probe import Probe, check_client_config, missing_topics
from delayed_consumer.reporter import Reporter
from delayed_consumer.schedule import Schedule
from delayed_consumer.server import StatusServer
from delayed_consumer.settings import Settings
from delayed_consumer.sinks import Sink
from delayed_consumer.source import Source, consumer_properties
from delayed_consumer.status import StatusBoard
from delayed_consumer.versions import versions

START_QUESTION_SECONDS = 1.0  # short, so that a stop is noticed while the brokers do not answer
STUCK_LOOP_MS = 30_000.0  # /livez: longer than anything a step waits for


Answer = TypeVar("Answer")


class _StopRequested(Exception):  # noqa: N818 - it is no error
    """A stop came while the brokers were waited for."""


class Service:
    """The delay service: everything made and joined, from the brokers' first answer to the last commit."""

    def __init__(self, settings: Settings, *, sink: MakeSink | None = None) -> None:
        """``sink`` replaces the one that SINK names. Raises ConfigError when SINK_HANDLER cannot be imported."""
        self._settings = settings
        self._make_sink = sink or sink_maker(settings)
        self._clock = SystemClock()
        self._stopping = False
        self._loop: Loop | None = None
        self.board = StatusBoard(self._clock.wake)
        self.metrics = Metrics(self.board, settings.delay_ms, versions())
        self._events = Events(logging.getLogger(LOGGER), self.metrics)

    def run(self) -> None:
        """Delivers until `stop`. Raises the ServiceError that ended it."""
        settings = self._settings
        check_client_config(settings.consumer_config())
        self._events.started(settings.masked())
        for warning in settings.warnings():
            self._events.setting_warning(warning)
        with ExitStack() as parts, suppress(_StopRequested):
            self._serve(parts)
            logger = logging.getLogger(CLIENT_LOGGER)
            probe = parts.enter_context(
                Probe(settings.client_config(), logger=logger, timeout_s=START_QUESTION_SECONDS)
            )
            topics = self._until_answered(lambda: self._find_topics(probe))
            self._until_answered(lambda: prepare(settings, probe, topics, self._events))
            sink = self._until_answered(lambda: self._sink(probe))
            self._run_loop(parts, probe, sink, topics)

    def stop(self) -> None:
        """From any thread or signal handler: `run` ends cleanly, in under a second when nothing is in flight."""
        self._stopping = True
        self._clock.wake()
        if self._loop is not None:
            self._loop.stop()

    @property
    def alive(self) -> bool:
        """The loop turned lately; before there is one, nothing can hang."""
        return self._loop is None or self._clock.steady_ms() - self._loop.turned_ms < STUCK_LOOP_MS

    def _serve(self, parts: ExitStack) -> None:
        if not self._settings.http_port:
            return
        server = StatusServer(
            self._settings.http_host,
            self._settings.http_port,
            board=self.board,
            metrics=self.metrics,
            settings=self._settings.masked(),
            alive=lambda: self.alive,
            on_error=self._events.page_failed,
        )
        parts.callback(server.close)
        server.start()

    def _until_answered(self, question: Callable[[], Answer]) -> Answer:
        """Asks the brokers until they answer, at most START_TIMEOUT_SECONDS. Raises UnreachableError after that."""
        give_up_ms = self._clock.steady_ms() + self._settings.start_timeout_seconds * 1000
        while not self._stopping:
            try:
                return question()
            except UnreachableError as error:
                if self._clock.steady_ms() >= give_up_ms:
                    raise
                self._events.waiting_for_brokers(str(error), self._clock.steady_ms())
        raise _StopRequested

    def _sink(self, probe: Probe) -> Sink:
        return make_sink(self._make_sink, self._settings, probe, self._clock, self._events)

    def _find_topics(self, probe: Probe) -> dict[str, int]:
        """The topics of KAFKA_TOPICS with their numbers of partitions. Raises ConfigError when one does not exist."""
        settings = self._settings
        found = probe.topics(settings.kafka_topics)
        # A regular expression may match retry topics too, but they are no source of ours: nothing in them is skipped.
        topics = {topic: partitions for topic, partitions in found.items() if topic not in settings.retry_topics}
        missing = missing_topics(settings.kafka_topics, topics)
        if missing:
            raise ConfigError([f"KAFKA_TOPICS: the topic {topic} does not exist; create it" for topic in missing])
        return topics

    def _run_loop(self, parts: ExitStack, probe: Probe, sink: Sink, topics: Mapping[str, int]) -> None:
        settings = self._settings
        limits = Limits(settings.lookahead_seconds * 1000, settings.hold_max_records, settings.hold_max_bytes)
        future = FuturePolicy(settings.max_future_seconds * 1000, settings.on_future_timestamp)
        engine = Engine(settings.delay_ms, future, limits, in_flight_limit(settings, sink))
        self._loop = loop = self._make_loop(engine, sink)
        reporter = Reporter(loop, engine, limits, self._clock, self.board, self._events)
        parts.push(partial(self._leave, loop, reporter))
        if settings.start_from == "latest":
            partitions = [Partition(topic, number) for topic, count in topics.items() for number in range(count)]
            self._events.anchored(self._until_answered(lambda: anchor_new_group(loop.source, partitions)))
        loop.hear_of_topics(self._until_answered(lambda: probe.topic_ids(topics)))
        schedule = Schedule()
        parts.callback(schedule.close)
        Jobs(settings, probe, reporter, self.board, self._clock, self._events).put_on(schedule)
        schedule.start()
        loop.source.subscribe(settings.subscriptions)
        while not self._stopping:
            loop.step()
            reporter.look()

    def _leave(self, loop: Loop, reporter: Reporter, error_type: type[BaseException] | None, *_: object) -> None:
        loop.stop()
        if error_type is not None and not issubclass(error_type, Exception):
            loop.cut_short()  # a second Ctrl-C, in a program that uses us as a library
        self._events.stopping()
        self.board.publish(reporter.status())  # not ready any more, while deliveries in flight end
        self._events.stopped(loop.close())

    def _make_loop(self, engine: Engine, sink: Sink) -> Loop:
        settings, clock = self._settings, self._clock
        dispatcher = Dispatcher(sink, clock)
        properties = consumer_properties(
            settings.consumer_config(),
            group_id=settings.kafka_group_id,
            group_instance_id=settings.kafka_group_instance_id,
            commit_interval_seconds=settings.commit_interval_seconds,
            hold_max_bytes=settings.hold_max_bytes,
        )
        return Loop(
            engine,
            dispatcher,
            clock,
            self._events,
            source=lambda loop: Source(properties, logging.getLogger(CLIENT_LOGGER), loop),
            delivery=lambda source: make_delivery(settings, sink, dispatcher, source, clock),
            positions=lambda source: Positions(source, settings.on_data_loss),
            grace_ms=settings.shutdown_grace_seconds * 1000,
        )
