"""A client that has forgotten all brokers is replaced, and what it did not commit is delivered again."""

from __future__ import annotations

from delayed_consumer.broker_watch import FORGOTTEN_AFTER_MS
from tests.loop.clock import START_MS
from tests.loop.world import COMMIT_INTERVAL_MS, World
from tests.test_broker_watch import LEARNED, NONE, statistics


def forget_brokers(world: World) -> None:
    world.client.dies()  # nothing gets through any more
    for at_ms in (0, FORGOTTEN_AFTER_MS):
        world.client.says(statistics(at_ms, NONE))
        world.run_for(1_000)


def test_another_client_joins_and_goes_on_at_what_is_committed(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    for number in range(10):
        world.kafka.produce(orders, START_MS - world.setup.delay_ms + 1_000 * number)
    world.start()
    world.run_for(COMMIT_INTERVAL_MS + 500)
    assert world.kafka.committed == {orders: 5}
    forget_brokers(world)
    assert len(world.kafka.consumers) == 2
    before = world.offsets(orders)
    assert before == list(range(7))
    world.client.is_given([orders])
    world.run_for(10_000)
    assert world.offsets(orders) == [*before, *range(5, 10)]
    world.run_for(COMMIT_INTERVAL_MS)
    assert world.kafka.committed == {orders: 10}
    assert len(world.log.of("brokers_forgotten")) == 1
    world.check()


def test_what_the_former_client_still_says_is_not_heard(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.start()
    world.run_for(1_000)
    former = world.client
    forget_brokers(world)
    world.client.is_given([orders])
    world.run_for(1_000)
    former.must_give_up([orders])
    former.is_given([orders])
    for at_ms in (0, FORGOTTEN_AFTER_MS):
        former.says(statistics(at_ms, NONE))
    former.poll(0)
    world.kafka.produce(orders, START_MS - world.setup.delay_ms)
    world.run_for(1_000)
    assert world.offsets(orders) == [0]
    assert len(world.kafka.consumers) == 2
    assert len(world.log.of("assigned")) == 2, "one to each"


def test_a_client_that_knows_a_broker_is_kept(world: World) -> None:
    world.kafka.create("orders", 1)
    world.start()
    for index, brokers in enumerate((LEARNED, NONE, LEARNED, NONE)):
        world.client.says(statistics(index * FORGOTTEN_AFTER_MS, brokers))
        world.run_for(1_000)
    assert len(world.kafka.consumers) == 1


def test_at_most_once_a_commit_that_was_on_its_way_holds_nothing_up(world: World) -> None:
    world.setup.delivery = "at-most-once"
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS - world.setup.delay_ms + 1_000)
    world.start()
    world.run_for(900)
    world.kafka.commit_ms = 1e9
    world.run_for(500)
    assert world.offsets(orders) == []
    forget_brokers(world)
    world.kafka.commit_ms = 1.0
    world.client.is_given([orders])
    world.kafka.produce(orders, START_MS - world.setup.delay_ms + 2_000)
    world.run_for(5_000)
    assert world.offsets(orders) == [0, 1]
