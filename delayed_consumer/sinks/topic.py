"""SINK=topic: relays records to another topic, byte for byte."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Mapping
from functools import partial
from typing import Literal

from confluent_kafka import KafkaError, KafkaException, Message

from delayed_consumer.core.engine import InFlightLimit
from delayed_consumer.core.records import Partition, Run
from delayed_consumer.failures import Failure, Fallback
from delayed_consumer.origin import Origins
from delayed_consumer.sinks import Outcome
from delayed_consumer.sinks.relaying import Relaying, abandon, failure_of, make_producer, serve_reports


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
    """One run on its way: what was produced of it, and what of that is acknowledged or out of the way."""

    def __init__(self, run: Run, delivered_ms: float) -> None:
        self.run = run
        self.delivered_ms = delivered_ms
        self.records = len(run)
        self.produced = 0
        self.resolved = 0
        self.diverted: list[int] = []
        self.failed: tuple[int, str] | None = None  # the first record, in offset order, and why the service must stop

    @property
    def wholly_produced(self) -> bool:
        return self.produced == self.records or self.failed is not None

    @property
    def ended(self) -> bool:
        return self.resolved == self.produced and self.wholly_produced

    def fail(self, index: int, reason: str) -> None:
        self.resolved += 1
        if self.failed is None or index < self.failed[0]:
            self.failed = (index, reason)

    def divert(self, index: int) -> None:
        """The fallback has seen to this record."""
        self.resolved += 1
        self.diverted.append(index)

    def outcome(self) -> Outcome:
        done, failure = (len(self.run), None) if self.failed is None else self.failed
        return Outcome(self.run, done, failure, diverted=[index for index in self.diverted if index < done])


class TopicSink:
    """Produces each record; it is done when its delivery report says so."""

    in_flight_limit = InFlightLimit(runs=64, records_per_run=500)

    def __init__(
        self,
        properties: Mapping[str, str | int | float | bool],
        topic: str,
        partitions: int,
        timestamp: Literal["delivery", "source"],
        fallback: Fallback,
        origins: Origins,
        logger: logging.Logger,
    ) -> None:
        """``partitions``: how many the target topic has. Raises ConfigError for properties that do not go together."""
        self._fallback = fallback
        self._relaying = Relaying(topic, partitions, timestamp, origins)
        self._producer = make_producer(properties, logger)
        self._relays: deque[_Relay] = deque()
        self._closed = False

    def deliver(self, run: Run, delivered_ms: float) -> None:
        self._relays.append(_Relay(run, delivered_ms))
        self._produce()

    def outcomes(self) -> list[Outcome]:
        serve_reports(self._producer)
        self._produce()
        ended = [relay for relay in self._relays if relay.ended]
        if any(relay.failed is not None for relay in ended):
            ended = self._without_early_failures()
        if ended:
            told = set(ended)
            self._relays = deque(relay for relay in self._relays if relay not in told)
        return [relay.outcome() for relay in ended]

    def wind_up(self, partitions: Collection[Partition]) -> list[Run]:
        return self.forget(partitions)  # in order: nothing lies before what was begun

    def forget(self, partitions: Collection[Partition]) -> list[Run]:
        dropped = [relay for relay in self._relays if relay.run.partition in partitions and not relay.produced]
        self._relays = deque(relay for relay in self._relays if relay not in dropped)
        return [relay.run for relay in dropped]

    def close(self) -> None:
        """What is not acknowledged by now may still arrive: it was not counted as done."""
        self._closed = True
        abandon(self._producer)

    def _without_early_failures(self) -> list[_Relay]:
        """What has ended. A failure stops the service, so what is before it in its partition ends first: it may be the
        one to stop at, and would else be repeated."""
        ended = []
        unfinished = set()
        for relay in self._relays:
            if not relay.ended:
                unfinished.add(relay.run.partition)
            elif relay.failed is None or relay.run.partition not in unfinished:
                ended.append(relay)
        return ended

    def _produce(self) -> None:
        """Hands the client what its queue takes, in order; nothing behind a record that failed."""
        for relay in self._relays:
            if not relay.wholly_produced:
                self._produce_run(relay)
            if relay.failed is not None or not relay.wholly_produced:
                return

    def _produce_run(self, relay: _Relay) -> None:
        while not relay.wholly_produced:
            relay.produced, error = self._relaying.produce(
                self._producer,
                relay.run,
                relay.produced,
                relay.records,
                relay.delivered_ms,
                partial(self._report, relay),
            )
            if isinstance(error, BufferError):
                return  # carried on when delivery reports have made room
            if error is not None:
                self._give_up(relay, relay.produced, failure_of(error))
                relay.produced += 1

    def _report(self, relay: _Relay, index: int, error: KafkaError | None, _: Message) -> None:
        if error is None:
            relay.resolved += 1
        elif not self._closed:
            self._give_up(relay, index, failure_of(KafkaException(error)))

    def _give_up(self, relay: _Relay, index: int, failure: Failure) -> None:
        stop = self._fallback.take(relay.run, index, failure, partial(relay.divert, index))
        if stop is not None:
            relay.fail(index, stop)
