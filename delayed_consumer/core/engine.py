"""All assigned partitions together: what to hold, what is due, what to pause, what may be committed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from delayed_consumer.core.due import DueRule, DueTimes, FuturePolicy
from delayed_consumer.core.flow import FlowChange, Limits, Room, decide
from delayed_consumer.core.records import Partition, Run
from delayed_consumer.core.window import Assignment

REFUSED_TIMESTAMP = "its timestamp lies further ahead than MAX_FUTURE_SECONDS"
STEP_RECORDS = 500  # a drain of 40,000 records in one go makes what is due meanwhile 20 to 80 ms late
UNKNOWN_RECORD_BYTES = 10_000.0  # assumed until records were seen: the first step must not overfill a small hold


@dataclass(frozen=True, slots=True)
class InFlightLimit:
    """How much of one partition may be with the sink at once.

    One run where records are handled one after the other; more where the sink keeps their order itself.
    ``span_offsets`` bounds how far it may get ahead of the first record that is not done: a crash may repeat that.
    """

    runs: int
    records_per_run: int
    span_offsets: int = 100_000


class Engine:
    """Decides; does nothing. Every moment is an argument, every decision a returned value."""

    def __init__(
        self, delay_ms: Callable[[str], int], future: FuturePolicy, limits: Limits, in_flight: InFlightLimit
    ) -> None:
        self._delay_ms = delay_ms
        self._future = future
        self._limits = limits
        self._in_flight = in_flight
        self._assignments: dict[Partition, Assignment] = {}
        self._generation = 0
        self._look_at_ms = 0.0
        self._short_of_room = False
        self._next_due_ms: float | None = None  # None: to be found again
        self._offsets_moved = False
        self._record_bytes = UNKNOWN_RECORD_BYTES
        self.taking = True

    @property
    def assignments(self) -> Iterable[Assignment]:
        return self._assignments.values()

    def room_records(self) -> int:
        """How many records to take next: few enough to deliver in between, and to leave the others their room."""
        room = Room(self._assignments.values(), self._limits)
        return max(1, min(STEP_RECORDS, room.records_at_once(self._record_bytes)))

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Starts each partition anew: whatever was paused, held or in flight of it is another life."""
        self._generation += 1
        for partition in partitions:
            delay_ms = self._delay_ms(partition.topic)
            due = DueRule(delay_ms, self._future)
            self._assignments[partition] = Assignment(partition, self._generation, due, delay_ms)
        self._look_again()

    def revoke(self, partitions: Iterable[Partition]) -> None:
        """Drops the partitions with all that is held of them: their next owner reads it again."""
        for partition in partitions:
            self._assignments.pop(partition, None)
        self._look_again()

    def hold(
        self,
        partition: Partition,
        messages: Sequence[Any],
        offsets: Sequence[int],
        timestamps_ms: Sequence[int],
        sizes: Sequence[int],
        now_ms: float,
    ) -> DueTimes | None:
        """Takes what was read of one partition; None when it is not, or no longer, ours."""
        one = self._assignments.get(partition)
        if one is None:
            return None
        self._record_bytes = max(0.99 * self._record_bytes, max(sizes))
        due = one.due.due_times(timestamps_ms, now_ms)
        read = Run(partition, one.generation, messages, offsets, timestamps_ms, due.due_ms, sizes)
        for run in _without_refused(read, due.refused):
            one.hold(run)
        self._look_again()
        return due

    def reached_end(self, partition: Partition, offset: int) -> None:
        """The log of ``partition`` ends at ``offset``."""
        one = self._assignments.get(partition)
        if one is not None:
            one.reached_end(offset)
            self._look_again()

    def moved(self, offsets: Mapping[Partition, int | None]) -> None:
        """The client was told to read on at these offsets, as it knew none that is in the log; None: at its start.

        Where that is before what was read already, it is another log: what is held of the former one is dropped.
        """
        for partition, offset in offsets.items():
            one = self._assignments[partition]
            if one.position is not None and (offset or 0) < one.position:
                self.assign([partition])
            self._assignments[partition].position = offset
        self._look_again()

    def positions(self) -> dict[Partition, int | None]:
        """Of every assigned partition the next offset to be read; None: nothing was read yet."""
        return {one.partition: one.position for one in self._assignments.values()}

    def next_due_ms(self) -> float:
        """When the next record is due that may be handed over; infinity when there is none."""
        if self._next_due_ms is None:
            heads = (one.next_due_ms for one in self._assignments.values() if self._may_start(one))
            self._next_due_ms = min((due_ms for due_ms in heads if due_ms is not None), default=float("inf"))
        return self._next_due_ms

    def take_due(self, now_ms: float) -> list[Run]:
        """One run of each partition that has something due, now in flight. Never early."""
        runs: list[Run] = []
        if now_ms < self.next_due_ms():
            return runs
        for one in self._assignments.values():
            if self._may_start(one):
                run = one.start_due(now_ms, self._in_flight.records_per_run)
                if run is not None:
                    runs.append(run)
        self._next_due_ms = None
        return runs

    def owns(self, run: Run) -> bool:
        """Whether ``run`` belongs to a present assignment; what comes back late from a former one does not."""
        one = self._assignments.get(run.partition)
        return one is not None and one.generation == run.generation

    def finish(self, run: Run, done: int, now_ms: float) -> None:
        """The sink is done with the first ``done`` records of a run that we own."""
        self._next_due_ms = None
        self._offsets_moved = True
        self._assignments[run.partition].finish(run, done, now_ms)
        if self._short_of_room:
            self._look_again()

    def take_committable(self) -> list[tuple[Partition, int]]:
        """The offsets that moved since the last call. Nothing at or behind them is unfinished."""
        moved: list[tuple[Partition, int]] = []
        if not self._offsets_moved:
            return moved
        self._offsets_moved = False
        for one in self._assignments.values():
            offset = one.committable
            if offset is not None and offset != one.stored:
                one.stored = offset
                moved.append((one.partition, offset))
        return moved

    def change_flow(self, now_ms: float) -> FlowChange | None:
        """What to pause and resume now; None when nothing can have changed."""
        if now_ms < self._look_at_ms:
            return None
        change = decide(self._assignments.values(), self._limits, now_ms)
        self.taking = change.taking
        self._short_of_room = change.short_of_room
        self._look_at_ms = change.again_ms
        return change

    def wake_ms(self) -> float:
        """When something is to be done next, if nothing arrives before."""
        return min(self.next_due_ms(), self._look_at_ms)

    def expect(self, partition: Partition, offset: int, now_ms: float) -> None:
        """Somebody else has seen that ``partition`` has records before ``offset`` that are due."""
        one = self._assignments.get(partition)
        if one is None or one.paused or one.records or one.position is None or one.position >= offset:
            return
        one.at_end = False
        if one.awaited_since_ms is None:
            one.awaited_since_ms = now_ms
        self._look_again()

    def excuse_silence(self, now_ms: float) -> None:
        """Up to now the client had a reason not to answer, such as a broker that is away."""
        for one in self._assignments.values():
            if one.awaited_since_ms is not None:
                one.awaited_since_ms = now_ms

    def clock_was_set(self, now_ms: float) -> None:
        """What was to be looked at by the old time is looked at now, and no silence has lasted yet."""
        self.excuse_silence(now_ms)
        self._look_again()

    def _may_start(self, one: Assignment) -> bool:
        limit = self._in_flight
        return len(one.in_flight) < limit.runs and one.in_flight.span_offsets < limit.span_offsets

    def _look_again(self) -> None:
        self._look_at_ms = 0.0
        self._next_due_ms = None
        self._offsets_moved = True


def _without_refused(run: Run, refused: Sequence[int]) -> Iterator[Run]:
    """The run in parts: those to deliver, and each that is refused alone."""
    start = 0
    for index in refused:
        if start < index:
            yield run.part(start, index)
        yield replace(run.part(index, index + 1), refused=REFUSED_TIMESTAMP)
        start = index + 1
    if start < len(run):
        yield run.part(start, len(run))
