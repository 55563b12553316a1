"""What the settings make of a service: its sink, what becomes of failures, and its guarantee."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from delayed_consumer.batch import Handler
from delayed_consumer.clock import Clock
from delayed_consumer.core.engine import InFlightLimit
from delayed_consumer.delivery import AtLeastOnce, AtMostOnce, Delivery, ExactlyOnce
from delayed_consumer.dispatch import Dispatcher
from delayed_consumer.errors import ConfigError
from delayed_consumer.events import Events
from delayed_consumer.failure_topics import targets
from delayed_consumer.failures import FailurePolicy, Fallback
from delayed_consumer.fallback import Forwarder, PolicyFallback
from delayed_consumer.logs import CLIENT_LOGGER
from delayed_consumer.origin import Origins
from delayed_consumer.probe import Probe
from delayed_consumer.settings import Settings
from delayed_consumer.sinks import Sink
from delayed_consumer.sinks.batches import ONE_IN_FLIGHT, Batches
from delayed_consumer.sinks.forward import KafkaForwarder, forwarder_properties
from delayed_consumer.sinks.http import HttpHandler
from delayed_consumer.sinks.log import LogSink
from delayed_consumer.sinks.pace import Pace
from delayed_consumer.sinks.python import calling, load_handler
from delayed_consumer.sinks.refusing import RefusingSink
from delayed_consumer.sinks.relaying import Forwarding, Relaying
from delayed_consumer.sinks.topic import TopicSink, producer_properties
from delayed_consumer.sinks.transaction_thread import TransactionThread
from delayed_consumer.sinks.transaction_writer import TransactionWriter
from delayed_consumer.sinks.transactional_client import TransactionalClient, transactional_id, transactional_properties
from delayed_consumer.sinks.transactions import TransactionalSink
from delayed_consumer.sinks.workers import Rules, Workers
from delayed_consumer.source import Source

STDOUT = 1
RUNS_AHEAD = 2  # of a partition, under at-most-once: a crash loses what is committed and not delivered


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a sink is made with."""

    settings: Settings
    probe: Probe
    fallback: Fallback
    clock: Clock
    events: Events


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
        Relaying(topic, partitions, settings.sink_topic_timestamp, Origins(settings.retry_topics)),
        around.fallback,
        around.clock,
        around.events,
        logging.getLogger(CLIENT_LOGGER),
        gapless=settings.delivery != "at-most-once",
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


def sink_maker(settings: Settings) -> MakeSink:
    """A handler that cannot be imported is known at once, before anything is connected."""
    return _python_sink(settings) if settings.sink == "python" else SINKS[settings.sink]


def make_sink(make: MakeSink, settings: Settings, probe: Probe, clock: Clock, events: Events) -> Sink:
    """``make``'s sink and what becomes of what it cannot deliver; under exactly-once one sink sees to both.

    Raises:
        ConfigError: a topic does not exist, or properties of the client do not go together.
        UnreachableError: no answer.
    """
    policy = FailurePolicy(settings.on_failure, settings.retry_topics, settings.dead_letter_topic)
    if settings.delivery == "exactly-once":
        return _transactional_sink(settings, probe, policy, clock, events)
    fallback = PolicyFallback(policy, _forwarder(settings, probe, clock, events), events)
    return RefusingSink(make(Surroundings(settings, probe, fallback, clock, events)), fallback)


def make_delivery(settings: Settings, sink: Sink, dispatcher: Dispatcher, source: Source, clock: Clock) -> Delivery:
    """DELIVERY."""
    if isinstance(sink, TransactionalSink):
        sink.join(source)
        return ExactlyOnce(dispatcher, sink)
    if settings.delivery == "at-most-once":
        return AtMostOnce(dispatcher, source, clock, settings.commit_interval_seconds * 1000)
    return AtLeastOnce(dispatcher, source, settings.commit_every_records)


def in_flight_limit(settings: Settings, sink: Sink) -> InFlightLimit:
    """The sink's, cut to what a crash may cost."""
    limit = sink.in_flight_limit
    if settings.delivery == "at-most-once":
        limit = replace(limit, runs=min(limit.runs, RUNS_AHEAD))
    if settings.commit_every_records:
        limit = replace(limit, records_per_run=min(limit.records_per_run, settings.commit_every_records))
    return limit


def _transactional_sink(
    settings: Settings, probe: Probe, policy: FailurePolicy, clock: Clock, events: Events
) -> TransactionalSink:
    """It sees to what fails by itself, in the same transactions."""
    topic = str(settings.sink_topic)
    partitions, origins = _target_partitions(settings, probe), Origins(settings.retry_topics)
    limits = probe.message_limits([topic, *targets(settings)])
    config = settings.transaction_config()
    id_ = transactional_id(
        settings.kafka_group_id, settings.kafka_group_instance_id, str(config.get("transactional.id", ""))
    )
    properties = transactional_properties(config, id_, limits.values())
    client = TransactionalClient(properties, id_, clock, logging.getLogger(CLIENT_LOGGER))
    events.transactional_id(id_.name)
    return TransactionalSink(
        TransactionThread(client, clock),
        TransactionWriter(
            Relaying(topic, partitions, settings.sink_topic_timestamp, origins, limits.get(topic)),
            Forwarding(probe.topics(targets(settings)), origins),
        ),
        # With more of them on their way, an abort would wait half a second for another epoch (librdkafka 2.16).
        Pace(Batches(properties, alone=ONE_IN_FLIGHT)),
        policy,
        clock,
        events,
        settings.commit_interval_seconds * 1000,
    )


def _forwarder(settings: Settings, probe: Probe, clock: Clock, events: Events) -> Forwarder | None:
    """None where nothing that fails is written anywhere."""
    topics = targets(settings)
    if not topics:
        return None
    smallest_limit_bytes = min(probe.message_limits(topics).values(), default=None)
    return KafkaForwarder(
        forwarder_properties(settings.producer_config(), smallest_limit_bytes),
        probe.topics(topics),
        Origins(settings.retry_topics),
        clock,
        events,
        logging.getLogger(CLIENT_LOGGER),
    )
