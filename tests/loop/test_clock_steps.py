"""Somebody sets the wall clock while records wait."""

from __future__ import annotations

import pytest

from delayed_consumer.loop import CALLBACKS_EVERY_MS
from delayed_consumer.snapshot import LogEnd
from tests.loop.clock import START_MS
from tests.loop.world import World

DELAY_MS = 60_000
HOUR_MS = 3_600_000


@pytest.mark.parametrize("step_ms", [-2 * HOUR_MS, HOUR_MS])
def test_a_clock_that_is_set_is_warned_about_and_counted(world: World, step_ms: int) -> None:
    world.kafka.create("orders", 1)
    world.start()
    world.run_for(1_000)
    world.clock.set_by(step_ms)
    world.run_for(1_000)
    assert world.metrics.totals()["clock_steps"] == len(world.log.of("clock_stepped")) == 1
    assert f"{step_ms / 1000:+.1f} s" in world.log.of("clock_stepped")[0]


def test_a_clock_that_is_slewed_is_not_a_step(world: World) -> None:
    world.kafka.create("orders", 1)
    world.start()
    for _ in range(100):
        world.clock.set_by(0.5)
        world.loop.step()
    assert world.metrics.totals()["clock_steps"] == 0


def test_nothing_is_early_by_a_clock_that_was_set_back(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS - DELAY_MS + 10_000)
    world.start()
    world.run_for(9_000)
    world.clock.set_by(-600_000)
    world.run_for(600_000)
    assert world.offsets(orders) == []
    world.run_for(2_000)
    assert world.lateness_ms() == [0.0]


def test_the_group_is_kept_while_a_clock_that_was_set_back_catches_up(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    for number in range(1_000):
        world.kafka.produce(orders, START_MS - DELAY_MS + 100 * number)
    world.start()
    world.run_for(1_000)
    world.run_until(lambda: not world.engine.taking)
    world.clock.set_by(-2 * HOUR_MS)
    world.run_for(60_000)
    assert world.client.longest_silence_ms <= CALLBACKS_EVERY_MS


def test_what_is_due_by_a_clock_that_was_set_forward_is_delivered_at_once(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS)
    world.start()
    world.run_for(10_000)
    world.clock.set_by(HOUR_MS)
    world.run_for(200)
    assert world.offsets(orders) == [0]


def test_a_clock_that_is_set_back_does_not_blind_the_watchdog(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.start()
    world.run_for(1_000)
    world.client.paused.add(orders)
    world.kafka.produce(orders, START_MS - DELAY_MS - 2 * HOUR_MS)
    world.reporter.note({orders: LogEnd(end=1, due_end=1, committed=None)})
    world.reporter.look()
    world.run_for(1_000)
    world.clock.set_by(-HOUR_MS)
    world.run_for(2_500)
    assert world.offsets(orders) == [0]
    assert world.metrics.totals()["stuck_pauses"] == 1


def test_a_clock_that_is_set_forward_makes_nobody_stuck(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS)
    world.start()
    world.run_for(1_000)
    world.client.keeps_pauses = True
    world.run_until(lambda: world.metrics.totals()["resumes"] == 1, DELAY_MS)
    world.clock.after(10, lambda: world.clock.set_by(HOUR_MS))
    world.run_for(1_000)
    assert world.metrics.totals()["stuck_pauses"] == 0
