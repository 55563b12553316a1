"""SINK=topic: relays records to another topic, byte for byte."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Mapping
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message

from delayed_consumer.clock import Clock
from delayed_consumer.core.engine import InFlightLimit
from delayed_consumer.core.records import Partition, Run
from delayed_consumer.events import Events
from delayed_consumer.failures import Failure, Fallback
from delayed_consumer.sinks import Outcome
from delayed_consumer.sinks.batches import Batches
from delayed_consumer.sinks.relay import Relay
from delayed_consumer.sinks.relaying import (
    Relaying,
    RelayProducer,
    abandon,
    failure_of,
    is_said_of_a_batch,
    is_too_large,
    reason_of,
    serve_reports,
)

QUIET_MS = 100.0  # without an answer: none is to come any more
AWAY_MS = 2_000.0  # without an answer: a broker is away; to get its id takes a new producer half a second
# Said of what a producer had in its queue when it failed for good, also of what it was about to send once more.
_NOT_SENT = {KafkaError._PURGE_QUEUE, KafkaError._FATAL}


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


class TopicSink:
    """Produces each record; it is done when its delivery report says so.

    Where a broker refuses a batch, nothing more is handed over until all that the client has is answered or taken back.
    What is not done goes again first, each record alone, through another producer.

    ``gapless``: the producer fails for good then (librdkafka's guarantee), or what it has in its queue would overtake
    the good records of the batch. So the order of a partition holds, but for one case: where the very first batch that
    a producer has for a partition of the target is refused, brokers do not miss it, and take what was sent right behind
    it. The price: what was sent and not yet answered may be given back with the rest, and so be written twice.
    """

    in_flight_limit = InFlightLimit(runs=64, records_per_run=500)

    def __init__(
        self,
        properties: Mapping[str, str | int | float | bool],
        relaying: Relaying,
        fallback: Fallback,
        clock: Clock,
        events: Events,
        logger: logging.Logger,
        *,
        gapless: bool = True,
    ) -> None:
        """``properties``: of the producer. Raises ConfigError for some that do not go together."""
        self._relaying = relaying
        self._fallback = fallback
        self._clock = clock
        self._events = events
        self._logger = logger
        self._logger.addFilter(_is_news)
        self._gapless = gapless
        self._batches = Batches(properties)
        self._producer = self._batching = self._new_producer()
        self._refusal: KafkaException | None = None
        self._halted = False  # nothing is handed over: a batch was refused, or the producer has failed for good
        self._unanswered, self._quiet_since_ms = 0, 0.0
        self._relays: deque[Relay] = deque()
        self._closed = False

    def deliver(self, run: Run, delivered_ms: float) -> None:
        self._relays.append(Relay(run, delivered_ms))
        self._produce()

    def outcomes(self) -> list[Outcome]:
        if serve_reports(self._producer):
            self._halted = True
        if self._halted or self._batches.alone:
            self._regroup()
        self._produce()
        ended = [relay for relay in self._relays if relay.ended]
        if any(relay.failure is not None for relay in ended):
            ended = self._without_early_failures()
        if ended:
            told = set(ended)
            self._relays = deque(relay for relay in self._relays if relay not in told)
        return [relay.outcome() for relay in ended]

    def wind_up(self, partitions: Collection[Partition]) -> list[Run]:
        """What was refused with its batch still goes again: something behind it may be done."""
        dropped = [relay for relay in self._relays if relay.run.partition in partitions and not relay.begun]
        self._relays = deque(relay for relay in self._relays if relay not in dropped)
        return [relay.run for relay in dropped]

    def forget(self, partitions: Collection[Partition]) -> list[Run]:
        dropped = self.wind_up(partitions)
        for relay in self._relays:
            if relay.run.partition in partitions:
                relay.give_up()
        return dropped

    def close(self) -> None:
        """What is not acknowledged by now may still arrive: it was not counted as done."""
        self._closed = True
        for producer in {self._batching, self._producer}:
            abandon(producer)

    def _without_early_failures(self) -> list[Relay]:
        """What has ended. A failure stops the service, so what is before it in its partition ends first: it may be the
        one to stop at, and would else be repeated."""
        ended = []
        unfinished = set()
        for relay in self._relays:
            if not relay.ended:
                unfinished.add(relay.run.partition)
            elif relay.failure is None or relay.run.partition not in unfinished:
                ended.append(relay)
        return ended

    # What the client gets, and what it says of it

    def _produce(self) -> None:
        """Hands the client what its queue takes, in order; nothing behind a record that failed."""
        for relay in self._relays:
            if relay.pending:
                self._produce_run(relay)
            if relay.pending or relay.failure is not None:
                return

    def _produce_run(self, relay: Relay) -> None:
        """As much as there is room for; it is carried on when delivery reports have made some."""
        while relay.pending and self._batches.room and not self._halted:
            first, end = relay.pending[0]
            taken, error = self._relaying.produce(
                self._producer,
                relay.run,
                first,
                min(end, first + self._batches.room),
                relay.delivered_ms,
                partial(self._report, relay),
            )
            relay.hand_over(taken)
            self._batches.went(taken - first)
            if isinstance(error, BufferError):
                return
            if error is not None:
                self._not_taken(relay, taken, error)

    def _not_taken(self, relay: Relay, index: int, error: Exception) -> None:
        if not self._batches.alone and isinstance(error, KafkaException) and error.args[0].code() == KafkaError._FATAL:
            self._halted = True
        else:
            relay.leave_out()
            self._give_up(relay, index, failure_of(error))

    def _report(self, relay: Relay, index: int, error: KafkaError | None, _: Message) -> None:
        if error is None:
            relay.sent -= 1
        elif not self._closed:
            self._refused(relay, index, KafkaException(error))

    def _refused(self, relay: Relay, index: int, error: KafkaException) -> None:
        if not self._batches.alone:
            self._halted = True
            if is_said_of_a_batch(error):
                self._refusal = error
        if self._is_blameless(error):
            relay.take_back(index)
            return
        if self._batches.alone:
            self._batches.refused()
        relay.sent -= 1
        self._give_up(relay, index, failure_of(error))

    def _is_blameless(self, error: KafkaException) -> bool:
        """Whether the record that was refused with this error may go again."""
        not_sent = self._gapless and error.args[0].code() in _NOT_SENT
        if self._batches.alone:
            return not_sent and self._producer.lost
        return not_sent or is_said_of_a_batch(error)

    def _give_up(self, relay: Relay, index: int, failure: Failure) -> None:
        relay.diverting += 1
        stop = self._fallback.take(relay.run, index, failure, partial(relay.divert, index))
        if stop is not None:
            relay.fail(index, stop)

    # From batches to single records and back

    def _regroup(self) -> None:
        """Goes on with another producer once the present one has nothing any more."""
        unanswered = sum(relay.sent for relay in self._relays)
        serve_reports(self._batching)  # it waits for its turn, and may have something to say
        if not unanswered:
            if self._halted:
                self._separate()
            elif not self._batches.room:
                self._unite()
            return
        quiet_ms = self._quiet_ms(unanswered)
        if self._halted and (self._gapless or self._producer.lost) and quiet_ms >= QUIET_MS:
            # Having failed, it gives back what is in its queue, but not what was on its way then and comes back into
            # that. When lost it gives back nothing by itself.
            self._producer.purge(in_flight=False, blocking=False)
        elif not self._halted and not self._batches.room and quiet_ms >= AWAY_MS:
            self._batches.prolong()  # what is for other brokers need not wait for it

    def _quiet_ms(self, unanswered: int) -> float:
        """For how long no answer has come."""
        steady_ms = self._clock.steady_ms()
        if unanswered != self._unanswered:
            self._unanswered, self._quiet_since_ms = unanswered, steady_ms
        return steady_ms - self._quiet_since_ms

    def _separate(self) -> None:
        if self._refusal is not None:
            self._events.batch_refused(reason_of(self._refusal), self._clock.steady_ms())
        if self._producer.lost:
            self._events.brokers_forgotten("SINK_TOPIC")
        if not self._batches.alone:
            self._batching = self._new_producer()  # it takes half a second to get its id
        too_large = self._refusal is not None and is_too_large(self._refusal)
        self._batches.separate(sum(relay.taken_back for relay in self._relays), too_large)
        self._producer = self._new_producer()
        self._refusal, self._halted = None, False
        for relay in self._relays:
            relay.repeat()

    def _unite(self) -> None:
        if self._batches.unite() or self._batching.lost:
            self._batching = self._new_producer()
        self._producer = self._batching

    def _new_producer(self) -> RelayProducer:
        gapless = {"enable.gapless.guarantee": self._gapless and not self._batches.alone}
        return RelayProducer({**self._batches.properties, **gapless}, self._logger)


def _is_news(record: logging.LogRecord) -> bool:
    """Not that the gap-less guarantee is experimental, which librdkafka says of it at each start since 2019."""
    return "enable.gapless.guarantee is experimental" not in record.getMessage()
