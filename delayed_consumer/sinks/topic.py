"""SINK=topic: relays records to another topic, byte for byte."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Mapping
from functools import partial
from typing import Literal

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from delayed_consumer.core.engine import InFlightLimit
from delayed_consumer.core.records import Partition, Run
from delayed_consumer.errors import ConfigError
from delayed_consumer.sinks import Outcome

_ANY_PARTITION = -1
_HEADER_PREFIX = "delayed-consumer."


def producer_properties(
    client: Mapping[str, str | int | float | bool], max_message_bytes: int | None
) -> dict[str, str | int | float | bool]:
    """Idempotent and acknowledged by all in-sync replicas: in order, nothing lost, nothing twice by a retry.

    ``max_message_bytes``: the target topic's limit, None when it could not be asked. A batch beyond it would be
    refused whole, with the small records in it.
    """
    tuned: dict[str, str | int | float | bool] = {
        "linger.ms": 0.5,  # the client's 5 ms would be most of a record's way
        "partitioner": "murmur2_random",  # as Kafka's own producers: same key, same partition
        "message.timeout.ms": 0,  # an outage of the target is waited out, however long
        "queue.buffering.max.messages": 1_000_000,  # bounded by the hold, which counts what is in flight
    }
    if max_message_bytes is not None:
        tuned["message.max.bytes"] = max(1_000, max_message_bytes)
        tuned["batch.size"] = max(1, min(1_000_000, max_message_bytes))
    return {**tuned, **client, "enable.idempotence": True, "acks": "all"}


class _Relay:
    """One run on its way: what was produced of it and what is acknowledged."""

    def __init__(self, run: Run, delivered_ms: float) -> None:
        self.run = run
        self.delivered_ms = delivered_ms
        self.produced = 0
        self.reported = 0
        self.failed: tuple[int, str] | None = None  # the first record, in offset order, and why

    @property
    def wholly_produced(self) -> bool:
        return self.produced == len(self.run) or self.failed is not None

    @property
    def ended(self) -> bool:
        return self.wholly_produced and self.reported == self.produced

    def fail(self, index: int, reason: str) -> None:
        if self.failed is None or index < self.failed[0]:
            self.failed = (index, reason)

    def outcome(self) -> Outcome:
        return Outcome(self.run, len(self.run)) if self.failed is None else Outcome(self.run, *self.failed)


class TopicSink:
    """Produces each record; it is done when its delivery report says so."""

    in_flight_limit = InFlightLimit(runs=64, records_per_run=500)

    def __init__(
        self,
        properties: Mapping[str, str | int | float | bool],
        topic: str,
        partitions: int,
        timestamp: Literal["delivery", "source"],
        logger: logging.Logger,
    ) -> None:
        """``partitions``: how many the target topic has. Raises ConfigError for properties that do not go together."""
        self._topic = topic
        self._partitions = partitions
        self._keeps_timestamp = timestamp == "source"
        try:
            self._producer = Producer(dict(properties), logger=logger)
        except KafkaException as error:
            raise ConfigError([f"KAFKA_CONF_*: {_reason(error)}"]) from error
        self._relays: deque[_Relay] = deque()

    def deliver(self, run: Run, delivered_ms: float) -> None:
        self._relays.append(_Relay(run, delivered_ms))
        self._produce()

    def outcomes(self) -> list[Outcome]:
        self._producer.poll(0)
        self._produce()
        ended = [relay.outcome() for relay in self._relays if relay.ended]
        if ended:
            self._relays = deque(relay for relay in self._relays if not relay.ended)
        return ended

    def forget(self, partitions: Collection[Partition]) -> list[Run]:
        dropped = [relay for relay in self._relays if relay.run.partition in partitions and not relay.produced]
        self._relays = deque(relay for relay in self._relays if relay not in dropped)
        return [relay.run for relay in dropped]

    def close(self) -> None:
        """What is not acknowledged by now may still arrive: it was not counted as done."""
        self._producer.purge()
        self._producer.flush(1)

    def _produce(self) -> None:
        """Hands the client what its queue takes, in order; nothing behind a record that failed."""
        for relay in self._relays:
            if relay.failed is not None:
                return
            while not relay.wholly_produced:
                try:
                    self._produce_one(relay, relay.produced)
                except BufferError:
                    return  # carried on when delivery reports have made room
                except (KafkaException, ValueError) as error:
                    relay.fail(relay.produced, _reason(error))
                    return
                relay.produced += 1

    def _produce_one(self, relay: _Relay, index: int) -> None:
        run = relay.run
        message: Message = run.messages[index]
        key = message.key()
        timestamp_ms = message.timestamp()[1]
        origin = (
            (_HEADER_PREFIX + "topic", run.partition.topic.encode()),
            (_HEADER_PREFIX + "partition", b"%d" % run.partition.number),
            (_HEADER_PREFIX + "offset", b"%d" % run.offsets[index]),
            (_HEADER_PREFIX + "timestamp", b"%d" % timestamp_ms),
        )
        # A timestamp of 0 means now to the client.
        relayed_ms = max(0, timestamp_ms) if self._keeps_timestamp else int(relay.delivered_ms)
        self._producer.produce(
            self._topic,
            value=message.value(),
            key=key,
            partition=self._target_partition(run.partition.number, key),
            timestamp=relayed_ms,
            headers=[*(message.headers() or ()), *origin],
            on_delivery=partial(_report, relay, index),
        )

    def _target_partition(self, source_partition: int, key: bytes | None) -> int:
        """By the key where there is one; else the source's own partition where the target has it."""
        if key is None and source_partition < self._partitions:
            return source_partition
        return _ANY_PARTITION


def _report(relay: _Relay, index: int, error: KafkaError | None, _: Message) -> None:
    relay.reported += 1
    if error is not None:
        relay.fail(index, error.str())


def _reason(error: Exception) -> str:
    return error.args[0].str() if isinstance(error, KafkaException) else str(error)
