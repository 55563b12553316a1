"""Writes replayed records; the producers of the replay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from delayed_consumer.dead_letters.interrupt import Interrupt
from delayed_consumer.dead_letters.letters import DeadLetter
from delayed_consumer.dead_letters.targets import NOW, Target
from delayed_consumer.errors import ServiceError
from delayed_consumer.origin import Origin
from delayed_consumer.probe.connection import ClientProperties, Connection, silent_logger
from delayed_consumer.sinks.relaying import LARGEST_MESSAGE_BYTES, make_producer

Answer = Callable[[str | None], None]

_TURN_S = 0.1
_LAST_ANSWERS_S = 5.0
_USUAL_BATCH_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Sending:
    """A dead letter, and where it goes."""

    letter: DeadLetter
    origin: Origin
    target: Target
    timestamp_ms: int

    @property
    def renewed(self) -> bool:
        """Whether it gets a timestamp, other than of now, that is not its own."""
        return self.timestamp_ms > max(NOW, self.origin.timestamp_ms)


class Outbox(Protocol):
    """Takes what is replayed."""

    def send(self, sending: Sending, answer: Answer) -> None:
        """``answer`` is called, now or later, with None when it is acknowledged, else with why it was refused.

        Never called for what is not known to be the one or the other. Raises ServiceError when the brokers are away.
        """

    def finish(self) -> None:
        """Waits for the answers. Raises as `send` does."""

    def abandon(self) -> None:
        """Takes the last answers of what is on its way, and keeps back what is not."""


class Nowhere:
    """A dry run's: everything is taken and nothing written."""

    def send(self, sending: Sending, answer: Answer) -> None:  # noqa: ARG002
        answer(None)

    def finish(self) -> None:
        pass

    def abandon(self) -> None:
        pass


class ProducerOutbox:
    """Idempotent and acknowledged by all in-sync replicas: in order, nothing lost, nothing twice by a retry.

    Memory is bounded by the producers' queues. Topics with the same limit of size share a producer: a batch beyond it
    would be refused whole, with the small records in it.
    """

    def __init__(self, properties: ClientProperties, patience_s: float, interrupt: Interrupt) -> None:
        """``patience_s``: how long a record may wait for its acknowledgement; then the brokers count as away."""
        self._properties = properties
        self._patience_s = patience_s
        self._interrupt = interrupt
        self._connection = Connection(str(properties.get("bootstrap.servers", "")))
        self._producers: dict[int, Producer] = {}
        self._outage: ServiceError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for producer in self._producers.values():
            producer.purge()
            producer.flush(_TURN_S)

    def send(self, sending: Sending, answer: Answer) -> None:
        producer = self._producer(sending.target.max_message_bytes or _USUAL_BATCH_BYTES)
        while not self._interrupt.came:
            try:
                self._produce(producer, sending, answer)
                self._serve(producer, 0)
                return
            except BufferError as error:
                if not len(producer):
                    answer(f"larger than the client's queue: {error}")
                    return
                self._serve(producer, _TURN_S)
            except KafkaException as error:
                self._take_answer(answer, error.args[0])
                return
            except (ValueError, OverflowError) as error:
                answer(str(error))
                return

    def finish(self) -> None:
        for producer in self._producers.values():
            while len(producer) and not self._interrupt.came:
                producer.flush(_TURN_S)
                self._raise_if_away()

    def abandon(self) -> None:
        for producer in self._producers.values():
            producer.purge(in_queue=True, in_flight=self._outage is not None)
            producer.flush(_LAST_ANSWERS_S)

    def _produce(self, producer: Producer, sending: Sending, answer: Answer) -> None:
        def report(error: KafkaError | None, _: Message) -> None:
            self._take_answer(answer, error)

        producer.produce(
            sending.target.topic,
            value=sending.letter.value,
            key=sending.letter.key,
            partition=sending.target.partition(sending.origin),
            timestamp=sending.timestamp_ms,
            headers=list(sending.origin.headers),
            on_delivery=report,
        )

    def _take_answer(self, answer: Answer, error: KafkaError | None) -> None:
        if error is None:
            answer(None)
        elif error.code() in _AWAY:
            self._outage = self._outage or self._connection.translated(error)
        elif error.code() not in _KEPT_BACK:
            answer(error.str())

    def _serve(self, producer: Producer, timeout_s: float) -> None:
        producer.poll(timeout_s)
        self._raise_if_away()

    def _raise_if_away(self) -> None:
        self._connection.raise_if_denied()
        if self._outage is not None:
            raise self._outage

    def _producer(self, batch_bytes: int) -> Producer:
        if batch_bytes not in self._producers:
            properties = {
                **replay_properties(self._properties, batch_bytes, self._patience_s),
                "error_cb": self._on_error,
            }
            self._producers[batch_bytes] = make_producer(properties, silent_logger())
        return self._producers[batch_bytes]

    def _on_error(self, error: KafkaError) -> None:
        if error.code() != KafkaError.TOPIC_AUTHORIZATION_FAILED:  # the answers of that topic's records say it too
            self._connection.on_error(error)


def replay_properties(
    client: ClientProperties, batch_bytes: int, patience_s: float
) -> dict[str, str | int | float | bool | Callable[[KafkaError], None]]:
    """The producer's properties: ours where a promise depends on them, then the user's, then tuned defaults."""
    tuned: dict[str, str | int | float | bool] = {
        "linger.ms": 5,
        "partitioner": "murmur2_random",  # as Kafka's own producers: same key, same partition
        "message.timeout.ms": round(patience_s * 1000),
        "topic.metadata.propagation.max.ms": 5_000,  # that a topic was deleted is said after that, not after 30 s
        "queue.buffering.max.messages": 20_000,
        "queue.buffering.max.kbytes": 65_536,
        "message.max.bytes": LARGEST_MESSAGE_BYTES,
        "batch.size": max(1, min(_USUAL_BATCH_BYTES, batch_bytes)),
    }
    return {**tuned, **client, "enable.idempotence": True, "acks": "all"}


# Nothing is known of a record that gets one of these, and the next one would get it too.
_AWAY = {
    KafkaError._MSG_TIMED_OUT,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._FATAL,
    KafkaError._STATE,
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
}
_KEPT_BACK = {KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT}
