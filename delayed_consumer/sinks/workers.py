"""Sinks whose work blocks: a handler is called on worker threads, and everything is decided on the loop's thread."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

from delayed_consumer.clock import Clock
from delayed_consumer.core.engine import InFlightLimit
from delayed_consumer.core.records import Partition, Run
from delayed_consumer.errors import FatalError, RetryableError
from delayed_consumer.failures import Failure, Fallback, Kind
from delayed_consumer.origin import Origins
from delayed_consumer.settings import Settings
from delayed_consumer.sinks import Outcome
from delayed_consumer.sinks.crew import Coroutines, Crew, Threads
from delayed_consumer.sinks.lanes import Calls, Flight, Lane, Span, Turn, split
from delayed_consumer.sinks.ordering import LANES, Ordering

BACK_OFF_MS = 100.0  # before the second attempt, doubling with each, by chance down to half of it
LONGEST_BACK_OFF_MS = 10_000.0
FAIR_TURN_MS = 50.0  # how long a lane keeps its worker while others wait for one
BLOCKED_MS = 10_000.0  # an event loop that is silent for that long is not just late
NOWHERE = -1  # before every offset
MOST_LEFT_BEHIND = 100  # calls that were given up and have not ended; each may keep a thread


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings say about records that are handled side by side.

    Attributes:
        concurrency: calls at once. None: one of each partition, whatever ``ordering`` would allow.
        timeout_ms: how long a call may take before its attempt counts as failed; None: for ever.
    """

    ordering: Ordering = "partition"
    concurrency: int | None = None
    max_attempts: int = 3
    timeout_ms: float | None = None
    origins: Origins = field(default_factory=Origins)

    @classmethod
    def of(cls, settings: Settings) -> Rules:
        timeout_ms = None if settings.sink_timeout_seconds is None else settings.sink_timeout_seconds * 1000
        origins = Origins(settings.retry_topics)
        return cls(settings.ordering, settings.sink_concurrency, settings.max_attempts, timeout_ms, origins)


class Workers:
    """Calls a handler beside the loop: what must stay in order one after the other, the rest side by side.

    A call that returns is done. One that raises has failed: it is tried again after a back-off, during which its
    lane waits and no worker does, until MAX_ATTEMPTS are used up, which a MessageError or a FatalError does at once;
    then the fallback gets the record. Any other exception, SystemExit included, counts as a RetryableError.

    A call that takes longer than SINK_TIMEOUT_SECONDS has failed too. What comes of it later is ignored: a coroutine
    is cancelled; a thread cannot be, so it is left behind and replaced, and the record may be tried again while the
    first call is still at work. The service stops when `MOST_LEFT_BEHIND` calls have been given up and not ended, or
    when a coroutine blocks the event loop for twice that time and 10 s at least. Without a time-out, a handler that
    hangs stops its own partition or key for good, and nothing else.
    """

    def __init__(
        self,
        handle: Callable[[Any], Any],
        rules: Rules,
        fallback: Fallback,
        clock: Clock,
        *,
        batch_records: int | None = None,
        asynchronous: bool = False,
    ) -> None:
        """``handle`` gets a `Record`, or a list of up to ``batch_records`` of one partition; the result is ignored.

        ``asynchronous``: its result is awaited, on an event loop of its own.
        """
        self._rules = rules
        self._fallback = fallback
        self._clock = clock
        self._calls = Calls(clock.now_ms, rules.origins, batch_records)
        crew = Coroutines if asynchronous else Threads
        self._crew: Crew = crew(handle, rules.concurrency)
        by_partition = rules.concurrency is None or batch_records is not None
        self._ordering: Ordering = "partition" if by_partition else rules.ordering
        self._lanes: dict[Hashable, Lane] = {}
        self._flights: dict[Run, Flight] = {}
        self._changed: dict[Flight, None] = {}  # in order
        self._working: dict[Turn, None] = {}
        self._waiting: list[tuple[float, int, Lane]] = []  # a heap of those that wait for their next attempt
        self._order = count()
        self._submitted = False  # something, since the last look at what came of it
        self._furthest_ended: dict[Partition, int] = {}  # the last offset that is done of runs that have ended
        self._answered_ms = clock.steady_ms()

    @property
    def in_flight_limit(self) -> InFlightLimit:
        """Key by key it takes many records to keep all workers busy; one after the other a few are enough."""
        return InFlightLimit(1_000, 500, span_offsets=2_000 if self._ordering == "partition" else 10_000)

    def deliver(self, run: Run, delivered_ms: float) -> None:  # noqa: ARG002 - records know when their call begins
        self._take_notes()  # a lane whose turn is over would wait for the next look
        flight = self._flights[run] = Flight(run)
        for key, indices in LANES[self._ordering](run):
            lane = self._lanes.get(key)
            if lane is None:
                lane = self._lanes[key] = Lane(key, run.partition)
            lane.add(Span(flight, indices))
            self._go_on(lane)

    def outcomes(self) -> list[Outcome]:
        if self._submitted:  # a worker that was woken up gets the interpreter only when we wait
            self._clock.give_way()
        self._collect()
        self._submitted = False
        changed, self._changed = self._changed, {}
        outcomes = [outcome for flight in changed if (outcome := flight.outcome()) is not None]
        for outcome in outcomes:
            if not outcome.goes_on:
                self._ended(self._flights.pop(outcome.run))
        return outcomes

    def wind_up(self, partitions: Collection[Partition]) -> list[Run]:
        self._collect()
        lanes = self._lanes_of(partitions)
        turns = [lane.turn for lane in lanes if lane.turn is not None]
        for turn in turns:
            turn.halted = True  # all of them first: what is begun of one says what is left to begin of another
        furthest = {one: self._furthest_offset(one, turns) for one in partitions}
        for lane in lanes:
            self._give_up_behind(lane, furthest[lane.partition])
        return self._untouched(partitions)

    def forget(self, partitions: Collection[Partition]) -> list[Run]:
        """A record that is being handled may end, and the list that a batch handler has as a whole."""
        self._collect()
        for lane in self._lanes_of(partitions):
            if lane.turn is not None:
                lane.turn.forgotten = True
            self._give_up_behind(lane, NOWHERE)
        for one in partitions:
            self._furthest_ended.pop(one, None)
        return self._untouched(partitions)

    def close(self) -> None:
        for lane in self._lanes.values():
            if lane.turn is not None:
                lane.turn.halted = True
        self._crew.close()

    # Partitions that are given up

    def _lanes_of(self, partitions: Collection[Partition]) -> list[Lane]:
        return [lane for lane in self._lanes.values() if lane.partition in partitions]

    def _give_up_behind(self, lane: Lane, offset: int) -> None:
        """Of what is not begun of the lane."""
        if lane.turn is not None:
            self._drop(lane.turn.keep(offset))
            for flight, _ in lane.turn.begun():
                flight.touched = True
        self._drop(lane.drop_behind(offset))
        self._close_if_idle(lane)

    def _furthest_offset(self, partition: Partition, turns: Iterable[Turn]) -> int:
        """Of the last record that is done, or that one of these turns has begun."""
        done = [one.furthest_offset for one in self._flights.values() if one.run.partition == partition]
        begun = [turn.begun()[-1:] for turn in turns if turn.lane.partition == partition and not turn.forgotten]
        last = [flight.run.offsets[indices[-1]] for spans in begun for flight, indices in spans]
        return max(self._furthest_ended.get(partition, NOWHERE), *done, *last, NOWHERE)

    def _untouched(self, partitions: Collection[Partition]) -> list[Run]:
        """The runs of which nothing was begun, and nothing will be."""
        untouched = [
            one for one in self._flights.values() if one.run.partition in partitions and not (one.touched or one.left)
        ]
        for flight in untouched:
            del self._flights[flight.run]
            self._changed.pop(flight, None)
        return [flight.run for flight in untouched]

    # What the workers have done

    def _collect(self) -> None:
        self._take_notes()
        steady_ms = self._clock.steady_ms()
        for turn in list(self._working):
            self._look_at(turn, steady_ms)
        while self._waiting and self._waiting[0][0] <= steady_ms:
            self._go_on(heapq.heappop(self._waiting)[2])
        self._watch_crew(steady_ms)

    def _take_notes(self) -> None:
        notes = self._crew.notes
        while notes:
            turn = notes.popleft()
            if turn.over:
                self._take_back(turn)
            elif not turn.left_behind:
                turn.since_ms = self._clock.steady_ms()
                self._working[turn] = None

    def _take_back(self, turn: Turn) -> None:
        if turn.lane.turn is turn:  # not given up, and not taken back with its other note
            self._crew.took_back()
            self._mark(turn)
            self._end(turn, turn.begun_ms[turn.marked :], turn.error)

    def _look_at(self, turn: Turn, steady_ms: float) -> None:
        self._mark(turn)
        if self._crew.waiting and steady_ms - turn.since_ms > FAIR_TURN_MS:
            turn.halted = True
        if self._rules.timeout_ms is not None:
            self._watch(turn, steady_ms, self._rules.timeout_ms)

    def _mark(self, turn: Turn) -> None:
        self._changed.update(dict.fromkeys(turn.mark()))

    def _watch(self, turn: Turn, steady_ms: float, timeout_ms: float) -> None:
        """Gives its call up when that has taken too long."""
        done, since_ms = turn.watched
        if done != turn.done or not turn.calling:
            turn.watched = (turn.done, steady_ms)
        elif steady_ms - since_ms >= timeout_ms:
            turn.halted = True
            begun_ms = turn.begun_ms[done:]
            if turn.done == done:  # so the call was still at work when it was halted, and begun_ms is of it alone
                self._give_up_call(turn, begun_ms, TimeoutError(f"no result within {timeout_ms / 1000:g} s"))

    def _watch_crew(self, steady_ms: float) -> None:
        """Something that blocks the event loop keeps every call from its end, and each record that is tried again."""
        if self._crew.answers:
            self._answered_ms = steady_ms
        elif steady_ms - self._answered_ms >= max(BLOCKED_MS, 2 * (self._rules.timeout_ms or math.inf)):
            turns = [lane.turn for lane in self._lanes.values() if lane.turn and lane.turn not in self._working]
            for turn in turns[:1]:
                self._give_up_call(turn, [], FatalError("the handler blocks the event loop; it should await instead"))

    def _give_up_call(self, turn: Turn, begun_ms: Sequence[float], error: Exception) -> None:
        turn.halted = True
        self._crew.give_up(turn)
        if self._crew.left_behind > MOST_LEFT_BEHIND:
            error = FatalError(f"more than {MOST_LEFT_BEHIND} calls were given up and have not ended: {error}")
        self._end(turn, begun_ms, error)

    def _end(self, turn: Turn, begun_ms: Sequence[float], error: BaseException | None) -> None:
        """What the turn has left goes on in the lane's next one, but for what was given up meanwhile.

        ``begun_ms``: of the records whose call failed with ``error``.
        """
        lane = turn.lane
        lane.turn = None
        self._working.pop(turn, None)
        if turn.forgotten:
            self._drop(turn.rest())
        else:
            self._take_over(lane, turn)
            if error is not None and lane.pending:
                self._failed(lane, error, begun_ms or [self._clock.now_ms()])
        self._go_on(lane)
        self._close_if_idle(lane)

    def _take_over(self, lane: Lane, turn: Turn) -> None:
        """What the turn has left is pending again. In a lane that winds up, only what lies before something done."""
        lane.attempts = lane.attempts[turn.marked :]
        lane.pending.extendleft(reversed(turn.rest()))
        if turn.kept is not None:
            self._drop(lane.drop_behind(self._furthest_offset(lane.partition, self._working)))

    # What failed

    def _failed(self, lane: Lane, error: BaseException, begun_ms: Sequence[float]) -> None:
        """The call of the lane's first records has, begun then."""
        records = len(begun_ms)
        for flight, _ in split(lane.pending, records)[0]:
            flight.touched = True
        attempts = lane.attempts[0] + 1 if lane.attempts else 1
        failure = Failure.of(error, attempts)
        if records > 1 and failure.kind is not Kind.FATAL:
            lane.attempts = [1] * records
            self._back_off(lane, 1, error)
        elif failure.kind is Kind.RETRYABLE and attempts < self._rules.max_attempts:
            lane.attempts[:1] = [attempts]
            self._back_off(lane, attempts, error)
        else:
            self._give_up_record(lane, failure, begun_ms[0])

    def _back_off(self, lane: Lane, attempts: int, error: BaseException) -> None:
        wait_ms = min(LONGEST_BACK_OFF_MS, BACK_OFF_MS * 2 ** (attempts - 1)) * random.uniform(0.5, 1)  # noqa: S311
        if isinstance(error, RetryableError) and error.after_seconds is not None:
            wait_ms = max(wait_ms, error.after_seconds * 1000)
        lane.again_ms = self._clock.steady_ms() + wait_ms
        heapq.heappush(self._waiting, (lane.again_ms, next(self._order), lane))

    def _give_up_record(self, lane: Lane, failure: Failure, begun_ms: float) -> None:
        """The lane goes on behind it, whether the fallback has seen to it yet or not."""
        flight, index = lane.pop_record()
        flight.begun_ms[index] = begun_ms
        stop = self._fallback.take(flight.run, index, failure, partial(self._resolved, flight, index))
        if stop is not None:
            lane.stopped = True
            flight.fail(index, stop)
            self._changed[flight] = None

    def _resolved(self, flight: Flight, index: int) -> None:
        flight.divert(index)
        self._changed[flight] = None

    # Lanes

    def _go_on(self, lane: Lane) -> None:
        if lane.turn is None and lane.pending and not lane.stopped and lane.again_ms <= self._clock.steady_ms():
            lane.turn = Turn(lane, self._calls)
            self._crew.submit(lane.turn)
            self._submitted = True

    def _close_if_idle(self, lane: Lane) -> None:
        if lane.turn is None and not lane.pending and not lane.stopped:
            self._lanes.pop(lane.key, None)

    def _ended(self, flight: Flight) -> None:
        one, offset = flight.run.partition, flight.furthest_offset
        self._furthest_ended[one] = max(offset, self._furthest_ended.get(one, NOWHERE))

    def _drop(self, spans: Iterable[Span]) -> None:
        for flight, indices in spans:
            flight.left -= len(indices)
            self._changed[flight] = None
