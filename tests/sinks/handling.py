"""A handler that does as it is told, the workers that call it, and who takes what fails."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from delayed_consumer.clock import Clock, SystemClock
from delayed_consumer.core.records import Partition, Run
from delayed_consumer.failures import Failure
from delayed_consumer.record import Record
from delayed_consumer.sinks import Outcome
from delayed_consumer.sinks.workers import Rules, Workers
from tests.sinks.making import ORDERS, message, run_of

BY_KEY = Rules(ordering="key", concurrency=4)
OTHER = Partition("orders", 4)
SOON_MS = 5.0


def keyed(*keys: bytes | None, first_offset: int = 0) -> Run:
    return run_of(*[message(key=key) for key in keys], first_offset=first_offset)


def plain(records: int, first_offset: int = 0, partition: Partition = ORDERS) -> Run:
    return run_of(*[message()] * records, first_offset=first_offset, partition=partition)


class Taking:
    """A fallback that remembers what it was given; the service stops where ``stops`` is set."""

    def __init__(self) -> None:
        self.stops = False
        self.at_once = False
        self.taken: list[tuple[int, Failure]] = []  # with the record's offset
        self.unresolved: list[tuple[int, Callable[[], None]]] = []

    def take(self, run: Run, index: int, failure: Failure, resolved: Callable[[], None]) -> str | None:
        self.taken.append((run.offsets[index], failure))
        if self.stops:
            return failure.reason
        if self.at_once:
            resolved()
            return None
        self.unresolved.append((run.offsets[index], resolved))
        return None

    def resolve(self, offset: int) -> None:
        """The first record of this offset is out of the way."""
        place = [one for one, _ in self.unresolved].index(offset)
        self.unresolved.pop(place)[1]()

    def serve(self) -> None:
        """Nothing happens by itself."""

    def close(self) -> None:
        """Nothing is kept."""


class Handler:
    """Remembers its calls, waits and fails as it is told."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.held: dict[int, threading.Event] = {}  # by offset: the call waits for it
        self.errors: dict[int, list[BaseException]] = defaultdict(list)  # by offset: what the next calls raise
        self.at_once = 0
        self.most_at_once = 0
        self._lock = threading.Lock()

    def __call__(self, record: Record) -> None:
        with self._lock:
            self.records.append(record)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if record.offset in self.held:
                self.held[record.offset].wait(60)
            if self.errors[record.offset]:
                raise self.errors[record.offset].pop(0)
        finally:
            with self._lock:
                self.at_once -= 1

    def hold(self, *offsets: int) -> None:
        self.held |= {offset: threading.Event() for offset in offsets}

    def let_go(self, *offsets: int) -> None:
        for offset in offsets or self.held:
            self.held[offset].set()

    @property
    def offsets(self) -> list[int]:
        return [record.offset for record in self.records]


class Working:
    """Workers, and what they have said so far."""

    def __init__(self, sink: Workers, fallback: Taking, clock: Clock) -> None:
        self.clock = clock
        self.sink = sink
        self.fallback = fallback
        self.said: list[Outcome] = []

    def deliver(self, *runs: Run) -> None:
        for run in runs:
            self.sink.deliver(run, 0.0)

    def look(self) -> list[Outcome]:
        """What is new."""
        outcomes = self.sink.outcomes()
        self.said += outcomes
        return outcomes

    def until(self, condition: Callable[[], object], what: str = "", *, step_ms: float = 0.0) -> None:
        """Looks until something is true, a thousand times a second.

        ``step_ms``: by how much a clock that is moved by hand goes on with each look.
        """
        deadline = time.monotonic() + 20
        while True:
            self.look()
            if condition():
                return
            assert time.monotonic() < deadline, f"not within 20 s: {what or 'the condition'}"
            time.sleep(0.001)
            if step_ms:
                self.clock.wait_ms(step_ms)

    def until_done(self, run: Run, done: int | None = None) -> None:
        self.until(lambda: self.done(run) >= (len(run) if done is None else done), f"{done} of {run} done")

    def done(self, run: Run) -> int:
        return max((one.done for one in self.said if one.run is run), default=0)

    def last(self, run: Run) -> Outcome:
        return [one for one in self.said if one.run is run][-1]

    def begun_ms(self, run: Run) -> Sequence[float]:
        return [moment for one in self.said if one.run is run for moment in one.begun_ms or ()]


@contextmanager
def working(
    handle: Callable[[Any], Any],
    rules: Rules | None = None,
    clock: Clock | None = None,
    make: Callable[..., Workers] = Workers,
    **how: Any,
) -> Iterator[Working]:
    fallback = Taking()
    clock = clock or SystemClock()
    sink = make(handle, rules or Rules(), fallback, clock, **how)
    try:
        yield Working(sink, fallback, clock)
    finally:
        sink.close()
        if isinstance(handle, Handler):
            handle.let_go()
