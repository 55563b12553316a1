"""Writes records that failed to retry topics and to the dead-letter topic, until each is acknowledged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message

from delayed_consumer.clock import Clock
from delayed_consumer.core.records import Partition, Run
from delayed_consumer.events import Events
from delayed_consumer.failures import Failure, Forward
from delayed_consumer.origin import Origins
from delayed_consumer.sinks.batches import Batches
from delayed_consumer.sinks.relaying import (
    LARGEST_MESSAGE_BYTES,
    Forwarding,
    RelayProducer,
    abandon,
    is_said_of_a_batch,
    serve_reports,
)
from delayed_consumer.sinks.topic import producer_properties

FIRST_WAIT_MS = 1_000.0
LONGEST_WAIT_MS = 60_000.0
SILENCE_MS = 10_000.0  # after that without an acknowledgement it is said
RETIRED_MS = 5_000.0  # what is on its way may arrive that long; to send it again could make it arrive twice


def forwarder_properties(
    client: Mapping[str, str | int | float | bool], smallest_limit_bytes: int | None
) -> dict[str, str | int | float | bool]:
    """As a relay's, but for the size of a record.

    The client itself refuses none: the topics do, and an operator may raise their limits while we run.
    ``smallest_limit_bytes``: of the topics written to, None when it could not be asked.
    """
    tuned: dict[str, str | int | float | bool] = {
        "queue.buffering.max.kbytes": 2_147_483_647,  # bounded by the hold, which counts what is in flight
        "topic.metadata.propagation.max.ms": 5_000,  # that a topic was deleted is said after that, not after 30 s
    }
    return {
        **tuned,
        **producer_properties(client, smallest_limit_bytes),
        "message.max.bytes": LARGEST_MESSAGE_BYTES,
    }


@dataclass(slots=True, eq=False)
class _Parcel:
    """A record on its way. ``number`` ascends in the order that they were handed over."""

    number: int
    run: Run
    index: int
    failure: Failure
    to: Forward
    acknowledged: Callable[[], None]


@dataclass(slots=True)
class _Jam:
    """What a partition has that was refused, and what waits behind it; the first one is tried again alone."""

    again_ms: float
    wait_ms: float = FIRST_WAIT_MS
    parcels: list[_Parcel] = field(default_factory=list)
    tried: _Parcel | None = None


class KafkaForwarder:
    """Each record goes to the partition of the number that it came from, or by its key where the topic has fewer.

    What the topic does not take blocks the partition it came from, and no other: it is tried again after 1 s, then
    ever more seldom up to every 60 s, until somebody has mended what is wrong. Nothing is dropped.
    """

    def __init__(
        self,
        properties: Mapping[str, str | int | float | bool],
        partitions: Mapping[str, int],
        origins: Origins,
        clock: Clock,
        events: Events,
        logger: logging.Logger,
    ) -> None:
        """``partitions``: how many the topics have. Raises ConfigError for properties that do not go together."""
        self._batches = Batches(properties)
        self._partitions = dict(partitions)
        self._forwarding = Forwarding(self._partitions, origins)
        self._clock = clock
        self._events = events
        self._logger = logger
        self._jams: dict[Partition, _Jam] = {}
        self._sent: dict[_Parcel, float] = {}  # and when; the first one has waited longest
        self._forwarded = 0
        self._closed = False
        self._producer = RelayProducer(self._batches.properties, self._logger)
        self._retired: list[tuple[RelayProducer, float]] = []  # and when what it still has is taken back

    def forward(self, run: Run, index: int, failure: Failure, to: Forward, acknowledged: Callable[[], None]) -> None:
        self._forwarded += 1
        self._enqueue(_Parcel(self._forwarded, run, index, failure, to, acknowledged))

    def serve(self) -> None:
        producer = self._producer
        if serve_reports(producer) and producer is self._producer:  # a report may have retired it
            if producer.lost:
                self._events.brokers_forgotten("retry topics, dead letters")
            self._retire_producer()
        if self._retired:
            self._serve_retired()
        if self._sent:
            self._say_silence()
        if self._jams:
            self._try_again()

    def close(self) -> None:
        self._closed = True
        for producer in (self._producer, *(retired for retired, _ in self._retired)):
            abandon(producer)

    def _enqueue(self, parcel: _Parcel) -> None:
        jam = self._jams.get(parcel.run.partition)
        if jam is None:
            self._send(parcel)
        else:
            jam.parcels.append(parcel)

    def _try_again(self) -> None:
        steady_ms = self._clock.steady_ms()
        for jam in list(self._jams.values()):
            if jam.tried is None and steady_ms >= jam.again_ms:
                jam.tried = min(jam.parcels, key=lambda one: one.number)
                jam.parcels.remove(jam.tried)
                self._send(jam.tried)

    def _say_silence(self) -> None:
        """Brokers that are away refuse nothing: the client waits for them."""
        steady_ms = self._clock.steady_ms()
        parcel, sent_ms = next(iter(self._sent.items()))
        if steady_ms - sent_ms >= SILENCE_MS:
            reason = f"not acknowledged for {(steady_ms - sent_ms) / 1000:.0f} s"
            self._events.cannot_forward(parcel.run, parcel.index, parcel.to.topic, reason, steady_ms)

    def _send(self, parcel: _Parcel) -> None:
        try:
            report = partial(self._report, parcel, self._producer, self._batches.alone)
            self._forwarding.produce(self._producer, parcel.run, parcel.index, parcel.failure, parcel.to.topic, report)
        except KafkaException as error:
            self._refused(parcel, self._producer, error.args[0])
        except (BufferError, ValueError) as error:
            self._jam(parcel, str(error))
        else:
            self._sent[parcel] = self._clock.steady_ms()

    def _report(
        self, parcel: _Parcel, producer: RelayProducer, alone: bool, error: KafkaError | None, _: Message
    ) -> None:
        self._sent.pop(parcel, None)
        if error is None:
            self._arrived(parcel)
        elif self._closed:
            return
        elif is_said_of_a_batch(KafkaException(error)) and not alone:
            self._refused_with_its_batch(parcel)
        else:
            self._refused(parcel, producer, error)

    def _arrived(self, parcel: _Parcel) -> None:
        parcel.acknowledged()
        jam = self._jams.get(parcel.run.partition)
        if jam is not None and jam.tried is parcel:
            del self._jams[parcel.run.partition]
            for one in sorted(jam.parcels, key=lambda one: one.number):
                self._enqueue(one)

    def _refused(self, parcel: _Parcel, producer: RelayProducer, error: KafkaError) -> None:
        if error.code() == KafkaError._UNKNOWN_PARTITION:
            self._partitions.pop(parcel.to.topic, None)  # it was made again with fewer: from now on by the key
        if producer is self._producer and not is_said_of_a_batch(KafkaException(error)):
            self._retire_producer()
        self._jam(parcel, error.str())

    def _refused_with_its_batch(self, parcel: _Parcel) -> None:
        """It goes again at once, alone, as all do from then on; what its partition forwards after it waits for it."""
        if not self._batches.alone:
            self._batches.separate(0, too_large=False)
            self._retire_producer(float("inf"))  # it has not failed: what it still has on its way will be answered
        jam = self._jams.setdefault(parcel.run.partition, _Jam(self._clock.steady_ms(), FIRST_WAIT_MS / 2))
        jam.parcels.append(parcel)
        if jam.tried is parcel:
            jam.tried = None

    def _jam(self, parcel: _Parcel, reason: str) -> None:
        """``parcel`` is tried again later, and whatever its partition forwards after it waits until it is taken."""
        steady_ms = self._clock.steady_ms()
        self._events.cannot_forward(parcel.run, parcel.index, parcel.to.topic, reason, steady_ms)
        jam = self._jams.setdefault(parcel.run.partition, _Jam(steady_ms + FIRST_WAIT_MS))
        jam.parcels.append(parcel)
        if jam.tried is parcel:
            jam.tried = None
            jam.wait_ms = min(2 * jam.wait_ms, LONGEST_WAIT_MS)
            jam.again_ms = steady_ms + jam.wait_ms

    def _retire_producer(self, take_back_after_ms: float = RETIRED_MS) -> None:
        """Goes on with another one; what the present one still has then is taken back and sent again.

        After TOPIC_AUTHORIZATION_FAILED an idempotent one may write nothing to that topic any more, without a word
        (librdkafka 2.16 on its mock cluster), after a fatal error nothing at all; and it does not soon look for a topic
        that was deleted.
        """
        self._retired.append((self._producer, self._clock.steady_ms() + take_back_after_ms))
        self._producer = RelayProducer(self._batches.properties, self._logger)

    def _serve_retired(self) -> None:
        steady_ms = self._clock.steady_ms()
        for one in list(self._retired):
            producer, end_ms = one
            serve_reports(producer)
            if producer.lost or steady_ms >= end_ms:
                producer.purge()  # this is reported as a refusal, so it is tried again
            if not len(producer):
                self._retired.remove(one)
