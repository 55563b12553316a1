"""The owner of the transactional producer: one transaction after the other, and what became of each.

Its methods wait for the brokers, so they are called on another thread than the loop's (see `transaction_thread`).
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from delayed_consumer.clock import Clock
from delayed_consumer.core.records import Partition
from delayed_consumer.errors import AuthError, ConfigError, FencedError
from delayed_consumer.sinks.relaying import LARGEST_MESSAGE_BYTES, is_said_of_a_batch, make_producer
from delayed_consumer.sinks.topic import producer_properties

# After that the brokers abort a transaction by themselves. Until then it holds up those who read committed records of
# the target, and whoever takes over our partitions, so it is short.
TRANSACTION_TIMEOUT_MS = 15_000
# The share of it that we give to a transaction, and to the abort of one: when the brokers are slow we must give up
# first, with an outcome that is unknown, and not find that they did, which looks as if another producer had our id.
OUR_SHARE = 1 / 3
INIT_SECONDS = 5.0
FLUSH_SECONDS = 0.02

_FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}
# Said of a record or a topic, so the client has not sent the commit.
_NOT_SENT = {
    KafkaError._INCONSISTENT,
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_MSG,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.POLICY_VIOLATION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
}
_DENIED = {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
}


@dataclass(frozen=True, slots=True)
class TransactionalId:
    """``ours_alone``: no other process can have it by accident."""

    name: str
    ours_alone: bool = False


def transactional_id(group: str, instance: str | None, given: str) -> TransactionalId:
    """The id by which the brokers know what a former life of this instance left open.

    With KAFKA_GROUP_INSTANCE_ID it is made of that: a restart aborts at once what its predecessor left open, and two
    processes with one instance id fence each other here as they do in the group. Without it nothing tells our
    successor from our neighbour, so every process has an id of its own: nobody is fenced by accident, and what a crash
    leaves open is aborted by the brokers after `TRANSACTION_TIMEOUT_MS`. ``given``, KAFKA_CONF_TRANSACTIONAL_ID,
    stands above both.
    """
    if given:
        return TransactionalId(given)
    if instance:
        return TransactionalId(f"{group}.{instance}")
    return TransactionalId(f"{group}.{uuid.uuid4()}", ours_alone=True)


def transactional_properties(
    client: Mapping[str, str | int | float | bool], id_: TransactionalId, limits_bytes: Collection[int]
) -> dict[str, str | int | float | bool]:
    """As a relay's, with a transactional id.

    ``limits_bytes``: of all topics that are written to. The smallest is that of a batch, which would be refused whole;
    a record is refused by none of them, as an operator may raise the limit of a dead-letter topic while we run.
    """
    relay = producer_properties({}, min(limits_bytes, default=None))
    del relay["message.timeout.ms"]  # not longer than the transaction's, which librdkafka sees to
    tuned: dict[str, str | int | float | bool] = {
        # A transaction that follows another one at once is told to try again: with the default of 100 ms there are 11
        # of them a second, so there are 100 and more.
        "retry.backoff.ms": 1,
        "retry.backoff.max.ms": 10,
        "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
        "message.max.bytes": LARGEST_MESSAGE_BYTES,
        "topic.metadata.propagation.max.ms": 2_000,  # that a topic is not there is said within a transaction's time
    }
    given = {**relay, **tuned, **client}
    # Some of the transactional calls do not mind the time that they are given, but only this one (librdkafka 2.16).
    longest_ms = OUR_SHARE * int(given["transaction.timeout.ms"])
    fixed: dict[str, str | int | float | bool] = {
        "transactional.id": id_.name,
        "socket.timeout.ms": round(min(int(given.get("socket.timeout.ms", longest_ms)), longest_ms)),
        "enable.idempotence": True,
        "acks": "all",
    }
    return {**given, **fixed}


class Result(Enum):
    """What has become of a transaction."""

    COMMITTED = auto()
    ABORTED = auto()  # nothing of it is visible, now or later; for certain when the next one may begin
    UNKNOWN = auto()  # to be asked, once the producer was made again


@dataclass(slots=True, eq=False)
class Transaction:
    """What is to be committed, and what became of it.

    Attributes:
        offsets: of the source.
        write: produces the records.
        refused: what the client did not take of them, by a name of the writer's. With one of these the transaction is
            aborted.
        reported: what a broker did not take, likewise.
        reason: why it was not committed.
        topic_denied: that it is for the lack of a right to one of the topics; the brokers do not say to which.
    """

    offsets: Mapping[Partition, int]
    write: Callable[[Producer, Transaction], None]
    refused: list[tuple[Any, Exception]] = field(default_factory=list)
    reported: list[tuple[Any, Exception]] = field(default_factory=list)
    result: Result | None = None
    reason: str = ""
    topic_denied: Exception | None = None


class TransactionalClient:
    """After an unknown outcome the producer is destroyed and made again with the same id, as librdkafka has no KIP-890.

    A commit that was given up may still be on its way, and would end a later transaction of the same producer in its
    middle. The new one's `init_transactions` ends what was open, and has the brokers refuse the late commit.
    """

    def __init__(
        self,
        properties: Mapping[str, str | int | float | bool],
        id_: TransactionalId,
        clock: Clock,
        logger: logging.Logger,
    ) -> None:
        """Raises ConfigError for properties that do not go together."""
        self._properties = dict(properties)
        self._id = id_
        self._clock = clock
        self._logger = logger
        self._timeout_ms = float(str(properties["transaction.timeout.ms"]))
        self._patience_seconds = OUR_SHARE * self._timeout_ms / 1000
        self._producer: Producer | None = self._new_producer()
        self._disturbed = False
        self._succeeded = False
        self._begun_ms = 0.0
        self.prepared = False

    @property
    def longest_ms(self) -> float:
        """No method of ours takes longer, in milliseconds, unless the client has lost a call: `carry_out` is a
        transaction, its abort and perhaps another producer."""
        return self._timeout_ms + max(self._timeout_ms, 2_000 * INIT_SECONDS)

    def successor(self) -> TransactionalClient:
        """Another one under the same id, for when a call of this one does not return. If it does after all, this one
        takes no new epoch, by which the brokers would fence the successor."""
        self._succeeded = True
        return TransactionalClient(self._properties, self._id, self._clock, self._logger)

    def prepare(self) -> None:
        """Ends what is left open under our id; afterwards we are `prepared`, unless the brokers did not answer.

        Raises:
            FencedError: another producer has taken our id.
            AuthError: the brokers do not permit it.
            ConfigError: the brokers do not take a property.
        """
        if self._producer is None:
            self._producer = self._new_producer()
        try:
            self._producer.init_transactions(INIT_SECONDS)
        except KafkaException as error:
            self._lose(error.args[0], late=False)
            return
        self._disturbed = False
        self.prepared = True

    def replace(self, properties: Mapping[str, Any]) -> None:
        """Goes on with a producer of these properties. Between transactions only. Raises as `prepare`."""
        prepared = self.prepared
        self._properties = dict(properties)
        self.drop()
        if prepared and not self._succeeded:  # else the former was lost, and the next one has to wait
            self.prepare()

    def carry_out(self, transaction: Transaction, membership: object) -> None:
        """``membership``: by it the brokers refuse the offsets of a process whose partitions are somebody else's.

        Raises FencedError and AuthError as `prepare` does.
        """
        producer = self._producer
        assert producer is not None, "not prepared"
        self._begun_ms = self._clock.steady_ms()
        try:
            # The offsets first: a transaction that follows another one at once is told to wait for the end of that one,
            # and librdkafka asks again after a millisecond for offsets, but after 20 for records.
            producer.begin_transaction()
            producer.send_offsets_to_transaction(_at(transaction.offsets), membership, self._left_seconds())
            transaction.write(producer, transaction)
            self._flush(producer)
            if not transaction.refused and not transaction.reported:
                self._commit(producer, transaction)
                return
            error = None
        except KafkaException as exception:
            error = exception.args[0]
        self._abort(producer, transaction, error)

    def drop(self) -> None:
        """Lets go of the producer, at once; what it has open is not ended."""
        self.prepared = False
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            with suppress(KafkaException):  # it says once more what it died of
                producer.poll(0)  # else what the purged records carry would be leaked

    def _flush(self, producer: Producer) -> None:
        """Raises KafkaException when a broker has refused something: a commit would wait in vain for what was behind
        it, and its outcome would be unknown."""
        while producer.flush(min(FLUSH_SECONDS, self._left_seconds())) and self._left_seconds() > FLUSH_SECONDS:
            try:
                producer.begin_transaction()  # refused in any case, with what has failed if anything has
            except KafkaException as error:
                if error.args[0].code() != KafkaError._STATE:
                    raise

    def _commit(self, producer: Producer, transaction: Transaction) -> None:
        """Raises KafkaException when it was not sent. Whatever another error says, the commit may be on its way."""
        try:
            producer.commit_transaction(self._left_seconds())
        except KafkaException as error:
            if error.args[0].code() in _NOT_SENT:
                raise
            transaction.result, transaction.reason = Result.UNKNOWN, error.args[0].str()
            self._lose(error.args[0], self._is_late())
            return
        transaction.result = Result.COMMITTED
        with suppress(KafkaException):
            producer.poll(0)
        if self._disturbed:
            # A connection broke meanwhile: librdkafka may have sent the commit again, and the first one could still
            # arrive, as after a time-out.
            self.drop()

    def _abort(self, producer: Producer, transaction: Transaction, error: KafkaError | None) -> None:
        """``error`` None: records were refused. No commit was sent, so whatever fails here, nothing is committed: what
        stays open is aborted when the producer is made again, before the next transaction begins."""
        transaction.result = Result.ABORTED
        transaction.reason = str((transaction.refused + transaction.reported)[0][1]) if error is None else error.str()
        if error is not None and error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            transaction.topic_denied = KafkaException(error)
        # After a call that was given up, the same call of a later transaction may never return (librdkafka 2.16).
        given_up = self._disturbed or (error is not None and error.code() == KafkaError._TIMED_OUT)
        if error is not None and (given_up or error.fatal() or error.code() in _FENCED):
            self._lose(error, self._is_late())
            return
        try:
            producer.abort_transaction(self._patience_seconds)
        except KafkaException as aborting:
            self._lose(aborting.args[0], self._is_late())
        if transaction.reported or (error is not None and is_said_of_a_batch(KafkaException(error))):
            # It has numbered what was refused: the brokers would miss that in its next transaction (librdkafka 2.16).
            self.replace(self._properties)
        if error is not None and error.code() in _DENIED:
            raise AuthError(f"the brokers refuse our transactions: {error.str()}")

    def _is_late(self) -> bool:
        """Whether the transaction was open for so long that the brokers have ended it."""
        return self._passed_ms() >= self._timeout_ms

    def _lose(self, error: KafkaError, late: bool) -> None:
        """Raises what ends the service. A transaction that was ended by the brokers (``late``) looks as if we were
        fenced."""
        self.drop()
        if error.code() in _FENCED and not (late and self._id.ours_alone):
            raise FencedError(f"another producer has our transactional id {self._id.name}: {error.str()}")
        if error.code() in _DENIED:
            raise AuthError(f"the brokers refuse transactions under our id {self._id.name}: {error.str()}")
        if error.code() == KafkaError.INVALID_TRANSACTION_TIMEOUT:
            raise ConfigError([f"KAFKA_CONF_TRANSACTION_TIMEOUT_MS: {error.str()}"])

    def _passed_ms(self) -> float:
        return self._clock.steady_ms() - self._begun_ms

    def _left_seconds(self) -> float:
        return max(0.001, self._patience_seconds - self._passed_ms() / 1000)

    def _new_producer(self) -> Producer:
        return make_producer({**self._properties, "error_cb": self._on_error}, self._logger)

    def _on_error(self, _: KafkaError) -> None:
        self._disturbed = True


def _at(offsets: Mapping[Partition, int]) -> list[TopicPartition]:
    return [TopicPartition(*partition, offset) for partition, offset in offsets.items()]
