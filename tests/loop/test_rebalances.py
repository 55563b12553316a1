"""Partitions come and go while records are held, in flight and paused."""

from __future__ import annotations

from tests.loop.clock import START_MS
from tests.loop.world import World

DELAY_MS = 60_000


def test_what_was_held_of_a_revoked_partition_is_not_delivered(world: World) -> None:
    kept, given_up = world.kafka.create("orders", 2)
    for one in (kept, given_up):
        world.kafka.produce(one, START_MS - DELAY_MS + 3_000)
    world.start()
    world.run_for(1_000)
    world.client.must_give_up([given_up])
    world.run_for(5_000)
    assert (world.offsets(kept), world.offsets(given_up)) == ([0], [])


def test_what_is_done_is_stored_before_the_partition_goes(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS - DELAY_MS)
    world.sink.takes_ms[orders] = 1_000
    world.start()
    world.run_until(lambda: world.sink.delivered)
    world.client.must_give_up([orders])
    world.run_for(2_000)
    assert world.kafka.committed == {orders: 1}, "what was in flight had the time to end"
    assert world.kafka.refused_stores == []


def test_a_partition_goes_without_what_does_not_end_in_time(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS - DELAY_MS)
    world.sink.stuck.add(orders)
    world.start()
    world.run_until(lambda: world.sink.delivered)
    world.client.must_give_up([orders])
    world.run_for(10_000)
    assert world.kafka.committed == {orders: 0}
    world.sink.stuck.clear()
    world.run_for(1_000)
    assert world.kafka.refused_stores == [], "the late outcome is nobody's"


def test_a_lost_partition_stores_nothing(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.committed[orders] = 0
    world.kafka.produce(orders, START_MS - DELAY_MS + 1_000)
    world.sink.takes_ms[orders] = 3
    world.start()
    world.clock.after(1_004, lambda: world.client.has_lost([orders]))
    world.run_for(10_000)
    assert world.offsets(orders) == [0], "it was done, and nobody had looked yet"
    assert world.kafka.committed == {orders: 0}
    assert world.kafka.refused_stores == []
    assert not world.loop.membership.joined


def test_a_lost_partition_that_comes_back_is_read_from_its_committed_offset(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    for number in range(10):
        world.kafka.produce(orders, START_MS - DELAY_MS + 1_000 * number)
    world.start()
    world.run_for(7_500)
    committed = world.kafka.committed[orders]
    world.client.has_lost([orders])
    world.client.is_given([orders])
    world.run_for(10_000)
    assert world.offsets(orders) == [*range(8), *range(committed, 10)]
    assert world.loop.membership.joined


def test_a_paused_partition_that_comes_back_is_read_at_once(world: World) -> None:
    """The client keeps an application's pause through every rebalance."""
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS)
    world.start()
    world.run_for(1_000)
    assert world.client.paused == {orders}
    world.client.must_give_up([orders])
    world.client.is_given([orders])
    world.kafka.produce(orders, START_MS)
    world.run_for(1_000)
    (one,) = world.engine.assignments
    assert one.position == 2
    assert world.metrics.totals()["stuck_pauses"] == 0
    world.run_for(DELAY_MS)
    assert world.lateness_ms() == [0.0, 0.0]


def test_a_rebalance_while_records_wait_neither_repeats_nor_delays_those_of_kept_partitions(world: World) -> None:
    kept, comes, goes = world.kafka.create("orders", 3)
    for number in range(200):
        for one in (kept, comes, goes):
            world.kafka.produce(one, START_MS - DELAY_MS + 100 * number)
    world.start(kept, goes)
    for at_ms in range(1_500, 20_000, 3_000):
        world.clock.after(at_ms, lambda: world.client.must_give_up([goes]))
        world.clock.after(at_ms + 50, lambda: world.client.is_given([goes]))
    world.clock.after(2_000, lambda: world.client.is_given([comes]))
    world.run_for(21_000)
    assert world.offsets(kept) == world.offsets(goes) == world.offsets(comes) == list(range(200))
    assert {one.at_ms - one.due_ms for one in world.sink.delivered if one.partition == kept} == {0.0}


def test_a_partition_waits_for_no_other_while_one_is_given_up(world: World) -> None:
    """A revoke waits for what is in flight of its own partitions only."""
    stuck, given_up = world.kafka.create("orders", 2)
    world.kafka.produce(stuck, START_MS - DELAY_MS)
    world.sink.stuck.add(stuck)
    world.start()
    world.run_until(lambda: world.sink.delivered)
    before_ms = world.clock.steady_ms()
    world.client.must_give_up([given_up])
    world.loop.step()
    assert world.clock.steady_ms() - before_ms <= 100


def test_an_instance_for_which_there_is_no_partition_says_so_once(world: World) -> None:
    world.kafka.create("orders", 1)
    world.start()
    world.loop.step()
    world.client.must_give_up(list(world.kafka.logs))
    for _ in range(200):
        world.loop.step()
        world.reporter.look()
    assert len(world.log.of("idle_member")) == 1
    assert world.reporter.status().idle_member
