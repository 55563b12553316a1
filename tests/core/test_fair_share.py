"""The hold is bounded, and one partition's far future never keeps another's due records from being read."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from delayed_consumer.core.engine import Engine
from delayed_consumer.core.flow import Limits
from delayed_consumer.core.records import Partition
from tests.core.making import LOOKAHEAD_MS, engine_of, partition, read

NOW_MS = 1_795_000_000_000
SIZE = 1_000


@dataclass
class Backlog:
    """A client over logs without an end, at its worst: the far future always comes first."""

    engine: Engine
    far: dict[int, int]  # partitions of which nothing is due, and in how many milliseconds it is
    fetch_records: int
    read_offsets: dict[int, int] = field(default_factory=dict)
    paused: set[Partition] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.queue = list(self.read_offsets)

    def step(self) -> bool:
        """As the loop's: steer, then take what there is room for. Returns whether there was any."""
        change = self.engine.change_flow(NOW_MS)
        if change is not None:
            self.paused |= set(change.pause)
            self.paused -= {one for one, _ in change.resume}
        if not self.engine.taking:
            return False
        room = self.engine.room_records()
        unpaused = [number for number in self.queue if partition(number) not in self.paused]
        for number in sorted(unpaused, key=lambda number: number not in self.far):
            if room == 0:
                break
            taken = room if number in self.far else min(room, self.fetch_records)
            room -= taken
            self._hand_over(number, taken)
            self.queue.remove(number)
            self.queue.append(number)
        return bool(unpaused)

    def turn(self, times: int) -> None:
        """Reads, and delivers what is due."""
        for _ in range(times):
            self.step()
            for run in self.engine.take_due(NOW_MS):
                self.engine.finish(run, len(run), 0)

    def _hand_over(self, number: int, records: int) -> None:
        timestamp_ms = NOW_MS + self.far.get(number, 0)
        offset = self.read_offsets[number]
        read(self.engine, number, [timestamp_ms] * records, first_offset=offset, now_ms=NOW_MS, size=SIZE)
        self.read_offsets[number] = offset + records


limits = st.builds(
    Limits,
    st.just(LOOKAHEAD_MS),
    max_records=st.sampled_from([100, 1_000, 5_000, 200_000]),
    max_bytes=st.sampled_from([100 * SIZE, 1_000 * SIZE, 64_000_000]),
)
partitions = st.integers(1, 25)  # a hold of four records for each of them


@settings(max_examples=30)
@given(limits, partitions, st.integers(1, 1_000), st.data())
def test_a_far_future_never_keeps_what_is_due_from_being_read(
    limits: Limits, partitions: int, fetch_records: int, data: st.DataObject
) -> None:
    far = data.draw(st.dictionaries(st.integers(0, partitions - 1), st.sampled_from([8_000, 3_600_000])))
    client = client_of(limits, partitions, far, fetch_records)
    client.turn(100 + 8 * partitions)
    assert {number for number, offset in client.read_offsets.items() if offset} >= set(range(partitions)) - far.keys()
    before = dict(client.read_offsets)
    client.turn(100 + 8 * partitions)
    assert all(client.read_offsets[number] > before[number] for number in before.keys() - far.keys())


@settings(max_examples=30)
@given(limits, partitions, st.integers(1, 1_000), st.data())
def test_the_hold_is_bounded_while_nothing_is_done(
    limits: Limits, partitions: int, fetch_records: int, data: st.DataObject
) -> None:
    far = data.draw(st.dictionaries(st.integers(0, partitions - 1), st.sampled_from([8_000, 3_600_000])))
    client = client_of(limits, partitions, far, fetch_records)
    while client.step():
        client.engine.take_due(NOW_MS)
        records = sum(client.read_offsets.values())
        assert records <= limits.max_records
        assert records * SIZE <= limits.max_bytes


def client_of(limits: Limits, partitions: int, far: dict[int, int], fetch_records: int) -> Backlog:
    engine = engine_of(0, limits=limits)
    engine.assign([partition(number) for number in range(partitions)])
    return Backlog(engine, far, fetch_records, dict.fromkeys(range(partitions), 0))
