"""Writes the records of a transaction, on the transactions' thread, and finds those that are not taken."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from delayed_consumer.failures import Forward
from delayed_consumer.sinks.relayed_run import Part, RelayedRun
from delayed_consumer.sinks.relaying import Forwarding, Relaying, Report
from delayed_consumer.sinks.transactional_client import Transaction

# What ends a record's delivery and is not its fault: the next transaction may take it.
_NOT_ITS_FAULT = {
    KafkaError._PURGE_QUEUE,
    KafkaError._PURGE_INFLIGHT,
    KafkaError._STATE,
    KafkaError._TIMED_OUT,
    KafkaError._MSG_TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._FATAL,
    KafkaError._FENCED,
    KafkaError._INCONSISTENT,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.INVALID_TXN_STATE,
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
    KafkaError.UNKNOWN_PRODUCER_ID,
    KafkaError.INVALID_PRODUCER_ID_MAPPING,
}


class TransactionWriter:
    """What can be relayed goes to the target, what has failed to where its fate says."""

    def __init__(self, relaying: Relaying, forwarding: Forwarding) -> None:
        self._relaying = relaying
        self._forwarding = forwarding

    def write(self, parts: Iterable[Part], with_reports: bool, producer: Producer, transaction: Transaction) -> None:
        """With a record that is not taken the transaction is aborted. The others are tried all the same, so that the
        next one knows of all of them.

        ``with_reports``: also of those that a broker refuses; it costs as much as producing.
        """
        for relay, first, end in parts:
            report = partial(self._report, transaction, relay) if with_reports else None
            while first < end:
                first, error = self._write_some(producer, relay, first, end, report)
                if error is not None:
                    _raise_unless_refused(error)
                    transaction.refused.append(((relay, first), error))
                    first += 1

    def _write_some(
        self, producer: Producer, relay: RelayedRun, first: int, end: int, report: Report | None
    ) -> tuple[int, Exception | None]:
        """The record at ``first`` if it has failed, else those up to the next that has."""
        if first not in relay.failed:
            end = min(end, relay.next_failed(first))
            return self._relaying.produce(producer, relay.run, first, end, relay.delivered_ms, report)
        failure, fate = relay.failed[first]
        if isinstance(fate, Forward):
            try:
                own = partial(report, first) if report is not None else None
                self._forwarding.produce(producer, relay.run, first, failure, fate.topic, own)
            except (BufferError, KafkaException, ValueError) as error:
                return first, error
        return first + 1, None

    def _report(
        self, transaction: Transaction, relay: RelayedRun, index: int, error: KafkaError | None, _: Message
    ) -> None:
        if error is not None and error.code() not in _NOT_ITS_FAULT:
            transaction.reported.append(((relay, index), KafkaException(error)))


def _raise_unless_refused(error: Exception) -> None:
    """What has nothing to do with the record: there is no room, or the transaction has failed already."""
    if isinstance(error, BufferError):
        raise KafkaException(KafkaError(KafkaError._QUEUE_FULL)) from error
    if isinstance(error, KafkaException) and error.args[0].code() in _NOT_ITS_FAULT:
        raise error
