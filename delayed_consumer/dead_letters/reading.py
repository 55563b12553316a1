"""Reads the dead-letter topic from given offsets to given offsets, outside every group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Self, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from delayed_consumer.dead_letters.letters import DeadLetter
from delayed_consumer.dead_letters.selection import Span
from delayed_consumer.errors import ConfigError
from delayed_consumer.probe.connection import ClientProperties, Connection, is_denial, silent_logger

Answer = TypeVar("Answer")

_BATCH = 500
_TURN_S = 0.1
_FIRST, _END = -2, -1  # the times by which the protocol asks for the ends of a log

_PROPERTIES: ClientProperties = {
    "group.id": "delayed-consumer-dead-letters",  # the client wants one; nobody joins it
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    "auto.offset.reset": "earliest",  # what was deleted meanwhile is skipped
    "allow.auto.create.topics": False,
    "fetch.queue.backoff.ms": 2,
    "fetch.wait.max.ms": 10,
    "queued.max.messages.kbytes": 16_384,
    "message.max.bytes": 1_000,  # it sends none, and the client wants fetch.max.bytes to be at least this
}


class Reader:
    """A consumer that joins no group and commits nothing.

    Every method raises:
        AuthError: the topic may not be read.
        UnreachableError: nothing came for ``patience_s``.
    """

    def __init__(self, client: ClientProperties, topic: str, patience_s: float) -> None:
        """Raises ConfigError for properties that do not go together."""
        self._topic = topic
        self._patience_s = patience_s
        self._connection = Connection(str(client.get("bootstrap.servers", "")))
        properties = {**client, **_PROPERTIES, "error_cb": self._connection.on_error}
        try:
            self._consumer = Consumer(properties, logger=silent_logger())
        except KafkaException as error:
            raise ConfigError([f"KAFKA_CONF_*: {error.args[0].str()}"]) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def ranges(self, partitions: int) -> dict[int, tuple[int, int]]:
        """The first offset of each partition, and where its committed records end."""
        firsts, ends = (self._look_up(partitions, when) for when in (_FIRST, _END))
        return {number: (first, ends[number]) for number, first in firsts.items()}

    def read(self, spans: Iterable[Span], stopped: Callable[[], bool] = lambda: False) -> Iterator[DeadLetter]:
        """The committed records, span by span in the order of their offsets, until that or ``stopped``."""
        for span in spans:
            yield from self._read(span, stopped)

    def _read(self, span: Span, stopped: Callable[[], bool]) -> Iterator[DeadLetter]:
        self._consumer.assign([TopicPartition(self._topic, span.partition, span.first)])
        for message in self._until_silent(stopped):
            position = int(message.offset() or 0)
            if message.error() is None:
                if position < span.end:
                    yield DeadLetter.of(message)
                position += 1
            # The last offsets may be those of transaction markers, which no message has; then the log's end is told.
            if position >= span.end:
                return

    def _until_silent(self, stopped: Callable[[], bool]) -> Iterator[Message]:
        """Messages, and the ends of the log as messages with an error."""
        silent_s = 0.0  # not a moment: who takes the messages may be slow
        while silent_s < self._patience_s:
            if stopped():
                return
            messages = self._consume()
            silent_s = 0.0 if messages else silent_s + _TURN_S
            yield from messages
        raise self._connection.translated(KafkaError(KafkaError._TIMED_OUT), f"the topic {self._topic}")

    def _consume(self) -> list[Message]:
        # Not consume(n, timeout): it waits for all n or the whole timeout (confluent-kafka 2.16).
        message = self._consumer.poll(_TURN_S)
        self._connection.raise_if_denied()
        if message is None:
            return []
        return [one for one in (message, *self._consumer.consume(_BATCH, 0)) if self._is_news(one)]

    def _is_news(self, message: Message) -> bool:
        error = message.error()
        # The client looks for the coordinator of the group that nobody joins.
        if error is not None and is_denial(error) and error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
            raise self._connection.translated(error, f"the topic {self._topic}")
        return error is None or error.code() == KafkaError._PARTITION_EOF

    def _look_up(self, partitions: int, when: int) -> dict[int, int]:
        question = [TopicPartition(self._topic, number, when) for number in range(partitions)]
        answers = self._answered(lambda: self._consumer.offsets_for_times(question, timeout=self._patience_s))
        for one in answers:
            if one.error is not None:
                raise self._connection.translated(one.error, f"the topic {self._topic}")
        return {one.partition: one.offset for one in answers}

    def _answered(self, ask: Callable[[], Answer]) -> Answer:
        try:
            return ask()
        except KafkaException as error:
            self._consumer.poll(0)
            self._connection.raise_if_denied()
            raise self._connection.translated(error.args[0], f"the topic {self._topic}") from error
