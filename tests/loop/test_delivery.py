"""A record is delivered when it is due: not before, in order, once, and about at once."""

from __future__ import annotations

from functools import partial

import pytest

from delayed_consumer.core.due import FuturePolicy
from delayed_consumer.loop import CALLBACKS_EVERY_MS
from tests.loop.clock import START_MS
from tests.loop.world import World

DELAY_MS = 60_000
HOUR_MS = 3_600_000


def test_a_record_is_delivered_at_its_due_millisecond_and_never_before(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS - 10_000)
    world.start()
    world.run_for(DELAY_MS - 10_000 - 1)
    assert world.sink.delivered == []
    world.run_for(1)
    (delivered,) = world.sink.delivered
    assert delivered.at_ms == delivered.due_ms == START_MS - 10_000 + DELAY_MS


def test_records_that_come_in_while_it_runs_are_delivered_at_their_due_millisecond(world: World) -> None:
    partitions = world.kafka.create("orders", 4)
    world.setup.delay_ms = 10_000
    for number in range(40):
        partition = partitions[number % 3]  # one of the four stays empty
        at_ms = 137 * number
        world.clock.after(at_ms, partial(world.kafka.produce, partition, START_MS + at_ms))
    world.start()
    world.run_for(40 * 137 + 10_000)
    assert world.lateness_ms() == [0.0] * 40


@pytest.mark.parametrize("delay_ms", [0, 1, 700, 3_999])
def test_a_record_with_a_short_delay_is_delivered_as_soon_as_it_is_due(world: World, delay_ms: int) -> None:
    """It may be due before anybody has had time to look: the client itself wakes the loop."""
    partitions = world.kafka.create("orders", 2)
    world.setup.delay_ms = delay_ms
    for number in range(20):
        at_ms = 1_000 + 77 * number
        to = partitions[number % 2]
        world.clock.after(at_ms, partial(world.kafka.produce, to, START_MS + at_ms))
    world.start()
    world.run_for(10_000)
    assert world.lateness_ms() == [0.0] * 20


def test_a_backlog_that_is_due_is_delivered_at_once_and_in_order(world: World) -> None:
    many, few = world.kafka.create("orders", 2)
    for number in range(10_500):
        world.kafka.produce(many, START_MS - DELAY_MS - HOUR_MS + number)
    for number in range(1_000):
        world.kafka.produce(few, START_MS - DELAY_MS - HOUR_MS + number)
    world.start()
    world.run_for(1_000)
    assert world.offsets(many) == list(range(10_500))
    assert world.offsets(few) == list(range(1_000))


def test_a_timestamp_that_steps_back_waits_for_the_record_before_it(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    for ago_ms in (1_000, 500_000, 0):
        world.kafka.produce(orders, START_MS - ago_ms)
    world.start()
    world.run_for(DELAY_MS + 1)
    assert world.offsets(orders) == [0, 1, 2]
    assert [one.at_ms - START_MS - DELAY_MS for one in world.sink.delivered] == [-1_000, -1_000, 0]


def test_records_with_an_empty_value_are_not_lost(world: World) -> None:
    """The client calls a message without a value false."""
    orders, *_ = world.kafka.create("orders", 1)
    for value in (b"", None, b"x", b""):
        world.kafka.produce(orders, START_MS - DELAY_MS, value)
    world.start()
    world.run_for(200)
    assert [one.message.value() for one in world.sink.delivered] == [b"", None, b"x", b""]


def test_every_topic_has_its_own_delay(world: World) -> None:
    (orders,) = world.kafka.create("orders", 1)
    (payments,) = world.kafka.create("payments", 1)
    world.setup.delay_ms_by_topic = {"payments": 20_000}
    world.kafka.produce(orders, START_MS)
    world.kafka.produce(payments, START_MS)
    world.start()
    world.run_for(20_001)
    assert (world.offsets(orders), world.offsets(payments)) == ([], [0])
    world.run_for(DELAY_MS - 20_000)
    assert world.lateness_ms() == [0.0, 0.0]


def test_a_slow_sink_on_one_partition_does_not_delay_the_others(world: World) -> None:
    slow, quick = world.kafka.create("orders", 2)
    world.setup.delay_ms = 10_000
    world.sink.takes_ms[slow] = 7_000
    for number in range(50):
        world.kafka.produce(slow, START_MS + 100 * number)
        world.kafka.produce(quick, START_MS + 100 * number)
    world.start()
    world.run_for(10_000 + 5_000)
    assert [one.at_ms - one.due_ms for one in world.sink.delivered if one.partition == quick] == [0.0] * 50
    world.run_until(lambda: len(world.offsets(slow)) == 50)
    assert world.offsets(slow) == list(range(50))


def test_a_sink_that_is_stuck_for_minutes_does_not_keep_the_loop_from_its_group(world: World) -> None:
    stuck, quick = world.kafka.create("orders", 2)
    world.sink.stuck.add(stuck)
    world.kafka.produce(stuck, START_MS - DELAY_MS)
    world.kafka.produce(quick, START_MS - DELAY_MS + 100_000)
    world.start()
    world.run_for(120_000)
    assert world.client.longest_silence_ms <= CALLBACKS_EVERY_MS
    assert world.lateness_ms() == [0.0, 0.0]


def test_a_timestamp_in_the_far_future_is_counted_and_warned_about_and_does_not_overflow(world: World) -> None:
    future, other = world.kafka.create("orders", 2)
    world.kafka.produce(future, 2**63 - 1)
    world.kafka.produce(other, START_MS - DELAY_MS)
    world.start()
    world.run_for(1_000)
    assert (world.offsets(future), world.offsets(other)) == ([], [0])
    assert world.metrics.totals()["future_timestamps"] == 1
    assert len(world.log.of("future_timestamp")) == 1


def test_a_capped_timestamp_in_the_future_delays_nobody_for_long(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.setup.future = FuturePolicy(HOUR_MS, "cap")
    world.kafka.produce(orders, START_MS + 2 * HOUR_MS)
    world.kafka.produce(orders, START_MS)
    world.start()
    world.run_for(DELAY_MS + 100)
    assert world.offsets(orders) == [0, 1]


def test_a_record_without_a_timestamp_is_delivered_the_delay_after_it_was_read(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, -1)
    world.start()
    world.run_for(DELAY_MS)
    assert world.offsets(orders) == []
    world.run_for(2)
    assert world.offsets(orders) == [0]
    assert world.metrics.totals()["missing_timestamps"] == 1


def test_what_is_delivered_is_counted(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    for _ in range(10):
        world.kafka.produce(orders, START_MS - DELAY_MS, b"four")
    world.start()
    world.run_for(200)
    totals = world.metrics.totals()
    assert (totals["delivered"], totals["bytes_delivered"], totals["failed"]) == (10, 40, 0)
    assert (world.metrics.lateness.count, world.metrics.lateness.early) == (10, 0)
