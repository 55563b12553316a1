"""SINK=topic with DELIVERY=exactly-once: records, what failed of them and the offsets in one Kafka transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from itertools import islice
from typing import Any, Protocol

from delayed_consumer.clock import Clock
from delayed_consumer.core.engine import InFlightLimit
from delayed_consumer.core.records import Partition, Run
from delayed_consumer.errors import UnreachableError
from delayed_consumer.events import Events
from delayed_consumer.failures import Failure, FailurePolicy, Fate, Forward, Kind, Stop
from delayed_consumer.sinks import Outcome
from delayed_consumer.sinks.forward import FIRST_WAIT_MS, LONGEST_WAIT_MS
from delayed_consumer.sinks.pace import Pace
from delayed_consumer.sinks.relayed_run import Part, RelayedRun
from delayed_consumer.sinks.relaying import failure_of, is_too_large, reason_of
from delayed_consumer.sinks.transaction_thread import TransactionThread
from delayed_consumer.sinks.transaction_writer import TransactionWriter
from delayed_consumer.sinks.transactional_client import Result, Transaction

AGAIN_MS = 200.0  # after an abort: whatever the brokers had against it needs a moment
ASK_AGAIN_MS = 1_000.0
ASK_TIMEOUT_S = 1.0  # the loop stands meanwhile


class Group(Protocol):
    """What is asked of the consumer, on the loop's thread; the source is one."""

    def group_metadata(self) -> object | None:
        """Our membership at this moment; None: we have none."""

    def committed(self, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, int | None]:
        """The group's offsets, none of which is still in an open transaction. Raises UnreachableError."""

    def transaction_ended(self, offsets: Mapping[Partition, int], error: str | None) -> None:
        """A transaction has committed these offsets, or none and why."""


class TransactionalSink:
    """What falls due while one transaction is on its way shares the next."""

    in_flight_limit = InFlightLimit(runs=64, records_per_run=500)

    def __init__(
        self,
        thread: TransactionThread,
        writer: TransactionWriter,
        pace: Pace,
        policy: FailurePolicy,
        clock: Clock,
        events: Events,
        passing_interval_ms: float,
    ) -> None:
        """``passing_interval_ms``: how often offsets behind which there is nothing to deliver have a transaction of
        their own."""
        self._thread = thread
        self._writer = writer
        self._pace = pace
        self._policy = policy
        self._clock = clock
        self._events = events
        self._passing_interval_ms = passing_interval_ms
        self._group: Group
        self._relays: list[RelayedRun] = []
        self._transaction: Transaction | None = None  # on its way, or of unknown outcome
        self._ended: list[Outcome] = []
        self._passed: dict[Partition, int] = {}
        self._committed: dict[Partition, int] = {}
        self._blocked: dict[Partition, tuple[float, float]] = {}  # until when what is stuck waits, and how long that is
        self._stopped = False
        self._again_ms = self._passing_ms = 0.0

    def join(self, group: Group) -> None:
        """The membership that the transactions belong to."""
        self._group = group

    @property
    def queueing(self) -> bool:
        """Whether records that are due wait for a transaction to end."""
        return self._transaction is not None and not all(relay.in_transaction for relay in self._relays)

    def pass_over(self, offsets: Iterable[tuple[Partition, int]]) -> None:
        """Before these offsets nothing is left to deliver: they go with the next transaction."""
        self._passed |= {one: offset for one, offset in offsets if offset > self._committed.get(one, -1)}

    def deliver(self, run: Run, delivered_ms: float) -> None:
        relay = RelayedRun(run, delivered_ms)
        if run.refused is not None:
            self._fail(relay, 0, Failure(run.refused, Kind.MESSAGE, attempts=0))
        self._relays.append(relay)

    def commit_passed(self, within_ms: float) -> None:
        """Begins at once the transaction that what was passed over waits for, and waits for its end.

        Raises what `outcomes` raises.
        """
        end_ms = self._clock.steady_ms() + within_ms
        self._passing_ms = 0.0
        self._turn()
        while self._transaction is not None and self._clock.steady_ms() < end_ms:
            self._clock.wait_ms(end_ms - self._clock.steady_ms())  # its thread ends the wait
            self._turn()

    def outcomes(self) -> list[Outcome]:
        """Raises what ends the service: FencedError, AuthError, ConfigError. Nothing is in flight after that."""
        self._turn()
        outcomes, self._ended = self._ended, []
        return outcomes

    def wind_up(self, partitions: Collection[Partition]) -> list[Run]:
        """What was passed over of them is still to be committed. In order: nothing lies before what was begun."""
        theirs = [relay for relay in self._relays if relay.run.partition in partitions]
        for relay in theirs:
            relay.given_up = True
        waiting = [relay for relay in theirs if not relay.in_transaction]
        self._relays = [relay for relay in self._relays if relay not in waiting]
        self._ended += [Outcome(relay.run, relay.done) for relay in waiting if relay.done]
        return [relay.run for relay in waiting if not relay.done]

    def forget(self, partitions: Collection[Partition]) -> list[Run]:
        for one in partitions:
            for known in (self._passed, self._committed, self._blocked):
                known.pop(one, None)
        return self.wind_up(partitions)

    def close(self) -> None:
        """What is in an open transaction was not counted as done; nobody who reads committed records sees it."""
        self._thread.close()

    def _turn(self) -> None:
        try:
            ended = self._thread.ended()
        except Exception:
            self._stopped = True
            self._settle({}, {}, None)
            raise
        if ended is not None:
            self._finish(ended)
        if self._thread.ready and self._clock.steady_ms() >= self._again_ms:
            if self._transaction is not None:
                self._ask()
            if self._transaction is None and not self._stopped:
                self._begin()

    # A transaction begins

    def _begin(self) -> None:
        passing = bool(self._passed) and self._clock.steady_ms() >= self._passing_ms
        if not self._relays and not passing:
            return
        membership = self._group.group_metadata()
        if membership is None:
            return  # what is ours was lost, which the next read tells
        parts = self._parts()
        if not parts and not passing and not any(relay.stop for relay in self._relays):
            return
        offsets = self._passed | {relay.run.partition: relay.next_offset for relay, _, _ in parts}
        self._passing_ms = self._clock.steady_ms() + self._passing_interval_ms
        self._transaction = Transaction(offsets, partial(self._writer.write, parts, self._pace.with_reports))
        self._thread.begin(self._transaction, membership)

    def _parts(self) -> list[Part]:
        """What goes into the next transaction, in order; nothing behind a record that has to wait in its partition."""
        parts: list[Part] = []
        waiting: set[Partition] = set()
        room = self._pace.most_records
        for relay in self._relays:
            if relay.run.partition not in waiting:
                first = relay.sent
                relay.sent = min(relay.end_of_part(self._may_try(relay)), first + room)
                room -= relay.sent - first
                parts += [(relay, first, relay.sent)] if relay.sent > first else []
                waiting |= {relay.run.partition} if relay.sent < len(relay.run) else set()
            if relay.stop is not None or not room:
                break
        return parts

    def _may_try(self, relay: RelayedRun) -> bool:
        again_ms, _ = self._blocked.get(relay.run.partition, (0.0, 0.0))
        return self._clock.steady_ms() >= again_ms

    # A transaction ends

    def _finish(self, transaction: Transaction) -> None:
        if transaction.result is Result.COMMITTED:
            self._replace_producer(self._pace.committed(self._in_transaction()))
            self._settle({relay: relay.sent for relay in self._relays}, transaction.offsets, None)
        elif transaction.result is Result.ABORTED:
            refused = self._judge(transaction)
            self._slow_down(transaction, refused)
            self._settle({}, {}, None if refused else transaction.reason)  # what was refused is told record by record
        else:
            self._pace.take_less()
            self._group.transaction_ended({}, transaction.reason)

    def _ask(self) -> None:
        """Whether a transaction of unknown outcome was committed. It will not be later: its producer is gone."""
        unsure = [relay for relay in self._relays if relay.in_transaction]
        wanted = {relay.run.partition for relay in unsure if not relay.given_up}
        try:
            committed = self._group.committed(wanted, ASK_TIMEOUT_S) if wanted else {}
            missing = wanted - committed.keys()
        except UnreachableError as error:
            self._events.cannot_ask(wanted, str(error), self._clock.steady_ms())
            missing = wanted
        if missing:
            self._again_ms = self._clock.steady_ms() + ASK_AGAIN_MS
            return
        done = {relay: relay.committed_below(committed.get(relay.run.partition)) for relay in unsure}
        self._settle(done, {one: offset for one, offset in committed.items() if offset is not None}, None)

    def _settle(self, done: Mapping[RelayedRun, int], offsets: Mapping[Partition, int], error: str | None) -> None:
        """No transaction is open any more. ``done``: how many records are committed, of relays that have new ones.

        A record is delivered when those who read committed records can see it.
        """
        self._transaction = None
        self._committed |= offsets
        self._passed = {one: offset for one, offset in self._passed.items() if offset > self._committed.get(one, -1)}
        now_ms = self._clock.now_ms()
        for relay in self._relays:
            self._advance(relay, done.get(relay, relay.done), now_ms)
        self._relays = [relay for relay in self._relays if not relay.ended]
        if offsets or error is not None:
            self._group.transaction_ended(offsets, error)

    def _advance(self, relay: RelayedRun, done: int, now_ms: float) -> None:
        before = relay.done
        diverted = relay.advance(done)
        for index in diverted:
            self._say_diverted(relay, index)
        if done > before or relay.ended:
            self._stopped = self._stopped or relay.stop is not None
            if not relay.stuck.isdisjoint(diverted):
                self._blocked.pop(relay.run.partition, None)
            begun_ms = [now_ms] * (done - before)
            self._ended.append(Outcome(relay.run, done, relay.stop, not relay.ended, diverted, begun_ms))

    def _judge(self, transaction: Transaction) -> bool:
        """What becomes of the records that were refused. False: there were none, it was something else."""
        refused = transaction.refused + [one for one in transaction.reported if self._pace.blames(one[1])]
        if transaction.topic_denied is not None:
            refused += self._suspects(transaction.topic_denied)
        order = {relay: number for number, relay in enumerate(self._relays)}
        refused = [one for one in refused if not one[0][0].given_up]
        for (relay, index), error in sorted(refused, key=lambda one: (order[one[0][0]], one[0][1])):
            failure, fate = relay.failed.get(index, (None, None))
            if isinstance(fate, Forward):
                self._block(relay, index, fate, reason_of(error))
            elif failure is None and isinstance(self._fail(relay, index, failure_of(error)), Stop):
                break  # the others are behind it
        return bool(refused)

    def _suspects(self, denied: Exception) -> list[tuple[tuple[RelayedRun, int], Exception]]:
        """What was written to a topic to which we have no right: what was forwarded, if there is any. If it was the
        target after all, the next transaction, which goes without that, is denied too."""
        sent = [(relay, index) for relay in self._relays for index in range(relay.done, relay.sent)]
        forwarded = [(relay, index) for relay, index in sent if relay.is_forwarded(index)]
        relayed = ((relay, index) for relay, index in sent if index not in relay.failed)
        return [(one, denied) for one in forwarded or islice(relayed, 1)]

    def _slow_down(self, transaction: Transaction, refused: bool) -> None:
        """It was aborted. ``refused``: for records that are out of the way of the next one."""
        self._pace.aborted()
        suspicions = [error for _, error in transaction.reported if not self._pace.blames(error)]
        if suspicions:
            self._events.batch_refused(reason_of(suspicions[0]), self._clock.steady_ms())
            self._replace_producer(self._pace.separate(self._in_transaction(), any(map(is_too_large, suspicions))))
        elif transaction.reported and self._pace.alone:
            self._pace.refused_alone()
        elif not refused:
            self._pace.take_less()
            self._again_ms = self._clock.steady_ms() + AGAIN_MS

    def _in_transaction(self) -> int:
        """How many records are in the one that has just ended."""
        return sum(relay.sent - relay.done for relay in self._relays)

    def _replace_producer(self, properties: Mapping[str, Any] | None) -> None:
        if properties is not None:
            self._thread.replace_producer(properties)

    def _fail(self, relay: RelayedRun, index: int, failure: Failure) -> Fate:
        fate = self._policy.fate(relay.run, failure)
        relay.failed[index] = failure, fate
        self._events.failed(relay.run, index, failure, fate)
        return fate

    def _block(self, relay: RelayedRun, index: int, to: Forward, reason: str) -> None:
        partition, steady_ms = relay.run.partition, self._clock.steady_ms()
        _, wait_ms = self._blocked.get(partition, (0.0, FIRST_WAIT_MS / 2))
        wait_ms = min(2 * wait_ms, LONGEST_WAIT_MS)
        self._blocked[partition] = steady_ms + wait_ms, wait_ms
        relay.stuck.add(index)
        self._events.cannot_forward(relay.run, index, to.topic, reason, steady_ms)

    def _say_diverted(self, relay: RelayedRun, index: int) -> None:
        _, fate = relay.failed[index]
        if isinstance(fate, Forward):
            self._events.forwarded(relay.run, index, fate)
        else:
            self._events.skipped(relay.run, index)
