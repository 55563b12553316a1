"""What must stay in order: lanes of records, the runs they belong to, and a worker's turn with a lane."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import Any, NamedTuple

from delayed_consumer.core.records import Partition, Run
from delayed_consumer.origin import Origins
from delayed_consumer.record import Record
from delayed_consumer.sinks import Outcome
from delayed_consumer.sinks.columns import records, records_one_by_one


class Flight:
    """One run in flight: which of its records are done, in whatever order they were.

    Attributes:
        left: how many of its records may still come to something.
        touched: something of it was begun.
        begun_ms: of each record that is done, when its call began, by the wall clock.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.left = len(run)
        self.touched = False
        self.begun_ms = [0.0] * len(run)
        self._done = bytearray(len(run))
        self._prefix = 0
        self._reported = 0
        self._diverted: list[int] = []
        self._failed: tuple[int, str] | None = None

    def done(self, indices: Sequence[int], begun_ms: Sequence[float]) -> None:
        """These records are, and their calls began then."""
        self.left -= len(indices)
        if isinstance(indices, range):
            part = slice(indices.start, indices.stop)
            self._done[part] = b"\1" * len(indices)
            self.begun_ms[part] = begun_ms
            return
        for index, one_begun_ms in zip(indices, begun_ms, strict=True):
            self._done[index] = 1
            self.begun_ms[index] = one_begun_ms

    def divert(self, index: int) -> None:
        """The fallback has seen to this record."""
        self.left -= 1
        self._done[index] = 1
        self._diverted.append(index)

    def fail(self, index: int, reason: str) -> None:
        """This record stops the service."""
        self.left -= 1
        if self._failed is None:
            self._failed = (index, reason)

    @property
    def furthest_offset(self) -> int:
        """Of the last record that is done; -1: none is."""
        index = self._done.rfind(1)
        return -1 if index < 0 else self.run.offsets[index]

    def outcome(self) -> Outcome | None:
        """What is new since the last call."""
        first = self._done.find(0, self._prefix)
        done = self._prefix = len(self._done) if first < 0 else first
        if self.left and self._failed is None and done == self._reported:
            return None
        diverted = [index for index in self._diverted if index < done]
        self._diverted = [index for index in self._diverted if index >= done]
        begun_ms = self.begun_ms[self._reported : done]
        self._reported = done
        failed, failure = self._failed or (None, None)
        return Outcome(self.run, done, failure, self.left > 0, diverted, begun_ms, failed)


class Span(NamedTuple):
    """Records of one run that follow one another in a lane: a range, or a list of indices."""

    flight: Flight
    indices: Sequence[int]


def split(spans: Iterable[Span], count: int) -> tuple[list[Span], list[Span]]:
    """The first ``count`` records, and the rest."""
    first: list[Span] = []
    rest: list[Span] = []
    for flight, indices in spans:
        if count > 0:
            first.append(Span(flight, indices[:count]))
        if count < len(indices):
            rest.append(Span(flight, indices[max(0, count) :]))
        count -= len(indices)
    return first, rest


def split_behind(spans: Iterable[Span], offset: int) -> tuple[list[Span], list[Span]]:
    """The records of one lane up to ``offset``, and those behind it."""
    spans = list(spans)
    return split(spans, sum(flight.run.offsets[index] <= offset for flight, indices in spans for index in indices))


class Lane:
    """Records that are handled one after the other. Touched by the loop's thread only.

    Attributes:
        turn: with the worker that has it, or will.
        pending: what no turn has.
        attempts: how often the first records, one after the other, were tried in vain.
        again_ms: the next attempt not before, by the steady clock.
        stopped: a record of it stops the service.
    """

    def __init__(self, key: Hashable, partition: Partition) -> None:
        self.key = key
        self.partition = partition
        self.turn: Turn | None = None
        self.pending: deque[Span] = deque()
        self.attempts: list[int] = []
        self.again_ms = 0.0
        self.stopped = False

    def add(self, span: Span) -> None:
        """To the turn in progress, so that its worker goes on without asking."""
        if self.turn is None or self.pending or not self.turn.takes_more:
            self.pending.append(span)
        else:
            self.turn.spans.append(span)

    def pop_record(self) -> tuple[Flight, int]:
        """The first that is pending."""
        flight, indices = self.pending.popleft()
        if len(indices) > 1:
            self.pending.appendleft(Span(flight, indices[1:]))
        self.attempts = self.attempts[1:]
        return flight, indices[0]

    def drop_behind(self, offset: int) -> list[Span]:
        """Returns what was pending behind ``offset``."""
        kept, dropped = split_behind(self.pending, offset)
        self.pending = deque(kept)
        if not kept:
            self.attempts = []
            self.again_ms = 0.0
        return dropped


class Calls(NamedTuple):
    """How a handler is called."""

    now_ms: Callable[[], float]
    origins: Origins
    batch_records: int | None = None  # the longest list that it takes; None: it takes single records


class Turn:
    """A worker's turn with a lane: one call after the other until nothing is left, one fails, or it is halted.

    Two threads share it without a lock. What the worker has begun it says *before* it looks whether it is halted, and
    the loop halts *before* it looks what was begun: so what the loop finds not begun never will be. The same holds
    for a call that the loop finds not done, and the one after it.

    Attributes:
        spans: the worker reads them, the loop appends, and forgets those that it has marked.
        begun_ms: when the call of each record began, by the wall clock.
        done: how many records are.
        error: what a call raised. The failed records are those that are begun and not done.
        over: the worker has left it.
        left_behind: its worker is replaced, and ends when the call does.
        marked: how many records the loop has marked as done.
        kept: how many may be done in all, this turn or later; None: as many as there are.
        forgotten: what its call comes to matters only where it is done.
        watched: how many were done when the loop first saw the present call, and when that was.
    """

    MOST_SPANS = 64  # their runs stay in memory until the turn's end

    def __init__(self, lane: Lane, calls: Calls) -> None:
        self.lane = lane
        self.spans: list[Any] = list(lane.pending)
        lane.pending.clear()
        self.begun_ms: list[float] = []
        self.done = 0
        self.error: BaseException | None = None
        self.over = False
        self.halted = False
        self.left_behind = False
        self.kept: int | None = None
        self.forgotten = False
        self.marked = 0
        self.since_ms = 0.0
        self.watched = (-1, 0.0)
        self._attempts = lane.attempts.copy()
        self._calls = calls
        self._span = 0  # the first that is not wholly marked
        self._index = 0  # and how much of it is

    # The worker's side

    def arguments(self) -> Iterator[Any]:
        """What to call the handler with. To ask for the next one says that the call of the last one has returned."""
        return self._records() if self._calls.batch_records is None else self._lists(self._calls.batch_records)

    def _records(self) -> Iterator[Record]:
        now_ms, begun = self._calls.now_ms, self.begun_ms.append
        tried = chain(self._attempts, repeat(0))

        def begin(due_ms: int) -> float:
            """The call begins now. Returns how late that is."""
            begun_ms = now_ms()
            begun(begun_ms)
            return begun_ms - due_ms if begun_ms > due_ms else 0.0

        for flight, indices in self.spans:
            for record in records_one_by_one(flight.run, indices, begin, self._calls.origins, tried):
                if self.halted:
                    return
                yield record
                self.done += 1

    def _lists(self, most: int) -> Iterator[list[Record]]:
        """One record at a time while there are some that were tried in vain."""
        place = (0, 0)
        tried = chain(self._attempts, repeat(0))
        while True:
            parts, place = self._take(place, 1 if self.done < len(self._attempts) else most)
            if not parts:
                return
            begun_ms = self._calls.now_ms()
            count = sum(len(indices) for _, indices in parts)
            self.begun_ms += [begun_ms] * count
            if self.halted:
                return
            yield list(chain.from_iterable(self._of(one, begun_ms, tried) for one in parts))
            self.done += count

    def _of(self, part: Span, begun_ms: float, tried: Iterator[int]) -> Iterator[Record]:
        return records(part.flight.run, part.indices, begun_ms, self._calls.origins, tried)

    def _take(self, place: tuple[int, int], most: int) -> tuple[list[Span], tuple[int, int]]:
        """At most so many records from this span and index on, and where the next ones are."""
        parts: list[Span] = []
        span, index = place
        while most and span < len(self.spans):
            flight, indices = self.spans[span]
            part = indices[index : index + most]
            parts.append(Span(flight, part))
            most -= len(part)
            span, index = (span, index + len(part)) if index + len(part) < len(indices) else (span + 1, 0)
        return parts, (span, index)

    # The loop's side

    @property
    def takes_more(self) -> bool:
        return not self.halted and not self.over and len(self.spans) < self.MOST_SPANS

    @property
    def calling(self) -> int:
        """How many records are begun and not done."""
        return len(self.begun_ms) - self.done

    def mark(self) -> list[Flight]:
        """Marks what is newly done. Returns whose records."""
        changed: list[Flight] = []
        done = self.done
        while self.marked < done:
            flight, indices = self.spans[self._span]
            part = indices[self._index : self._index + done - self.marked]
            flight.done(part, self.begun_ms[self.marked : self.marked + len(part)])
            flight.touched = True
            changed.append(flight)
            self.marked += len(part)
            self._index += len(part)
            if self._index == len(indices):
                self.spans[self._span] = None  # the run's memory
                self._span += 1
                self._index = 0
        return changed

    def rest(self) -> list[Span]:
        """What is not marked, of that which is kept."""
        if self._span == len(self.spans):
            return []
        rest = [Span(flight, indices) for flight, indices in self.spans[self._span :]]
        unmarked = split(rest, self._index)[1]
        return unmarked if self.kept is None else split(unmarked, self.kept - self.marked)[0]

    def begun(self) -> list[Span]:
        """What is begun and not marked."""
        return split(self.rest(), len(self.begun_ms) - self.marked)[0]

    def keep(self, offset: int) -> list[Span]:
        """Begins nothing more. What is not begun and lies up to ``offset`` is left for another turn.

        Returns what lies behind it.
        """
        self.halted = True
        begun = len(self.begun_ms)
        kept, dropped = split_behind(split(self.rest(), begun - self.marked)[1], offset)
        self.kept = begun + sum(len(indices) for _, indices in kept)
        return dropped
