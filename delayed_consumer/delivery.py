"""What is committed when. A mode is one short class: the order of two calls."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from delayed_consumer.clock import Clock
from delayed_consumer.core.records import Partition, Run
from delayed_consumer.dispatch import Dispatcher
from delayed_consumer.errors import UnreachableError

COMMIT_AGAIN_MS = 1_000.0
ANSWERS_WITHIN_MS = 1_000.0  # a commit takes milliseconds: one that took longer is not waited for at a stop


class Offsets(Protocol):
    """Where a mode leaves the offsets; the source is one."""

    def store(self, offsets: Iterable[tuple[Partition, int]]) -> None:
        """Committed within the commit interval, at a revoke and at the end."""

    def commit_stored(self) -> None:
        """Commits now what is stored, without waiting."""

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commits these offsets, without waiting."""

    def commit_now(self, offsets: Mapping[Partition, int]) -> None:
        """Commits these offsets and waits. Raises UnreachableError when the brokers do not take them."""


class Transactions(Protocol):
    """A sink that commits the offsets of what it delivers in one transaction with it."""

    @property
    def queueing(self) -> bool:
        """Whether records that are due wait for a transaction to end."""

    def pass_over(self, offsets: Iterable[tuple[Partition, int]]) -> None:
        """Before these offsets nothing is left to deliver: they are committed with the next transaction."""

    def commit_passed(self, within_ms: float) -> None:
        """Commits them now, and waits for the answer for at most so long. Raises the ServiceError that ends us."""


class Delivery(Protocol):
    """The guarantee."""

    @property
    def awaits_commit(self) -> bool:
        """Whether records that are due wait for the answer to a commit."""

    def start(self, runs: Sequence[Run], now_ms: float) -> None:
        """Runs are due."""

    def done(self, records: int, committable: Sequence[tuple[Partition, int]]) -> None:
        """``records`` are done since the last call, and these are the first offsets that are not."""

    def committed(self, offsets: Mapping[Partition, int], error: str | None) -> None:
        """The broker has answered a commit; no offsets and no error: there was nothing to commit."""

    def uncommitted(self) -> Mapping[Partition, int]:
        """The offsets that a stop must see committed, or what is done would be done again."""

    def give_up(self, partitions: Collection[Partition]) -> None:
        """These partitions are still ours, and must not be for long: begins nothing more of them."""

    def forget(self, partitions: Collection[Partition]) -> None:
        """These partitions are no longer ours."""


class AtLeastOnce:
    """Deliver, then store: a crash between the two repeats and never loses."""

    awaits_commit = False

    def __init__(self, dispatcher: Dispatcher, offsets: Offsets, commit_every_records: int) -> None:
        """``commit_every_records``: commit at once when that many are done; 0 leaves it to the interval."""
        self._dispatcher = dispatcher
        self._offsets = offsets
        self._commit_every_records = commit_every_records
        self._uncommitted_records = 0
        self._uncommitted: dict[Partition, int] = {}
        self._committing = False

    def start(self, runs: Sequence[Run], now_ms: float) -> None:
        for run in runs:
            self._dispatcher.hand_over(run, now_ms)

    def done(self, records: int, committable: Sequence[tuple[Partition, int]]) -> None:
        if committable:
            self._offsets.store(committable)
            self._uncommitted |= committable
        self._uncommitted_records += records
        self._commit_if_many()

    def committed(self, offsets: Mapping[Partition, int], error: str | None) -> None:  # noqa: ARG002
        for one, offset in offsets.items():
            if self._uncommitted.get(one, -1) <= offset:
                self._uncommitted.pop(one, None)
        self._committing = False
        self._commit_if_many()

    def uncommitted(self) -> Mapping[Partition, int]:
        return self._uncommitted

    def give_up(self, partitions: Collection[Partition]) -> None:
        self._dispatcher.wind_up(partitions)

    def forget(self, partitions: Collection[Partition]) -> None:
        for one in partitions:
            self._uncommitted.pop(one, None)
        self._dispatcher.forget(partitions)

    def _commit_if_many(self) -> None:
        """One commit on its way at a time: the next takes with it all that was done meanwhile."""
        if self._committing or not 0 < self._commit_every_records <= self._uncommitted_records:
            return
        self._committing = True
        self._uncommitted_records = 0
        self._offsets.commit_stored()


class AtMostOnce:
    """Commit, then deliver: a crash between the two loses and never repeats.

    Nothing is stored for the periodic commit, which would put an offset back that was committed ahead of it.
    One commit is on its way at a time; what falls due meanwhile goes with the next one.
    """

    def __init__(self, dispatcher: Dispatcher, offsets: Offsets, clock: Clock, commit_interval_ms: float) -> None:
        """``commit_interval_ms``: how often offsets are committed behind which there is no record to deliver."""
        self._dispatcher = dispatcher
        self._offsets = offsets
        self._clock = clock
        self._interval_ms = commit_interval_ms
        self._waiting: list[Run] = []
        self._committing: list[Run] = []
        self._acknowledged: list[Run] = []
        self._passed: dict[Partition, int] = {}  # control records and gaps: nothing there to deliver
        self._sent: dict[Partition, int] = {}
        self._on_its_way = False
        self._sent_ms = self._again_ms = self._passed_again_ms = 0.0

    @property
    def awaits_commit(self) -> bool:
        return self._on_its_way

    def start(self, runs: Sequence[Run], now_ms: float) -> None:  # noqa: ARG002
        self._waiting += runs
        self._commit()

    def done(self, records: int, committable: Sequence[tuple[Partition, int]]) -> None:  # noqa: ARG002
        self._passed |= {one: offset for one, offset in committable if offset > self._sent.get(one, -1)}
        self._hand_over()
        self._commit()

    def committed(self, offsets: Mapping[Partition, int], error: str | None) -> None:
        if not offsets and error is None:
            return
        runs, self._committing = self._committing, []
        self._on_its_way = False
        if error is not None:
            self._waiting = runs + self._waiting
            self._again_ms = self._clock.steady_ms() + COMMIT_AGAIN_MS
            return
        self._acknowledged += runs
        self._hand_over()
        self._commit()

    def uncommitted(self) -> Mapping[Partition, int]:
        return {}

    def give_up(self, partitions: Collection[Partition]) -> None:
        """What is not committed is left to the next owner; what perhaps is would be lost, so it is made sure of."""
        unsure = [run for run in self._committing if run.partition in partitions]
        self._drop(partitions)
        if unsure and self._clock.steady_ms() - self._sent_ms < ANSWERS_WITHIN_MS:
            with suppress(UnreachableError):
                self._offsets.commit_now({run.partition: run.next_offset for run in unsure})
                self._acknowledged += unsure
                self._hand_over()

    def forget(self, partitions: Collection[Partition]) -> None:
        self._drop(partitions)
        self._acknowledged = [run for run in self._acknowledged if run.partition not in partitions]
        for one in partitions:
            self._passed.pop(one, None)
            self._sent.pop(one, None)
        self._dispatcher.forget(partitions)

    def _commit(self) -> None:
        steady_ms = self._clock.steady_ms()
        passed_only = not self._waiting
        if self._on_its_way or steady_ms < self._again_ms or (passed_only and not self._may_pass(steady_ms)):
            return
        self._committing, self._waiting = self._waiting, []
        offsets = self._passed | {run.partition: run.next_offset for run in self._committing}
        self._passed = {}
        self._sent |= offsets
        self._on_its_way = True
        self._sent_ms = steady_ms
        self._passed_again_ms = steady_ms + self._interval_ms
        self._offsets.commit(offsets)

    def _may_pass(self, steady_ms: float) -> bool:
        return bool(self._passed) and steady_ms >= self._passed_again_ms

    def _hand_over(self) -> None:
        """The clock may have been set back while the commit was on its way: then they wait again."""
        now_ms = self._clock.now_ms()
        ready = [run for run in self._acknowledged if run.due_ms[-1] <= now_ms]
        self._acknowledged = [run for run in self._acknowledged if run.due_ms[-1] > now_ms]
        for run in ready:
            self._dispatcher.hand_over(run, now_ms)

    def _drop(self, partitions: Collection[Partition]) -> None:
        self._waiting = [run for run in self._waiting if run.partition not in partitions]
        self._committing = [run for run in self._committing if run.partition not in partitions]


class ExactlyOnce:
    """Deliver and commit in one: a crash neither loses nor repeats, for those who read committed records.

    Nothing is stored or committed beside the transactions: it could put back what one of them has committed.
    """

    def __init__(self, dispatcher: Dispatcher, transactions: Transactions) -> None:
        """``transactions`` is the dispatcher's sink."""
        self._dispatcher = dispatcher
        self._transactions = transactions
        self._giving_up = False

    @property
    def awaits_commit(self) -> bool:
        return self._transactions.queueing

    def start(self, runs: Sequence[Run], now_ms: float) -> None:
        for run in runs:
            self._dispatcher.hand_over(run, now_ms)

    def done(self, records: int, committable: Sequence[tuple[Partition, int]]) -> None:  # noqa: ARG002
        self._transactions.pass_over(committable)
        if self._giving_up and not self._dispatcher.busy:
            self._transactions.commit_passed(ANSWERS_WITHIN_MS)

    def committed(self, offsets: Mapping[Partition, int], error: str | None) -> None:
        """The sink has seen to it already."""

    def uncommitted(self) -> Mapping[Partition, int]:
        return {}

    def give_up(self, partitions: Collection[Partition]) -> None:
        """What was passed over is committed once nothing is in flight, or the group would seem to lag after a stop."""
        self._giving_up = True
        self._dispatcher.wind_up(partitions)

    def forget(self, partitions: Collection[Partition]) -> None:
        self._giving_up = False
        self._dispatcher.forget(partitions)
