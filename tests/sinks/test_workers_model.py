"""Whatever fails, hangs, comes back or goes away: order within a lane, and nothing reported that is not done."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from delayed_consumer.core.records import Partition, Run
from delayed_consumer.errors import MessageError
from delayed_consumer.record import Record
from delayed_consumer.sinks.ordering import Ordering
from delayed_consumer.sinks.workers import Rules
from tests.loop.clock import ManualClock
from tests.sinks.handling import Working, working
from tests.sinks.making import message, run_of

KEYS = [b"a", b"b", b"c", None]
Coordinates = tuple[int, int]  # partition and offset


@dataclass
class Plan:
    ordering: Ordering
    concurrency: int | None
    runs: list[tuple[int, list[bytes | None]]]  # partition and keys
    failures: dict[Coordinates, int]
    wrong: set[Coordinates]
    slow: set[Coordinates]
    kind: Literal["single", "lists", "async"]
    forget_after: dict[int, int]  # after how many deliveries which partition is given up

    @property
    def in_effect(self) -> Ordering:
        return "partition" if self.concurrency is None or self.kind == "lists" else self.ordering

    def lane(self, partition: int, offset: int, key: bytes | None) -> object:
        if self.in_effect == "partition":
            return partition
        return (partition, offset) if self.in_effect == "none" or key is None else (partition, key)


@dataclass
class Scene:
    """What the handler does with which record, and what it has seen."""

    plan: Plan
    calls: list[tuple[int, int, bytes | None, int]] = field(default_factory=list)  # partition, offset, key, attempt
    done: set[Coordinates] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    _at_work: set[object] = field(default_factory=set)  # lanes

    def handle(self, record: Record) -> None:
        with self._calling([record]):
            self._obey([record])

    def handle_list(self, records: list[Record]) -> None:
        with self._calling(records):
            self._obey(records)

    async def handle_async(self, record: Record) -> None:
        with self._calling([record]):
            await asyncio.sleep(0)
            self._obey([record])

    @contextmanager
    def _calling(self, records: list[Record]) -> Iterator[None]:
        lane = self.plan.lane(records[0].partition, records[0].offset, records[0].key)
        with self.lock:
            if lane in self._at_work:
                self.faults.append(f"{records} beside others of their lane")
            self._at_work.add(lane)
            self.calls += [(one.partition, one.offset, one.key, one.attempt) for one in records]
        try:
            yield
        finally:
            with self.lock:
                self._at_work.discard(lane)

    def _obey(self, records: list[Record]) -> None:
        where = {(one.partition, one.offset): one.attempt for one in records}
        if self.plan.slow & where.keys():
            time.sleep(0.001)
        if self.plan.wrong & where.keys():
            raise MessageError("wrong")
        if any(attempt <= self.plan.failures.get(one, 0) for one, attempt in where.items()):
            raise ValueError("not yet")
        with self.lock:
            self.done |= where.keys()


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    runs = draw(
        st.lists(st.tuples(st.integers(0, 1), st.lists(st.sampled_from(KEYS), min_size=1, max_size=12)), max_size=8)
    )
    where = st.tuples(st.integers(0, 1), st.integers(0, 40))
    return Plan(
        draw(st.sampled_from(["partition", "key", "none"])),
        draw(st.sampled_from([None, 1, 2, 5])),
        runs,
        draw(st.dictionaries(where, st.integers(1, 4), max_size=6)),
        draw(st.sets(where, max_size=3)),
        draw(st.sets(where, max_size=4)),
        draw(st.sampled_from(["single", "lists", "async"])),
        draw(st.dictionaries(st.integers(1, 8), st.integers(0, 1), max_size=2)),
    )


@given(plans())
@settings(max_examples=150, deadline=None)
def test_order_and_progress_hold_whatever_fails_and_whatever_is_given_up(plan: Plan) -> None:
    scene, clock = Scene(plan), ManualClock()
    handlers: dict[str, Callable[[Any], object]] = {
        "single": scene.handle,
        "lists": scene.handle_list,
        "async": scene.handle_async,
    }
    how: dict[str, Any] = {"batch_records": 3 if plan.kind == "lists" else None, "asynchronous": plan.kind == "async"}
    with working(handlers[plan.kind], Rules(plan.ordering, plan.concurrency, max_attempts=3), clock, **how) as workers:
        owned = _deliver(plan, workers, scene)
        workers.until(lambda: _ended(workers, owned), step_ms=50)
        _check(workers, scene, owned)


def _deliver(plan: Plan, workers: Working, scene: Scene) -> list[tuple[Run, bool]]:
    """Returns the runs, but for those that came back, and whether they were given up."""
    next_offset: dict[int, int] = defaultdict(int)
    owned: list[tuple[Run, bool]] = []
    for number, (partition, keys) in enumerate(plan.runs, 1):
        run = run_of(
            *[message(key=key) for key in keys],
            first_offset=next_offset[partition],
            partition=Partition("orders", partition),
        )
        next_offset[partition] = run.next_offset
        workers.deliver(run)
        owned.append((run, False))
        workers.look()
        if number in plan.forget_after:
            gone = Partition("orders", plan.forget_after[number])
            returned = workers.sink.forget([gone])
            assert all(one.partition == gone for one in returned)
            assert not any(_seen(scene, one) for one in returned), "something of it was begun"
            owned = [(one, one.partition == gone or given_up) for one, given_up in owned if one not in returned]
    return owned


def _seen(scene: Scene, run: Run) -> bool:
    with scene.lock:
        return any(
            (where, offset) == (run.partition.number, one) for where, offset, *_ in scene.calls for one in run.offsets
        )


def _ended(workers: Working, owned: list[tuple[Run, bool]]) -> bool:
    for offset, _ in list(workers.fallback.unresolved):
        workers.fallback.resolve(offset)
    return all(any(not one.goes_on for one in workers.said if one.run is run) for run, _ in owned)


def _check(workers: Working, scene: Scene, owned: list[tuple[Run, bool]]) -> None:
    assert not scene.faults
    for run, given_up in owned:
        outcomes = [one for one in workers.said if one.run is run]
        assert [one.done for one in outcomes] == sorted(one.done for one in outcomes)
        assert sum(not one.goes_on for one in outcomes) == 1, "a run ends once"
        diverted = {index for one in outcomes for index in one.diverted}
        done = workers.done(run)
        assert given_up or done == len(run)
        assert len(workers.begun_ms(run)) == done
        for index in range(done):
            where = (run.partition.number, run.offsets[index])
            assert (where in scene.done) != (index in diverted), "reported as done and not handled, or the reverse"
    lanes: dict[object, list[tuple[int, int]]] = defaultdict(list)
    for partition, offset, key, attempt in scene.calls:
        lanes[scene.plan.lane(partition, offset, key)].append((offset, attempt))
    for calls in lanes.values():
        first_calls = [offset for offset, attempt in calls if attempt == 1]
        assert first_calls == sorted(first_calls)
        assert scene.plan.kind == "lists" or calls == sorted(calls), "a record was passed that is tried again"
        assert len(calls) == len(set(calls)), "an attempt was made twice"
