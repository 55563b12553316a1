"""The engine against a model that is too simple to be wrong: lists of records, and what was done with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from delayed_consumer.core.due import FuturePolicy
from delayed_consumer.core.engine import Engine, InFlightLimit
from delayed_consumer.core.flow import Limits
from delayed_consumer.core.records import Run
from tests.core.making import RECORD_BYTES, engine_of, partition

START_MS = 1_795_000_000_000
HOUR_MS = 3_600_000
PARTITIONS = 3
LONGEST_READ = 12
LIMITS = Limits(lookahead_ms=4_000.0, max_records=60, max_bytes=1_000 * RECORD_BYTES)

partitions = st.integers(0, PARTITIONS - 1)
some_partitions = st.sets(partitions, min_size=1)


@dataclass
class Log:
    """A partition in Kafka. ``end`` lies behind the last record where control records follow it."""

    records: list[tuple[int, int]] = field(default_factory=list)  # offset, timestamp
    end: int = 0
    committed: int = 0

    def append(self, timestamp_ms: int, gap: int) -> None:
        self.records.append((self.end + gap, timestamp_ms))
        self.end += gap + 1


@dataclass
class Ownership:
    """What a partition's present owner may do: deliver ``due`` in order, from ``log.committed`` at the assign."""

    first_offset: int
    due: list[tuple[int, int]] = field(default_factory=list)  # offset, due time: what was read
    started: int = 0  # how many of ``due``
    running: list[Run] = field(default_factory=list)
    unfinished: set[int] = field(default_factory=set)
    position: int | None = None
    paused: bool = False
    told_end: int | None = None  # a client tells the end of the log once, and again after a resume
    broken: bool = False  # a record failed: nothing behind it will ever be done

    @property
    def first_not_done(self) -> int | None:
        waiting = {offset for offset, _ in self.due[self.started :]}
        return min(self.unfinished | waiting, default=self.position)


class EngineModel(RuleBasedStateMachine):
    @initialize(
        delay_ms=st.sampled_from([0, 1_000, 900_000]),
        runs=st.integers(1, 3),
        records_per_run=st.sampled_from([1, 3, 1_000]),
    )
    def begin(self, delay_ms: int, runs: int, records_per_run: int) -> None:
        self.now_ms = float(START_MS)
        self.delay_ms = delay_ms
        self.limit = InFlightLimit(runs, records_per_run)
        self.logs = [Log() for _ in range(PARTITIONS)]
        self.late: list[Run] = []
        self.start_process()

    def start_process(self) -> None:
        self.engine: Engine = engine_of(
            self.delay_ms, future=FuturePolicy(HOUR_MS, "wait"), limits=LIMITS, in_flight=self.limit
        )
        self.owned: dict[int, Ownership] = {}
        self.stored: dict[int, int] = {}

    # The world

    @rule(
        number=partitions,
        timestamps_ms=st.lists(st.integers(-2_000_000, 60_000), min_size=1, max_size=20),
        gap=st.sampled_from([0, 0, 1, 5]),
    )
    def produce(self, number: int, timestamps_ms: list[int], gap: int) -> None:
        for ago_ms in timestamps_ms:
            self.logs[number].append(int(self.now_ms) + ago_ms, gap)

    @rule(number=partitions)
    def write_control_record(self, number: int) -> None:
        self.logs[number].end += 1

    @rule(elapsed_ms=st.one_of(st.floats(0, 5_000), st.sampled_from([0.001, 1.0, 899_999.0, 900_000.0])))
    def time_passes(self, elapsed_ms: float) -> None:
        self.now_ms += elapsed_ms

    @rule()
    def time_passes_until_something_is_to_be_done(self) -> None:
        if self.now_ms < self.engine.wake_ms() < float("inf"):
            self.now_ms = self.engine.wake_ms()

    @rule(back_ms=st.sampled_from([1.0, 5_000.0, 2 * HOUR_MS]))
    def the_clock_is_set_back(self, back_ms: float) -> None:
        self.now_ms -= back_ms

    # The group

    @rule(numbers=some_partitions)
    def assign(self, numbers: set[int]) -> None:
        new = sorted(numbers - self.owned.keys())
        self.engine.assign([partition(number) for number in new])
        for number in new:
            self.owned[number] = Ownership(first_offset=self.logs[number].committed)

    @rule(numbers=some_partitions)
    def revoke(self, numbers: set[int]) -> None:
        self.store()
        for number in numbers & self.stored.keys():
            self.logs[number].committed = self.stored[number]
        self.lose(numbers)

    @rule(numbers=some_partitions)
    def lose(self, numbers: set[int]) -> None:
        self.engine.revoke([partition(number) for number in numbers])
        for number in numbers & self.owned.keys():
            self.late += self.owned.pop(number).running
            self.stored.pop(number, None)

    @rule()
    def crash(self) -> None:
        self.late.clear()
        self.start_process()

    # The loop

    @rule(number=partitions, records=st.integers(1, LONGEST_READ))
    def steer_and_read(self, number: int, records: int) -> None:
        self.steer()
        records = min(records, self.engine.room_records()) if self.engine.taking else 1
        one = self.owned.get(number)
        if one is not None and not one.paused:
            self.read(number, one, records)

    def steer(self) -> None:
        change = self.engine.change_flow(self.now_ms)
        if change is None:
            return
        for pause in change.pause:
            self.owned[pause.number].paused = True
        for resume, offset in change.resume:
            one = self.owned[resume.number]
            one.paused = False
            one.told_end = None
            assert offset == one.position, "it goes on where it was read to"

    def read(self, number: int, one: Ownership, records: int) -> None:
        log = self.logs[number]
        position = one.first_offset if one.position is None else one.position
        new = [record for record in log.records if record[0] >= position][:records]
        if new:
            self.hold(number, one, new)
        elif one.told_end != log.end:
            one.position = one.told_end = log.end
            self.engine.reached_end(partition(number), log.end)

    def hold(self, number: int, one: Ownership, records: Sequence[tuple[int, int]]) -> None:
        latest_ms = one.due[-1][1] if one.due else 0
        for offset, timestamp_ms in records:
            latest_ms = max(latest_ms, timestamp_ms + self.delay_ms)
            one.due.append((offset, latest_ms))
        offsets, timestamps_ms = zip(*records, strict=True)
        one.position = offsets[-1] + 1
        sizes = [RECORD_BYTES] * len(records)
        self.engine.hold(partition(number), offsets, offsets, timestamps_ms, sizes, self.now_ms)

    @rule()
    def deliver_due(self) -> None:
        while runs := self.engine.take_due(self.now_ms):
            for run in runs:
                self.check_start(run)
        for one in self.owned.values():
            waits = one.due[one.started :]
            assert not waits or waits[0][1] > self.now_ms or len(one.running) + one.broken == self.limit.runs, (
                "a due record waits though its partition may start"
            )

    def check_start(self, run: Run) -> None:
        one = self.owned[run.partition.number]
        expected = one.due[one.started : one.started + len(run)]
        assert list(zip(run.offsets, run.due_ms, strict=True)) == expected, "in order, nothing skipped or repeated"
        assert run.due_ms[-1] <= self.now_ms, "never early"
        assert len(run) <= self.limit.records_per_run
        one.started += len(run)
        one.running.append(run)
        one.unfinished |= set(run.offsets)
        assert len(one.running) <= self.limit.runs

    @precondition(lambda self: any(one.running for one in self.owned.values()))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from([one for one in self.owned.values() if one.running]))
        run = one.running.pop(data.draw(st.integers(0, len(one.running) - 1)))
        done = len(run) if one.broken else data.draw(st.sampled_from([len(run)] * 9 + [len(run) // 2]))
        assert self.engine.owns(run)
        self.engine.finish(run, done, 0)
        one.unfinished -= set(run.offsets[:done])
        one.broken = one.broken or done < len(run)

    @precondition(lambda self: bool(self.late))
    @rule(data=st.data())
    def finish_late(self, data: st.DataObject) -> None:
        run = self.late.pop(data.draw(st.integers(0, len(self.late) - 1)))
        assert not self.engine.owns(run), "it was read under a former assignment"

    @rule()
    def store(self) -> None:
        for one, offset in self.engine.take_committable():
            assert offset == self.owned[one.number].first_not_done
            self.stored[one.number] = offset

    @rule()
    def commit(self) -> None:
        self.store()
        for number, offset in self.stored.items():
            self.logs[number].committed = offset

    # What holds at any moment

    @invariant()
    def what_is_committable_is_the_first_offset_not_done(self) -> None:
        for one in self.engine.assignments:
            assert one.committable == self.owned[one.partition.number].first_not_done

    @invariant()
    def what_is_held_is_accounted_for_and_bounded(self) -> None:
        held = 0
        for one in self.engine.assignments:
            model = self.owned[one.partition.number]
            assert one.in_flight.records == len(model.unfinished)
            assert one.records == len(model.unfinished) + len(model.due) - model.started
            assert one.bytes == one.records * RECORD_BYTES
            held += one.records
        assert held <= LIMITS.max_records + LONGEST_READ

    @invariant()
    def the_client_was_told_what_the_engine_believes(self) -> None:
        for one in self.engine.assignments:
            assert one.paused == self.owned[one.partition.number].paused

    # And in the end

    def teardown(self) -> None:
        """Left alone, whatever state it is in, it delivers all that is in the logs, without ever standing still."""
        if not hasattr(self, "logs"):
            return
        self.lose({number for number, one in self.owned.items() if one.broken})
        self.assign(set(range(PARTITIONS)))
        for _ in range(3_000):
            self.turn()
            if all(self.is_through(number) for number in range(PARTITIONS)):
                return
        raise AssertionError(f"it stands still at {self.owned}")

    def turn(self) -> None:
        """A step of the loop with a sink that is done at once, and with the least waiting that it asks for."""
        self.deliver_due()
        for one in self.owned.values():
            while one.running:
                run = one.running.pop()
                self.engine.finish(run, len(run), 0)
                one.unfinished -= set(run.offsets)
        self.store()
        self.steer()
        reading = [(number, one) for number, one in self.owned.items() if not one.paused]
        if self.engine.taking:
            for number, one in reading:
                self.read(number, one, min(LONGEST_READ, self.engine.room_records()))
        if self.now_ms < self.engine.wake_ms() < float("inf"):
            self.now_ms = self.engine.wake_ms()

    def is_through(self, number: int) -> bool:
        return self.engine.positions()[partition(number)] == self.logs[number].end and not (
            self.owned[number].unfinished or self.owned[number].started < len(self.owned[number].due)
        )


TestEngineModel = EngineModel.TestCase
TestEngineModel.settings = settings(max_examples=100, stateful_step_count=40)
