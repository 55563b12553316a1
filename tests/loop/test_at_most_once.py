"""DELIVERY=at-most-once: nothing is delivered whose commit is not acknowledged, and nothing twice."""

from __future__ import annotations

import random

import pytest
from confluent_kafka import KafkaError

from delayed_consumer.core.engine import InFlightLimit
from delayed_consumer.core.records import Run
from delayed_consumer.errors import AuthError
from tests.loop.clock import START_MS
from tests.loop.kafka import COMMIT_MS
from tests.loop.test_chaos import Chaos
from tests.loop.world import COMMIT_INTERVAL_MS, World

DELAY_MS = 60_000


@pytest.fixture
def world(world: World) -> World:
    """Whatever happens: what is delivered was committed before, at the broker and not only on its way."""

    def assert_committed(run: Run) -> None:
        assert world.kafka.committed.get(run.partition, 0) >= run.next_offset

    world.setup.delivery = "at-most-once"
    world.sink.on_deliver = assert_committed
    return world


def test_a_record_is_delivered_as_soon_as_its_commit_is_acknowledged(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    for number in range(300):
        world.kafka.produce(orders, START_MS - DELAY_MS + 500 + 100 * number)
    world.start()
    world.run_for(35_000)
    assert world.offsets(orders) == list(range(300))
    assert max(world.lateness_ms()) <= COMMIT_MS + 2, "the loop looks for the answer every millisecond"
    assert world.metrics.lateness.max_seconds * 1000 == pytest.approx(max(world.lateness_ms()))


def test_what_falls_due_while_a_commit_is_on_its_way_goes_with_the_next(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.sink.in_flight_limit = InFlightLimit(64, 1)
    for _ in range(20):
        world.kafka.produce(orders, START_MS - DELAY_MS + 500)
    world.start()
    world.run_for(1_000)
    assert world.offsets(orders) == list(range(20))
    assert len(world.kafka.commits) <= 4


def test_a_commit_that_fails_delivers_nothing_and_is_not_tried_again_at_once(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS - DELAY_MS)
    world.kafka.commit_error = KafkaError.COORDINATOR_NOT_AVAILABLE
    world.start()
    world.run_for(10_000)
    assert world.sink.delivered == []
    assert 5 <= world.kafka.refused_commits <= 11
    world.kafka.commit_error = None
    world.run_for(1_100)
    assert world.offsets(orders) == [0]
    assert world.metrics.commits_failed._value.get() == world.kafka.refused_commits


@pytest.mark.parametrize("code", [KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED])
def test_a_commit_that_is_not_permitted_ends_the_service(world: World, code: int) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS - DELAY_MS)
    world.kafka.commit_error = code
    world.start()
    with pytest.raises(AuthError):
        world.run_for(10_000)
    assert world.sink.delivered == []


@pytest.mark.parametrize("code", [KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID])
def test_what_a_stale_member_could_not_commit_is_left_to_the_next_owner(world: World, code: int) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS - DELAY_MS)
    world.kafka.commit_error = code
    world.start()
    world.run_for(500)
    world.client.has_lost([orders])
    world.run_for(5_000)
    assert world.sink.delivered == []
    world.kafka.commit_error = None
    world.client.is_given([orders])
    world.run_for(5_000)
    assert world.offsets(orders) == [0]


def test_a_crash_loses_what_was_in_flight_and_repeats_nothing(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    for number in range(100):
        world.kafka.produce(orders, START_MS - DELAY_MS + 100 * number)
    world.kafka.commit_ms = 20
    world.start()
    world.run_until(lambda: len(world.sink.delivered) == 50)
    world.run_until(lambda: world.loop.delivery.awaits_commit)
    world.clock.advance(20)  # the broker has it, and nobody has heard
    world.crash()
    lost = world.kafka.committed[orders] - 1
    assert lost == len(world.sink.delivered)
    world.start()
    world.run_for(15_000)
    assert world.offsets(orders) == [number for number in range(100) if number != lost]


def test_a_clean_stop_loses_nothing_and_repeats_nothing(world: World, dice: random.Random) -> None:
    """Also when it comes while a commit is on its way: that is waited for."""
    orders, *_ = world.kafka.create("orders", 1)
    for number in range(200):
        world.kafka.produce(orders, START_MS - DELAY_MS + 10 * number)
    for _ in range(10):
        world.start()
        world.run_for(dice.randint(20, 150) + dice.random())
        world.stop()
    world.start()
    world.run_for(5_000)
    assert world.offsets(orders) == list(range(200))


def test_a_partition_that_is_given_up_while_its_commit_is_on_its_way_loses_nothing(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS - DELAY_MS)
    world.kafka.commit_ms = 20
    world.start()
    world.run_until(lambda: world.loop.delivery.awaits_commit)
    world.client.must_give_up([orders])
    world.run_for(1_000)
    assert (world.offsets(orders), world.kafka.committed) == ([0], {orders: 1})


def test_offsets_pass_control_records_but_never_what_is_not_delivered(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS - DELAY_MS)
    world.kafka.logs[orders].end += 2
    world.kafka.produce(orders, START_MS - DELAY_MS + 2 * COMMIT_INTERVAL_MS)
    world.kafka.logs[orders].end += 2
    world.start()
    world.run_for(COMMIT_INTERVAL_MS)
    assert world.kafka.committed[orders] in (1, 3)
    world.run_for(3 * COMMIT_INTERVAL_MS)
    assert world.offsets(orders) == [0, 3]
    assert world.kafka.committed == {orders: 6}


def test_nothing_is_committed_while_nothing_falls_due(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS)
    world.start()
    world.run_for(5 * COMMIT_INTERVAL_MS)
    assert len(world.kafka.commits) <= 1
    assert world.kafka.committed.get(orders, 0) == 0


@pytest.mark.parametrize("number", range(10))
def test_nothing_is_delivered_twice_whatever_happens(world: World, dice: random.Random, number: int) -> None:
    world.setup.delay_ms = 12_000
    world.sink.in_flight_limit = InFlightLimit(dice.choice((1, 3)), 500)
    chaos = Chaos(world, dice)
    for _ in chaos.strikes():
        pass
    for partition in chaos.partitions:
        delivered = world.offsets(partition)
        assert delivered == sorted(set(delivered)), "in order, and once"
