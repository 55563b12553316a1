"""Settings -> a wired service; ordered start and stop. The only file that knows everything."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from delayed_consumer.batch import Handler
from delayed_consumer.clock import Clock, SystemClock
from delayed_consumer.core.due import FuturePolicy
from delayed_consumer.core.engine import Engine, InFlightLimit
from delayed_consumer.core.flow import Limits
from delayed_consumer.core.records import Partition
from delayed_consumer.delivery import AtLeastOnce, AtMostOnce, Delivery, ExactlyOnce
from delayed_consumer.dispatch import Dispatcher
from delayed_consumer.errors import ConfigError, UnreachableError
from delayed_consumer.events import Events
from delayed_consumer.failure_topics import prepare, targets
from delayed_consumer.failures import FailurePolicy, Fallback
from delayed_consumer.fallback import Forwarder, PolicyFallback
from delayed_consumer.jobs import Jobs
from delayed_consumer.logs import CLIENT_LOGGER, LOGGER
from delayed_consumer.loop import Loop
from delayed_consumer.metrics import Metrics
from delayed_consumer.origin import Origins
from delayed_consumer.positions import Positions, anchor_new_group
from delayed_consumer.probe import Probe, check_client_config, missing_topics
from delayed_consumer.reporter import Reporter
from delayed_consumer.schedule import Schedule
from delayed_consumer.server import StatusServer
from delayed_consumer.settings import Settings
from delayed_consumer.sinks import Sink
from delayed_consumer.sinks.forward import KafkaForwarder, forwarder_properties
from delayed_consumer.sinks.http import HttpHandler
from delayed_consumer.sinks.log import LogSink
from delayed_consumer.sinks.python import calling, load_handler
from delayed_consumer.sinks.refusing import RefusingSink
from delayed_consumer.sinks.relaying import Forwarding, Relaying
from delayed_consumer.sinks.topic import TopicSink, producer_properties
from delayed_consumer.sinks.transaction_thread import TransactionThread
from delayed_consumer.sinks.transactional_client import TransactionalClient, transactional_id, transactional_properties
from delayed_consumer.sinks.transactions import TransactionalSink
from delayed_consumer.sinks.workers import Rules, Workers
from delayed_consumer.source import Source, consumer_properties
from delayed_consumer.status import StatusBoard
from delayed_consumer.versions import versions

START_QUESTION_SECONDS = 1.0  # short, so that a stop is noticed while the brokers do not answer
STUCK_LOOP_MS = 30_000.0  # /livez: longer than anything a step waits for
STDOUT = 1


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a sink is made with."""

    settings: Settings
    probe: Probe
    fallback: Fallback
    clock: Clock


MakeSink = Callable[[Surroundings], Sink]


def _log_sink(around: Surroundings) -> Sink:
    sys.stdout.flush()
    return LogSink(STDOUT, Origins(around.settings.retry_topics))


def _topic_sink(around: Surroundings) -> Sink:
    settings, probe = around.settings, around.probe
    topic = str(settings.sink_topic)
    partitions = _target_partitions(settings, probe)
    properties = producer_properties(settings.producer_config(), probe.max_message_bytes(topic))
    return TopicSink(
        properties,
        topic,
        partitions,
        settings.sink_topic_timestamp,
        around.fallback,
        Origins(settings.retry_topics),
        logging.getLogger(CLIENT_LOGGER),
    )


def _target_partitions(settings: Settings, probe: Probe) -> int:
    """How many SINK_TOPIC has. Raises ConfigError when it does not exist."""
    topic = str(settings.sink_topic)
    partitions = probe.topics([topic]).get(topic)
    if partitions is None:
        raise ConfigError([f"SINK_TOPIC: the topic {topic} does not exist; create it"])
    return partitions


def _http_sink(around: Surroundings) -> Sink:
    handler = HttpHandler(around.settings, around.clock)
    return Workers(handler, Rules.of(around.settings), around.fallback, around.clock)


def python_sink(around: Surroundings, handler: Handler) -> Sink:
    return calling(handler, Rules.of(around.settings), around.fallback, around.clock)


def _python_sink(settings: Settings) -> MakeSink:
    handler = load_handler(str(settings.sink_handler))
    return lambda around: python_sink(around, handler)


SINKS: Mapping[str, MakeSink] = {"log": _log_sink, "topic": _topic_sink, "http": _http_sink}


def _maker(settings: Settings) -> MakeSink:
    """A handler that cannot be imported is known at once, before anything is connected."""
    return _python_sink(settings) if settings.sink == "python" else SINKS[settings.sink]


Answer = TypeVar("Answer")


class _StopRequested(Exception):  # noqa: N818 - it is no error
    """A stop came while the brokers were waited for."""


class Service:
    """The delay service: everything made and joined, from the brokers' first answer to the last commit."""

    def __init__(self, settings: Settings, *, sink: MakeSink | None = None) -> None:
        """``sink`` replaces the one that SINK names. Raises ConfigError when SINK_HANDLER cannot be imported."""
        self._settings = settings
        self._make_sink = sink or _maker(settings)
        self._clock = SystemClock()
        self._stopping = False
        self._loop: Loop | None = None
        self._transactions: TransactionalSink | None = None
        self.board = StatusBoard()
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
        settings = self._settings
        policy = FailurePolicy(settings.on_failure, settings.retry_topics, settings.dead_letter_topic)
        if settings.delivery == "exactly-once":
            self._transactions = self._transactional_sink(probe, policy)
            return self._transactions
        fallback = PolicyFallback(policy, self._forwarder(probe), self._events)
        return RefusingSink(self._make_sink(Surroundings(settings, probe, fallback, self._clock)), fallback)

    def _transactional_sink(self, probe: Probe, policy: FailurePolicy) -> TransactionalSink:
        """It sees to what fails by itself, in the same transactions."""
        settings, topic = self._settings, str(self._settings.sink_topic)
        partitions, origins = _target_partitions(settings, probe), Origins(settings.retry_topics)
        limits = probe.message_limits([topic, *targets(settings)])
        config = settings.transaction_config()
        id_ = transactional_id(
            settings.kafka_group_id, settings.kafka_group_instance_id, str(config.get("transactional.id", ""))
        )
        properties = transactional_properties(config, id_, limits.values())
        client = TransactionalClient(properties, id_, self._clock, logging.getLogger(CLIENT_LOGGER))
        self._events.transactional_id(id_.name)
        return TransactionalSink(
            TransactionThread(client, self._clock),
            Relaying(topic, partitions, settings.sink_topic_timestamp, origins, limits.get(topic)),
            Forwarding(probe.topics(targets(settings)), origins),
            policy,
            self._clock,
            self._events,
            settings.commit_interval_seconds * 1000,
        )

    def _forwarder(self, probe: Probe) -> Forwarder | None:
        """None where nothing that fails is written anywhere."""
        settings = self._settings
        topics = targets(settings)
        if not topics:
            return None
        smallest_limit_bytes = min(probe.message_limits(topics).values(), default=None)
        return KafkaForwarder(
            forwarder_properties(settings.producer_config(), smallest_limit_bytes),
            probe.topics(topics),
            Origins(settings.retry_topics),
            self._clock,
            self._events,
            logging.getLogger(CLIENT_LOGGER),
        )

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
        engine = self._make_engine(limits, sink.in_flight_limit)
        self._loop = loop = self._make_loop(engine, Dispatcher(sink, self._clock))
        reporter = Reporter(loop, engine, limits, self._clock, self.board, self._events)
        parts.callback(self._leave, loop, reporter)
        if settings.start_from == "latest":
            partitions = [Partition(topic, number) for topic, count in topics.items() for number in range(count)]
            self._events.anchored(self._until_answered(lambda: anchor_new_group(loop.source, partitions)))
        schedule = Schedule()
        parts.callback(schedule.close)
        Jobs(settings, probe, reporter, self.board, self._clock, self._events).put_on(schedule)
        schedule.start()
        loop.source.subscribe(settings.subscriptions)
        while not self._stopping:
            loop.step()
            reporter.look()

    def _leave(self, loop: Loop, reporter: Reporter) -> None:
        loop.stop()
        self._events.stopping()
        self.board.publish(reporter.status())  # not ready any more, while deliveries in flight end
        self._events.stopped(loop.close())

    def _make_engine(self, limits: Limits, in_flight: InFlightLimit) -> Engine:
        settings = self._settings
        if settings.commit_every_records:
            records_per_run = min(in_flight.records_per_run, settings.commit_every_records)
            in_flight = replace(in_flight, records_per_run=records_per_run)
        future = FuturePolicy(settings.max_future_seconds * 1000, settings.on_future_timestamp)
        return Engine(settings.delay_ms, future, limits, in_flight)

    def _make_loop(self, engine: Engine, dispatcher: Dispatcher) -> Loop:
        settings = self._settings
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
            self._clock,
            self._events,
            source=lambda loop: Source(properties, logging.getLogger(CLIENT_LOGGER), loop),
            delivery=lambda source: self._make_delivery(dispatcher, source),
            positions=lambda source: Positions(source, settings.on_data_loss),
            grace_ms=settings.shutdown_grace_seconds * 1000,
        )

    def _make_delivery(self, dispatcher: Dispatcher, source: Source) -> Delivery:
        settings = self._settings
        if self._transactions is not None:
            self._transactions.join(source)
            return ExactlyOnce(dispatcher, self._transactions)
        if settings.delivery == "at-most-once":
            return AtMostOnce(dispatcher, source, self._clock, settings.commit_interval_seconds * 1000)
        return AtLeastOnce(dispatcher, source, settings.commit_every_records)
