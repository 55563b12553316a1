"""Everything at once, in random order: what the other tests promise one by one holds all the same."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError

from delayed_consumer.core.engine import InFlightLimit
from delayed_consumer.core.records import Partition
from tests.loop.world import Delivered, World

DELAY_MS = 12_000
PARTITIONS = 4
CALAMITIES = 15


class Chaos:
    """One world and what befalls it."""

    def __init__(self, world: World, dice: random.Random) -> None:
        self.world, self.dice = world, dice
        self.partitions = world.kafka.create("orders", PARTITIONS)
        self.owned = set(self.partitions)
        self.calamities = (self.crash, self.stop, self.revoke, self.lose, self.give, self.set_clock, self.fail_commits)

    def produce(self) -> None:
        """Bursts, gaps, control records and timestamps that step back."""
        for one in self.partitions:
            for _ in range(self.dice.choice((0, 1, 3, 100))):
                self.world.kafka.produce(one, self.world.clock.now_ms() - self.dice.choice((0, 500, 11_000, 30_000)))
            self.world.kafka.logs[one].end += self.dice.choice((0, 0, 2))

    def crash(self) -> None:
        self.world.crash()
        self.world.start()
        self.owned = set(self.partitions)

    def stop(self) -> None:
        assert self.world.stop() == 0
        self.world.start()
        self.owned = set(self.partitions)

    def revoke(self) -> None:
        gone = self._some(self.owned)
        self.world.client.must_give_up(gone)
        self.owned -= set(gone)

    def lose(self) -> None:
        gone = self._some(self.owned)
        self.world.client.has_lost(gone)
        self.owned -= set(gone)

    def give(self) -> None:
        new = self._some(set(self.partitions) - self.owned)
        self.world.client.is_given(new)
        self.owned |= set(new)

    def set_clock(self) -> None:
        step_ms = self.dice.choice((-5_000, 5_000))
        self.world.clock.after(1, lambda: self.world.clock.set_by(step_ms))  # while the loop waits

    def fail_commits(self) -> None:
        self.world.kafka.commit_error = self.dice.choice((None, KafkaError.COORDINATOR_LOAD_IN_PROGRESS))

    def strikes(self) -> Iterator[None]:
        """Starts the service with sinks of any speed, and pauses after each calamity."""
        world, dice = self.world, self.dice
        world.sink.takes_ms = {one: dice.choice((0.0, 0.0, 3.0, 15.0)) for one in self.partitions}
        self.produce()
        world.start()
        for _ in range(CALAMITIES):
            world.run_for(dice.choice((1, 30, 700, 4_000)))
            self.produce()
            dice.choice(self.calamities)()
            yield

    def _some(self, partitions: set[Partition]) -> list[Partition]:
        return self.dice.sample(sorted(partitions), self.dice.randint(0, len(partitions)))


def lives(delivered: list[Delivered]) -> list[list[int]]:
    """The offsets of one partition, cut where they step back: there its next owner has begun."""
    runs: list[list[int]] = []
    for one in delivered:
        if not runs or one.offset <= runs[-1][-1]:
            runs.append([])
        runs[-1].append(one.offset)
    return runs


@pytest.mark.parametrize("number", range(10))
def test_nothing_is_lost_or_skipped_or_early_whatever_happens(world: World, dice: random.Random, number: int) -> None:
    world.setup.delay_ms = DELAY_MS
    world.setup.max_records = dice.choice((200, 5_000))
    world.setup.commit_every_records = dice.choice((0, 1, 50))
    world.sink.in_flight_limit = InFlightLimit(dice.choice((1, 3)), 500)
    chaos = Chaos(world, dice)
    for _ in chaos.strikes():
        held = sum(one.records for one in world.engine.assignments)
        assert held <= 1.25 * world.setup.max_records, "the bound and a step"
    heal(chaos)
    for partition, log in world.kafka.logs.items():
        written = [message.offset() for message in log.messages]
        assert world.kafka.committed[partition] == log.end
        for life in lives([one for one in world.sink.delivered if one.partition == partition]):
            first = written.index(life[0])
            assert life == written[first : first + len(life)], "in order, with nothing left out"
        assert sorted(set(world.offsets(partition))) == written
    assert world.metrics.totals()["stuck_pauses"] == 0


def heal(chaos: Chaos) -> None:
    """All partitions owned, commits working: then everything is delivered and committed, and soon."""
    world = chaos.world
    world.kafka.commit_error = None
    world.client.is_given([one for one in chaos.partitions if one not in chaos.owned])
    logs = world.kafka.logs
    world.run_until(lambda: all(world.kafka.committed.get(one) == logs[one].end for one in logs), 120_000)
