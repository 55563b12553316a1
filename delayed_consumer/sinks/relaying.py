"""What a relayed record looks like, and what its refusal means, for the sinks that write to topics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import repeat
from typing import Any, Literal

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from delayed_consumer.broker_watch import STATISTICS_INTERVAL_MS, BrokerWatch
from delayed_consumer.core.records import Run
from delayed_consumer.errors import ConfigError
from delayed_consumer.failures import Failure, Kind
from delayed_consumer.origin import Origins

LARGEST_MESSAGE_BYTES = 1_000_000_000  # the client's own limit: the topics judge, not we
_ANY_PARTITION = -1
# What a batch of one record, and each header, has on the wire beside the user's bytes; at most.
_FRAME_BYTES = 128
_HEADER_FRAME_BYTES = 10
_AMPLE_BYTES = 1_024  # frame and our own headers: a record this much below the limit need not be measured

Report = Callable[[int, KafkaError | None, Message], None]
OneReport = Callable[[KafkaError | None, Message], None]


class Relaying:
    """Copies records into the target topic: key, value and headers byte for byte, with their origin behind."""

    def __init__(
        self,
        topic: str,
        partitions: int,
        timestamp: Literal["delivery", "source"],
        origins: Origins,
        max_message_bytes: int | None = None,
    ) -> None:
        """``partitions``: how many the target has. ``max_message_bytes``: records beyond it are refused here; None
        leaves that to the producer."""
        self._topic = topic
        self._partitions = partitions
        self._keeps_timestamp = timestamp == "source"
        self._origins = origins
        self._max_bytes = max_message_bytes

    def produce(
        self, producer: Producer, run: Run, first: int, end: int, delivered_ms: float, report: Report | None
    ) -> tuple[int, Exception | None]:
        """Hands over the records of ``run`` from index ``first`` up to ``end``; ``report`` gets the index of each
        when its fate is known; None saves half of what producing costs.

        Returns the index of the first one that was not taken, and why: a BufferError where there is no room for it
        yet, else what speaks against the record itself. Column by column: what is done for each record in Python costs
        more than the client's own part.
        """
        fitting = min(self._too_large(run, first, end), default=end)
        taken = first
        try:
            if first < fitting:
                for _ in self._calls(producer, run, first, fitting, delivered_ms, report):
                    taken += 1
        except (BufferError, KafkaException, ValueError) as error:
            return taken, error
        return fitting, KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)) if fitting < end else None

    def _calls(
        self, producer: Producer, run: Run, first: int, end: int, delivered_ms: float, report: Report | None
    ) -> Iterator[None]:
        """Each hands over a record when it is asked for."""
        messages = run.messages[first:end]
        message = type(messages[0])
        keys = list(map(message.key, messages))
        source_partitions, timestamps_ms, headers = self._origins.relayed(run, first, end)
        return map(
            producer.produce,
            repeat(self._topic),
            map(message.value, messages),
            keys,
            self._target_partitions(source_partitions, keys),
            repeat(None) if report is None else map(partial, repeat(report), range(first, end)),
            repeat(None),
            # 0 means now to the client
            map(max, repeat(0), timestamps_ms) if self._keeps_timestamp else repeat(int(delivered_ms)),
            headers,
        )

    def _too_large(self, run: Run, first: int, end: int) -> Sequence[int]:
        """Which records are. The size in memory, which is more than that on the wire, clears nearly all at once."""
        limit = self._max_bytes
        if limit is None or max(run.sizes[first:end]) <= limit - _AMPLE_BYTES:
            return ()
        return [index for index in range(first, end) if self._wire_bytes(run, index) > limit]

    def _wire_bytes(self, run: Run, index: int) -> int:
        message: Message = run.messages[index]
        (headers,) = self._origins.relayed(run, index, index + 1).headers
        names_and_values = sum(_HEADER_FRAME_BYTES + len(name.encode()) + len(value or b"") for name, value in headers)
        return _FRAME_BYTES + len(message.key() or b"") + len(message.value() or b"") + names_and_values

    def _target_partitions(self, source_partitions: Sequence[int], keys: Sequence[bytes | None]) -> Iterable[int]:
        """By the key where there is one; else the source's own partition where the target has it."""
        return [
            number if key is None and number < self._partitions else _ANY_PARTITION
            for number, key in zip(source_partitions, keys, strict=True)
        ]


class Forwarding:
    """Writes records that failed to retry topics and to the dead-letter topic."""

    def __init__(self, partitions: Mapping[str, int], origins: Origins) -> None:
        """``partitions``: how many each of these topics has."""
        self._partitions = partitions
        self._origins = origins

    def produce(
        self, producer: Producer, run: Run, index: int, failure: Failure, topic: str, report: OneReport | None
    ) -> None:
        """To the partition that the record came from where the topic has it, with the time of now: a retry's delay
        begins with it. Raises BufferError, KafkaException or ValueError when it is not taken."""
        message: Message = run.messages[index]
        number = run.partition.number
        headers: Any = self._origins.of(run, index).after(failure)
        producer.produce(
            topic,
            message.value(),
            message.key(),
            number if number < self._partitions.get(topic, 0) else _ANY_PARTITION,
            report,
            headers=headers,
        )


def make_producer(properties: Mapping[str, Any], logger: logging.Logger) -> Producer:
    """Without statistics: they would pile up in one that is not polled all the time.

    Raises ConfigError for properties that do not go together.
    """
    with _refused_as_settings():
        return Producer({**properties, "statistics.interval.ms": 0}, logger=logger)


class RelayProducer(Producer):
    """A producer that knows whether it is lost (see `BrokerWatch`), if it is polled all the time."""

    def __init__(self, properties: Mapping[str, Any], logger: logging.Logger) -> None:
        """Raises ConfigError for properties that do not go together."""
        self.watch = BrokerWatch()
        statistics = {"statistics.interval.ms": STATISTICS_INTERVAL_MS, "stats_cb": self.watch.look}
        with _refused_as_settings():
            super().__init__({**statistics, **properties}, logger=logger)

    @property
    def lost(self) -> bool:
        return self.watch.lost


@contextmanager
def _refused_as_settings() -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        raise ConfigError([f"KAFKA_CONF_*: {reason_of(error)}"]) from error


def serve_reports(producer: RelayProducer) -> bool:
    """Calls back for what was acknowledged or refused. Never blocks.

    Returns whether the producer has failed for good: it takes and sends nothing any more. That it has met an error
    which is fatal it says once, and in the log.
    """
    try:
        producer.poll(0)
    except KafkaException:
        return True
    return producer.lost


def abandon(producer: RelayProducer) -> None:
    """Gives up what is not acknowledged, and calls back for it. It may still arrive."""
    producer.purge()
    serve_reports(producer)  # not left to flush: it would go on calling back with a fatal error raised (2.16)
    with suppress(KafkaException):
        producer.flush(1)


_TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}
# Of all other refusals every record would be refused: no right to write, no such topic.
_RECORD_IS_WRONG = {
    *_TOO_LARGE,
    KafkaError.INVALID_MSG,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError._INVALID_ARG,
}
# A broker says it of all records of a batch, though it may be the fault of one of them or of none.
_SAID_OF_A_BATCH = {*_RECORD_IS_WRONG, KafkaError._INVALID_DIFFERENT_RECORD}


def is_said_of_a_batch(error: Exception) -> bool:
    """Whether the report that a broker refused a record with this error says nothing of it, unless it was alone."""
    return isinstance(error, KafkaException) and error.args[0].code() in _SAID_OF_A_BATCH


def is_too_large(error: Exception) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() in _TOO_LARGE


def failure_of(error: Exception) -> Failure:
    """What the producer or a broker has against a record, sorted by who must act."""
    wrong = not isinstance(error, KafkaException) or error.args[0].code() in _RECORD_IS_WRONG
    return Failure(reason_of(error), Kind.MESSAGE if wrong else Kind.FATAL)


def reason_of(error: Exception) -> str:
    return error.args[0].str() if isinstance(error, KafkaException) else str(error)
