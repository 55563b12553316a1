"""What goes into a transaction, and what follows from its end; the brokers' part is in tests/kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Message

from delayed_consumer.core.records import Partition, Run
from delayed_consumer.delivery import ExactlyOnce
from delayed_consumer.dispatch import Dispatcher
from delayed_consumer.errors import FencedError, UnreachableError
from delayed_consumer.failures import Failure, FailurePolicy, Fate, Kind
from delayed_consumer.origin import Origins
from delayed_consumer.sinks import batches
from delayed_consumer.sinks.batches import ALONE_RECORDS, Batches
from delayed_consumer.sinks.pace import Pace
from delayed_consumer.sinks.relaying import Forwarding, Relaying, failure_of
from delayed_consumer.sinks.transaction_writer import TransactionWriter
from delayed_consumer.sinks.transactional_client import Result, Transaction, transactional_id, transactional_properties
from delayed_consumer.sinks.transactions import TransactionalSink
from tests.loop.clock import ManualClock
from tests.sinks.making import ORDERS, message, run_of

OTHER = Partition("orders", 4)
BATCH_BYTES = 8_000
TOO_LARGE = KafkaError.MSG_SIZE_TOO_LARGE


class FakeProducer:
    """Takes what is produced; a record whose value is in ``refused`` it refuses as its reason says."""

    def __init__(self) -> None:
        self.produced: list[tuple[str, bytes]] = []
        self.refused: dict[tuple[str, bytes], Exception] = {}
        self.reports: dict[bytes, Callable[[KafkaError, Message], None] | None] = {}  # by value, who gets the report

    def produce(
        self, topic: str, value: bytes, key: object, partition: int, report: Any, *_: object, headers: object = None
    ) -> None:
        if (topic, value) in self.refused:
            raise self.refused[topic, value]
        self.produced.append((topic, value))
        self.reports[value] = report


class FakeThread:
    """One transaction at a time, which ends when and as the test says."""

    def __init__(self) -> None:
        self.producer = FakeProducer()
        self.ready = True
        self.begun: list[tuple[Transaction, object]] = []
        self._ended: Transaction | Exception | None = None
        self.written: list[tuple[str, bytes]] = []
        self.batch_bytes: list[int] = []  # of every producer but the first
        self.closed = False

    def begin(self, transaction: Transaction, membership: object) -> None:
        assert self.ready, "one at a time"
        self.ready = False
        self.begun.append((transaction, membership))
        self.producer.produced = []
        transaction.write(self.producer, transaction)  # type: ignore[arg-type]
        self.written = self.producer.produced

    def end(self, result: Result | Exception, refused: Iterable[tuple[Any, Exception]] = ()) -> None:
        self.ready = True
        if isinstance(result, Exception):
            self._ended = result
            return
        transaction, _ = self.begun[-1]
        if transaction.refused and result is Result.COMMITTED:
            result = Result.ABORTED
        transaction.result, transaction.reason = result, result.name
        transaction.refused += refused
        self._ended = transaction

    def ended(self) -> Transaction | None:
        ended, self._ended = self._ended, None
        if isinstance(ended, Exception):
            raise ended
        return ended

    def replace_producer(self, properties: Mapping[str, Any]) -> None:
        assert self.ready, "not within a transaction"
        self.batch_bytes.append(properties["batch.size"])

    def close(self) -> None:
        self.closed = True


class FakeGroup:
    def __init__(self) -> None:
        self.membership: object | None = b"member"
        self.offsets: dict[Partition, int | None] = {}
        self.unreachable = False
        self.ended: list[tuple[Mapping[Partition, int], str | None]] = []

    def group_metadata(self) -> object | None:
        return self.membership

    def committed(self, partitions: Iterable[Partition], _: float) -> dict[Partition, int | None]:
        if self.unreachable:
            raise UnreachableError("nobody answers")
        return {one: self.offsets.get(one) for one in partitions}

    def transaction_ended(self, offsets: Mapping[Partition, int], error: str | None) -> None:
        self.ended.append((dict(offsets), error))


class FakeEvents:
    def __init__(self) -> None:
        self.said: list[tuple[str, int]] = []

    def failed(self, run: Run, index: int, failure: Failure, fate: Fate) -> None:
        self.said.append(("failed", run.offsets[index]))

    def batch_refused(self, reason: str, steady_ms: float) -> None:
        self.said.append(("batch_refused", 0))

    def skipped(self, run: Run, index: int) -> None:
        self.said.append(("skipped", run.offsets[index]))

    def forwarded(self, run: Run, index: int, to: object) -> None:
        self.said.append(("forwarded", run.offsets[index]))

    def cannot_ask(self, *_: object) -> None:
        self.said.append(("cannot_ask", 0))

    def cannot_forward(self, run: Run, index: int, *_: object) -> None:
        self.said.append(("cannot_forward", run.offsets[index]))


class Bench:
    def __init__(self, policy: FailurePolicy) -> None:
        self.thread, self.group, self.events, self.clock = FakeThread(), FakeGroup(), FakeEvents(), ManualClock()
        doubles: Any = self.thread, self.events
        thread, events = doubles
        origins = Origins()
        self.sink = TransactionalSink(
            thread,
            TransactionWriter(Relaying("target", 8, "delivery", origins), Forwarding({"dead": 8}, origins)),
            Pace(Batches({"batch.size": BATCH_BYTES})),
            policy,
            self.clock,
            events,
            passing_interval_ms=5_000,
        )
        self.sink.join(self.group)

    def deliver(self, *values: bytes, first_offset: int = 0, partition: Partition = ORDERS) -> Run:
        run = run_of(*map(message, values), first_offset=first_offset, partition=partition)
        self.sink.deliver(run, 0.0)
        return run

    def turn(self) -> list[tuple[int, bool]]:
        return [(one.done, one.goes_on) for one in self.sink.outcomes()]

    def end(self, result: Result = Result.COMMITTED) -> list[tuple[int, bool]]:
        self.thread.end(result)
        return self.turn()

    def abort(self) -> list[tuple[int, bool]]:
        """The next transaction has begun when this returns."""
        self.thread.end(Result.ABORTED)
        turned = self.turn()
        self.clock.advance(1_000)
        return turned + self.turn()

    def report(self, *values: bytes, code: int = TOO_LARGE) -> None:
        """A broker has refused the last records with these values."""
        for value in values:
            report = self.reports[value]
            assert report is not None, "nobody asked"
            report(KafkaError(code), message())

    @property
    def reports(self) -> Mapping[bytes, Callable[[KafkaError, Message], None] | None]:
        return self.thread.producer.reports

    def end_after(self, duration_ms: float) -> None:
        """The transaction that is on its way by then is committed."""

        def commit() -> None:
            self.thread.end(Result.COMMITTED)
            self.clock.wake()

        self.clock.after(duration_ms, commit)

    def deny_a_topic(self) -> None:
        self.thread.begun[-1][0].topic_denied = KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
        self.thread.end(Result.ABORTED)

    @property
    def offsets(self) -> Mapping[Partition, int]:
        return self.thread.begun[-1][0].offsets


@pytest.fixture
def bench() -> Bench:
    return Bench(FailurePolicy("stop"))


def values(bench: Bench) -> list[bytes]:
    return [value for _, value in bench.thread.written]


def test_what_waits_while_a_transaction_is_on_its_way_shares_the_next(bench: Bench) -> None:
    bench.deliver(b"0")
    assert bench.turn() == []
    for number in (1, 2, 3):
        bench.deliver(b"%d" % number, first_offset=number)
        assert bench.turn() == []
    assert values(bench) == [b"0"]
    queueing = [bench.sink.queueing]
    assert bench.end() == [(1, False)]
    assert values(bench) == [b"1", b"2", b"3"]
    assert bench.offsets == {ORDERS: 4}
    assert [*queueing, bench.sink.queueing] == [True, False]
    assert bench.end() == [(1, False)] * 3


def test_a_record_is_done_when_its_transaction_is_committed_and_not_before(bench: Bench) -> None:
    bench.deliver(b"0", b"1")
    assert bench.turn() == bench.turn() == []
    assert bench.end() == [(2, False)]
    assert bench.group.ended == [({ORDERS: 2}, None)]


def test_the_membership_of_the_moment_goes_with_every_transaction(bench: Bench) -> None:
    bench.deliver(b"0")
    bench.group.membership = None
    assert bench.turn() == []
    assert not bench.thread.begun, "without a member's id the brokers would take the offsets of anybody"
    for membership in (b"one", b"two"):
        bench.group.membership = membership
        bench.turn()
        bench.end(Result.ABORTED)
        bench.clock.advance(1_000)
    assert [membership for _, membership in bench.thread.begun] == [b"one", b"two"]


def test_an_aborted_transaction_goes_again_in_order_after_a_while(bench: Bench) -> None:
    bench.deliver(b"0", b"1")
    bench.turn()
    bench.deliver(b"2", first_offset=2)
    assert bench.end(Result.ABORTED) == []
    assert bench.group.ended == [({}, "ABORTED")]
    assert len(bench.thread.begun) == 1, "not at once"
    bench.clock.advance(1_000)
    bench.turn()
    assert values(bench) == [b"0", b"1", b"2"]
    assert bench.end() == [(2, False), (1, False)]


@pytest.mark.parametrize(("committed", "again"), [(2, []), (None, [b"0", b"1"]), (0, [b"0", b"1"]), (1, [b"1"])])
def test_after_an_unknown_outcome_the_committed_offset_decides(
    bench: Bench, committed: int | None, again: list[bytes]
) -> None:
    bench.deliver(b"0", b"1")
    bench.turn()
    bench.thread.end(Result.UNKNOWN)
    bench.thread.ready = False
    assert bench.turn() == []
    bench.clock.advance(5_000)
    assert bench.turn() == [], "the producer is made again first"
    bench.thread.ready = True
    bench.group.unreachable = True
    assert bench.turn() == []
    bench.group.unreachable, bench.group.offsets = False, {ORDERS: committed}
    bench.clock.advance(1_000)
    done = 2 - len(again)
    assert bench.turn() == ([(done, bool(again))] if done else [])
    assert (values(bench) == again) if again else bench.thread.ready


def test_a_partition_that_is_given_up_keeps_only_what_is_in_the_open_transaction(bench: Bench) -> None:
    bench.deliver(b"0")
    bench.turn()
    waiting = bench.deliver(b"1", first_offset=1)
    bench.deliver(b"other", partition=OTHER)
    assert bench.sink.forget([ORDERS]) == [waiting]
    assert bench.end() == [(1, False)]
    assert values(bench) == [b"other"]


@pytest.mark.parametrize("result", [Result.ABORTED, Result.UNKNOWN])
def test_what_was_given_up_never_goes_again(bench: Bench, result: Result) -> None:
    bench.deliver(b"0")
    bench.turn()
    assert bench.sink.forget([ORDERS]) == []
    assert bench.end(result) == [(0, False)]
    bench.clock.advance(5_000)
    assert bench.turn() == []
    assert len(bench.thread.begun) == 1


def test_a_fenced_producer_ends_the_service_with_nothing_in_flight(bench: Bench) -> None:
    run = bench.deliver(b"0")
    bench.turn()
    bench.thread.end(FencedError("taken"))
    with pytest.raises(FencedError):
        bench.turn()
    assert bench.sink.forget([ORDERS]) == [run]
    bench.deliver(b"1", first_offset=1)
    bench.turn()
    assert len(bench.thread.begun) == 1


def test_offsets_without_records_have_a_transaction_of_their_own_now_and_then(bench: Bench) -> None:
    bench.deliver(b"0")
    bench.turn()
    bench.end()
    bench.sink.pass_over([(ORDERS, 1), (OTHER, 7)])
    assert bench.turn() == []
    assert bench.thread.ready, "not at once"
    bench.clock.advance(5_000)
    bench.turn()
    assert bench.offsets == {OTHER: 7}, "the other one is committed already"
    bench.end()
    bench.clock.advance(50_000)
    bench.turn()
    assert len(bench.thread.begun) == 2


def test_what_was_passed_over_is_committed_at_once_on_request(bench: Bench) -> None:
    bench.deliver(b"0")
    bench.turn()
    bench.end()
    bench.sink.pass_over([(ORDERS, 2)])
    bench.end_after(20)
    bench.sink.commit_passed(1_000)
    assert bench.group.ended == [({ORDERS: 1}, None), ({ORDERS: 2}, None)]
    assert bench.clock.steady_ms() == 20, "and not waited for any longer"


def test_what_was_passed_over_before_a_transaction_began_goes_at_once_behind_it(bench: Bench) -> None:
    bench.sink.pass_over([(ORDERS, 1)])
    bench.clock.advance(5_000)
    bench.turn()
    bench.sink.pass_over([(ORDERS, 2)])
    bench.end_after(20)
    bench.end_after(40)
    bench.sink.commit_passed(1_000)
    assert bench.group.ended == [({ORDERS: 1}, None), ({ORDERS: 2}, None)]


def test_brokers_that_do_not_answer_are_waited_for_no_longer_than_said(bench: Bench) -> None:
    bench.sink.pass_over([(ORDERS, 1)])
    bench.sink.commit_passed(1_000)
    assert bench.clock.steady_ms() == 1_000


def test_a_stop_commits_what_was_passed_over_behind_the_last_record(bench: Bench) -> None:
    dispatcher = Dispatcher(bench.sink, bench.clock)
    delivery = ExactlyOnce(dispatcher, bench.sink)
    delivery.start([run_of(message(b"0"), partition=ORDERS)], 0.0)
    dispatcher.collect()
    delivery.give_up([ORDERS])
    delivery.done(0, [])
    assert bench.clock.steady_ms() == 0, "what is in flight is waited for elsewhere"
    bench.thread.end(Result.COMMITTED)
    assert [progress.newly_done for progress in dispatcher.collect()] == [1]
    bench.end_after(20)
    delivery.done(1, [(ORDERS, 2)])
    assert bench.group.ended == [({ORDERS: 1}, None), ({ORDERS: 2}, None)]


def test_a_stop_commits_what_was_passed_over_long_before(bench: Bench) -> None:
    delivery = ExactlyOnce(Dispatcher(bench.sink, bench.clock), bench.sink)
    delivery.done(0, [(ORDERS, 2)])
    delivery.give_up([ORDERS])
    bench.end_after(20)
    delivery.done(0, [])
    assert bench.group.ended == [({ORDERS: 2}, None)]


def test_what_was_passed_over_of_a_lost_partition_is_not_committed(bench: Bench) -> None:
    delivery = ExactlyOnce(Dispatcher(bench.sink, bench.clock), bench.sink)
    delivery.done(0, [(ORDERS, 2)])
    delivery.give_up([ORDERS])
    delivery.forget([ORDERS])
    delivery.done(0, [])
    bench.clock.advance(50_000)
    bench.turn()
    assert not bench.thread.begun


def test_nothing_is_delivered_or_committed_behind_a_record_that_stops_the_service(bench: Bench) -> None:
    bench.thread.producer.refused = {("target", b"bad"): KafkaException(KafkaError(TOO_LARGE))}
    bench.deliver(b"0", b"bad", b"2")
    bench.deliver(b"behind", first_offset=3)
    bench.turn()
    assert bench.end() == []
    assert values(bench) == [b"0"]
    assert bench.offsets == {ORDERS: 1}
    bench.thread.end(Result.COMMITTED)
    [outcome] = bench.sink.outcomes()
    assert (outcome.done, outcome.goes_on) == (1, False)
    assert "too large" in str(outcome.failure)
    assert bench.turn() == []
    assert len(bench.thread.begun) == 2


def test_a_skipped_record_is_left_out_and_its_offset_is_in() -> None:
    bench = Bench(FailurePolicy("skip"))
    bench.thread.producer.refused = {("target", b"bad"): KafkaException(KafkaError(TOO_LARGE))}
    bench.deliver(b"0", b"bad", b"2")
    bench.turn()
    bench.end()
    assert values(bench) == [b"0", b"2"]
    assert bench.offsets == {ORDERS: 3}
    assert ("skipped", 1) not in bench.events.said, "not before it is committed"
    bench.thread.end(Result.COMMITTED)
    [outcome] = bench.sink.outcomes()
    assert (outcome.done, list(outcome.diverted)) == (3, [1])
    assert bench.events.said == [("failed", 1), ("skipped", 1)]


def test_all_that_is_refused_in_a_transaction_costs_one_abort() -> None:
    bench = Bench(FailurePolicy("skip"))
    bench.thread.producer.refused = {("target", b"bad"): KafkaException(KafkaError(TOO_LARGE))}
    bench.deliver(b"bad", b"1", b"bad")
    bench.deliver(b"bad", partition=OTHER)
    bench.turn()
    bench.end()
    assert values(bench) == [b"1"]
    assert bench.end() == [(3, False), (1, False)]
    assert bench.group.ended == [({ORDERS: 3, OTHER: 1}, None)], "no commit has failed"


def test_a_refused_record_is_dead_lettered_in_its_transaction() -> None:
    bench = Bench(FailurePolicy("stop", dead_letter_topic="dead"))
    bench.sink.deliver(replace(run_of(message(b"late")), refused="why"), 0.0)
    bench.turn()
    assert bench.thread.written == [("dead", b"late")]
    assert bench.events.said == [("failed", 0)]
    assert bench.end() == [(1, False)]
    assert bench.events.said == [("failed", 0), ("forwarded", 0)]


def test_a_dead_letter_that_is_not_taken_blocks_its_partition_and_no_other() -> None:
    bench = Bench(FailurePolicy("dead-letter", dead_letter_topic="dead"))
    refusal = KafkaException(KafkaError(TOO_LARGE))
    bench.thread.producer.refused = {("target", b"bad"): refusal, ("dead", b"bad"): refusal}
    bench.deliver(b"0", b"bad", b"2")
    bench.turn()
    bench.end()
    bench.end()
    assert values(bench) == [b"0"]
    assert bench.events.said == [("failed", 1), ("cannot_forward", 1)]
    assert bench.end() == [(1, True)], "what is before it"
    bench.deliver(b"other", partition=OTHER)
    bench.clock.advance(500)
    bench.turn()
    assert values(bench) == [b"other"]
    assert bench.end() == [(1, False)]
    bench.thread.producer.refused = {("target", b"bad"): refusal}
    bench.clock.advance(60_000)
    bench.turn()
    assert bench.thread.written == [("dead", b"bad"), ("target", b"2")]
    assert bench.end() == [(3, False)]


def test_a_topic_that_we_have_no_right_to_is_taken_for_that_of_the_dead_letters_first() -> None:
    bench = Bench(FailurePolicy("dead-letter", dead_letter_topic="dead"))
    bench.thread.producer.refused = {("target", b"bad"): KafkaException(KafkaError(TOO_LARGE))}
    bench.deliver(b"0", b"bad", b"2")
    bench.deliver(b"other", partition=OTHER)
    bench.turn()
    bench.end()
    assert bench.thread.written == [("target", b"0"), ("dead", b"bad"), ("target", b"2"), ("target", b"other")]
    bench.deny_a_topic()
    assert bench.turn() == []
    assert bench.events.said == [("failed", 1), ("cannot_forward", 1)]
    assert values(bench) == [b"0", b"other"]
    bench.deny_a_topic()
    [outcome] = bench.sink.outcomes()
    assert (outcome.done, outcome.failure) == (0, "Broker: Topic authorization failed"), "it was the target"


def test_a_record_that_a_broker_refuses_is_found_by_asking_for_reports() -> None:
    bench = Bench(FailurePolicy("stop"))
    bench.deliver(b"0", b"bad")
    bench.turn()
    assert bench.reports == {b"0": None, b"bad": None}, "they cost as much as producing"
    bench.abort()
    bench.report(b"bad", code=KafkaError.UNKNOWN_TOPIC_OR_PART)
    bench.abort()
    assert values(bench) == [b"0"]
    assert bench.offsets == {ORDERS: 1}


def test_a_record_that_was_refused_with_its_batch_is_to_blame_only_if_it_is_refused_alone() -> None:
    bench = Bench(FailurePolicy("skip"))
    bench.deliver(b"0", b"bad", b"2")
    bench.turn()
    bench.abort()
    bench.report(b"0", b"bad", b"2")
    bench.abort()
    assert bench.events.said == [("batch_refused", 0)]
    assert bench.thread.batch_bytes == [1]
    bench.report(b"bad")
    bench.abort()
    assert bench.events.said[1:] == [("failed", 1)]
    assert values(bench) == [b"0", b"2"]
    assert bench.end() == [(3, False)]


def test_a_dead_letter_that_was_refused_with_its_batch_blocks_nothing() -> None:
    bench = Bench(FailurePolicy("stop", dead_letter_topic="dead"))
    bench.sink.deliver(replace(run_of(message(b"late")), refused="why"), 0.0)
    bench.turn()
    bench.abort()
    bench.report(b"late")
    bench.abort()
    assert bench.thread.written == [("dead", b"late")]
    assert bench.end() == [(1, False)]
    assert bench.events.said == [("failed", 0), ("batch_refused", 0), ("forwarded", 0)]


def separated(bench: Bench) -> None:
    """A batch was refused, so its records go alone."""
    bench.deliver(b"0", b"1")
    bench.turn()
    bench.abort()
    bench.report(b"0", b"1")
    bench.abort()


def test_after_enough_records_that_went_alone_there_are_batches_again_and_smaller_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "ALONE_RECORDS", 3)
    bench = Bench(FailurePolicy("skip"))
    separated(bench)
    bench.deliver(b"2", b"3", first_offset=2)
    assert bench.end() == [(2, False)]
    assert values(bench) == [b"2"], "one is left of those that go alone"
    bench.end()
    assert bench.thread.batch_bytes == [1, BATCH_BYTES // 4]
    assert values(bench) == [b"3"]


def test_a_record_that_is_refused_alone_makes_the_next_transactions_smaller() -> None:
    """Each of them costs an abort, and all that is with it goes again."""
    bench = Bench(FailurePolicy("skip"))
    separated(bench)
    bench.deliver(*[b"good"] * 400, b"bad", *[b"good"] * 400, first_offset=2)
    bench.end()
    assert len(values(bench)) == 801
    bench.report(b"bad")
    bench.abort()
    assert len(values(bench)) == ALONE_RECORDS // 4
    assert bench.reports[b"good"] is not None, "what a broker refuses is still asked for"


def test_no_failure_of_a_relay_is_one_that_a_retry_topic_would_cure() -> None:
    """What may pass is waited for by the client, or has the whole transaction go again."""
    codes = {value for value in vars(KafkaError).values() if isinstance(value, int)}
    assert TOO_LARGE in codes
    kinds = {failure_of(KafkaException(KafkaError(code))).kind for code in codes} | {failure_of(ValueError("no")).kind}
    assert kinds == {Kind.MESSAGE, Kind.FATAL}


def test_the_id_is_the_instances_or_else_of_this_process_alone() -> None:
    assert transactional_id("group", "one", "") == transactional_id("group", "one", "")
    assert transactional_id("group", "one", "").name == "group.one"
    first, second = (transactional_id("group", None, "") for _ in range(2))
    assert first != second
    assert first.ours_alone
    assert not transactional_id("group", "one", "").ours_alone
    assert transactional_id("group", "one", "given").name == "given"


def test_a_limit_that_an_operator_may_raise_is_not_the_clients() -> None:
    properties = transactional_properties({}, transactional_id("group", None, ""), [20_000, 1_000_000])
    assert int(properties["message.max.bytes"]) == 1_000_000_000
    assert int(properties["batch.size"]) == 20_000, "a batch above it would be refused whole"


def test_our_patience_ends_well_before_that_of_the_brokers() -> None:
    id_ = transactional_id("group", None, "")
    properties = transactional_properties({"socket.timeout.ms": 60_000}, id_, [])
    assert 3 * int(properties["socket.timeout.ms"]) <= int(properties["transaction.timeout.ms"]) <= 15_000
