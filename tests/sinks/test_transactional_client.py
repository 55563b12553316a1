"""What is made of the client's answers; tests/kafka has the real ones."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from delayed_consumer.core.records import Partition
from delayed_consumer.errors import AuthError, FencedError
from delayed_consumer.sinks import transactional_client
from delayed_consumer.sinks.transactional_client import Result, Transaction, TransactionalClient, TransactionalId
from tests.loop.clock import ManualClock

ORDERS = Partition("orders", 0)


class ScriptedProducer:
    """Notes what is called; a call that is named in ``errors`` fails once with its error."""

    def __init__(self, properties: dict[str, Any], errors: dict[str, KafkaError]) -> None:
        self.on_error: Callable[[KafkaError], None] = properties["error_cb"]
        self.properties = properties
        self.errors = errors
        self.results: dict[str, list[int]] = {}  # what calls return one after the other; 0 without
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*_: object) -> int:
            self.calls.append(name)
            if name in self.errors:
                raise KafkaException(self.errors.pop(name))
            return self.results[name].pop(0) if self.results.get(name) else 0

        return call


class Bench:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, ours_alone: bool = True) -> None:
        monkeypatch.setattr(transactional_client, "make_producer", self._producer)
        self.errors: dict[str, KafkaError] = {}
        self.producers: list[ScriptedProducer] = []
        self.clock = ManualClock()
        id_ = TransactionalId("our-id", ours_alone)
        self.client = TransactionalClient(
            {"transaction.timeout.ms": 15_000}, id_, self.clock, logging.getLogger("client")
        )

    def _producer(self, properties: dict[str, Any], _: logging.Logger) -> ScriptedProducer:
        self.producers.append(ScriptedProducer(properties, self.errors))
        return self.producers[-1]

    def carry_out(self, write: Callable[..., None] = lambda *_: None) -> Transaction:
        if not self.client.prepared:
            self.client.prepare()
        transaction = Transaction({ORDERS: 1}, write)
        self.client.carry_out(transaction, b"member")
        return transaction


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    return partial(Bench, monkeypatch)


def test_the_offsets_go_before_the_records_and_the_commit_last(make: Callable[..., Bench]) -> None:
    bench = make()
    written: list[list[str]] = []
    transaction = bench.carry_out(lambda producer, _: written.append(list(producer.calls)))
    assert transaction.result is Result.COMMITTED
    assert written == [["init_transactions", "begin_transaction", "send_offsets_to_transaction"]]
    assert "commit_transaction" in bench.producers[-1].calls
    bench.carry_out()
    assert len(bench.producers) == 1


@pytest.mark.parametrize("code", [KafkaError._TIMED_OUT, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.UNKNOWN])
def test_after_an_unknown_outcome_the_producer_is_made_again(make: Callable[..., Bench], code: int) -> None:
    bench = make()
    bench.carry_out()
    bench.errors["commit_transaction"] = KafkaError(code)
    assert bench.carry_out().result is Result.UNKNOWN
    assert not bench.client.prepared
    assert "abort_transaction" not in bench.producers[-1].calls, "the commit may be on its way"
    assert bench.carry_out().result is Result.COMMITTED
    assert [one.calls[0] for one in bench.producers] == ["init_transactions"] * 2


@pytest.mark.parametrize(
    "refusal", [KafkaError._INCONSISTENT, KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.TOPIC_AUTHORIZATION_FAILED]
)
def test_what_fails_before_the_commit_is_aborted(make: Callable[..., Bench], refusal: int) -> None:
    bench = make()
    bench.errors["send_offsets_to_transaction"] = KafkaError(KafkaError.ILLEGAL_GENERATION)
    transaction = bench.carry_out()
    assert transaction.result is Result.ABORTED
    assert transaction.reason == KafkaError(KafkaError.ILLEGAL_GENERATION).str()
    assert "commit_transaction" not in bench.producers[-1].calls
    assert len(bench.producers) == 1
    bench.errors["commit_transaction"] = KafkaError(refusal)  # of a record or a topic: it is not sent
    assert bench.carry_out().result is Result.ABORTED


def test_a_producer_that_numbered_what_was_refused_is_made_again_after_the_abort(make: Callable[..., Bench]) -> None:
    """The brokers would miss that number in its next transaction."""
    bench = make()
    refused = ("record", KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)))
    assert bench.carry_out(lambda _, transaction: transaction.reported.append(refused)).result is Result.ABORTED
    bench.errors["commit_transaction"] = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
    assert bench.carry_out().result is Result.ABORTED
    assert [one.calls[-1] for one in bench.producers] == ["poll", "poll", "init_transactions"]
    assert all("abort_transaction" in one.calls for one in bench.producers[:2])
    assert bench.client.prepared, "at once"


def test_no_commit_waits_for_what_is_behind_a_refused_record(make: Callable[..., Bench]) -> None:
    bench = make()

    def refuse(producer: ScriptedProducer, _: Transaction) -> None:
        producer.results["flush"] = [3] * 100
        bench.errors["begin_transaction"] = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)

    assert bench.carry_out(refuse).result is Result.ABORTED
    assert bench.producers[0].calls.count("flush") == 1
    assert "commit_transaction" not in bench.producers[0].calls


def test_brokers_that_are_slow_are_waited_for(make: Callable[..., Bench]) -> None:
    bench = make()

    def be_slow(producer: ScriptedProducer, _: Transaction) -> None:
        producer.results["flush"] = [3, 2, 1]
        bench.errors["begin_transaction"] = KafkaError(KafkaError._STATE)

    assert bench.carry_out(be_slow).result is Result.COMMITTED
    assert bench.producers[0].calls.count("flush") == 4


def test_the_next_transaction_may_have_another_producer(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.carry_out()
    bench.client.replace({"batch.size": 1})
    assert bench.carry_out().result is Result.COMMITTED
    assert [one.properties.get("batch.size") for one in bench.producers] == [None, 1]


def test_a_client_that_was_left_behind_takes_no_epoch_from_its_successor(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.carry_out()
    bench.client.successor().prepare()
    bench.client.replace({"batch.size": 1})
    assert [one.calls.count("init_transactions") for one in bench.producers] == [1, 1]


def test_a_successor_has_the_properties_that_were_to_come(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would have batches while what is refused counts as refused alone."""
    bench = make()

    def hang() -> None:
        bench.client.successor()

    monkeypatch.setattr(bench.client, "drop", hang)
    bench.client.replace({"transaction.timeout.ms": 15_000, "batch.size": 1})
    assert bench.producers[-1].properties["batch.size"] == 1


def test_a_producer_that_was_lost_is_not_made_again_before_its_time(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.carry_out()
    bench.client.drop()
    bench.client.replace({"batch.size": 1})
    assert not bench.client.prepared
    assert len(bench.producers) == 1


def test_with_a_refused_record_nothing_is_committed(make: Callable[..., Bench]) -> None:
    bench = make()
    transaction = bench.carry_out(lambda _, transaction: transaction.refused.append(("record", ValueError("no"))))
    assert (transaction.result, transaction.reason) == (Result.ABORTED, "no")
    assert "commit_transaction" not in bench.producers[-1].calls


def test_an_abort_that_fails_is_left_to_the_next_producer(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.errors["send_offsets_to_transaction"] = KafkaError(KafkaError._STATE)
    bench.errors["abort_transaction"] = KafkaError(KafkaError._TIMED_OUT)
    assert bench.carry_out().result is Result.ABORTED, "no commit was sent"
    assert not bench.client.prepared
    assert "commit_transaction" not in bench.producers[-1].calls


def test_a_producer_that_was_not_answered_is_made_again(make: Callable[..., Bench]) -> None:
    """Else its next call may never return."""
    bench = make()
    bench.errors["send_offsets_to_transaction"] = KafkaError(KafkaError._TIMED_OUT)
    assert bench.carry_out().result is Result.ABORTED
    assert not bench.client.prepared
    assert bench.carry_out().result is Result.COMMITTED
    assert len(bench.producers) == 2


def test_after_a_broken_connection_no_commit_can_come_late(make: Callable[..., Bench]) -> None:
    """The client may have sent the commit twice."""
    bench = make()
    bench.carry_out()
    bench.producers[-1].on_error(KafkaError(KafkaError._TRANSPORT))
    assert bench.carry_out().result is Result.COMMITTED
    assert not bench.client.prepared
    bench.carry_out()
    assert len(bench.producers) == 2


@pytest.mark.parametrize("call", ["begin_transaction", "send_offsets_to_transaction", "commit_transaction"])
def test_a_fenced_producer_says_whose_id_was_taken(make: Callable[..., Bench], call: str) -> None:
    bench = make(ours_alone=False)
    bench.errors[call] = KafkaError(KafkaError._FENCED)
    with pytest.raises(FencedError, match="our-id"):
        bench.carry_out()


@pytest.mark.parametrize("ours_alone", [True, False])
def test_only_an_id_of_ours_alone_outlives_a_transaction_that_the_brokers_ended(
    make: Callable[..., Bench], ours_alone: bool
) -> None:
    bench = make(ours_alone=ours_alone)
    bench.errors["commit_transaction"] = KafkaError(KafkaError._FENCED)

    def freeze(*_: object) -> None:
        bench.clock.advance(20_000)

    if ours_alone:
        assert bench.carry_out(freeze).result is Result.UNKNOWN
    else:
        with pytest.raises(FencedError):
            bench.carry_out(freeze)


def test_a_denied_id_ends_the_service(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.errors["init_transactions"] = KafkaError(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    with pytest.raises(AuthError, match="our-id"):
        bench.client.prepare()
