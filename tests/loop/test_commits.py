"""What a crash, a stop, a rebalance or a failure does to what is committed."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from delayed_consumer.core.engine import InFlightLimit
from delayed_consumer.errors import GaveUpError
from delayed_consumer.loop import LONGEST_READ_MS
from tests.loop.clock import START_MS
from tests.loop.world import COMMIT_INTERVAL_MS, World

DELAY_MS = 60_000


def test_a_crash_repeats_what_was_not_committed_and_never_loses(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    for number in range(100):
        world.kafka.produce(orders, START_MS - DELAY_MS + 100 * number)
    world.start()
    world.run_for(7_000)
    world.crash()
    committed = world.kafka.committed[orders]
    assert 0 < committed < len(world.offsets(orders)), "the crash came between a delivery and its commit"
    world.start()
    world.run_for(10_000)
    assert world.offsets(orders, life=2) == list(range(committed, 100))


def test_nothing_is_committed_that_is_held_or_in_flight(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.sink.takes_ms[orders] = 2 * COMMIT_INTERVAL_MS
    for number in range(3):
        world.kafka.produce(orders, START_MS - DELAY_MS + 3_000 * number)
    world.start()
    world.run_for(2 * COMMIT_INTERVAL_MS - 100)
    assert world.offsets(orders) == [0]
    assert world.kafka.committed == {orders: 0}
    world.run_for(COMMIT_INTERVAL_MS + 200)
    assert world.kafka.committed == {orders: 1}


def test_offsets_are_committed_periodically_and_only_when_they_have_moved(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS - DELAY_MS)
    world.start()
    world.run_for(10 * COMMIT_INTERVAL_MS)
    assert world.kafka.commits == [{orders: 1}]
    assert world.loop.committed_offsets == {orders: 1}


def test_a_record_that_was_never_delivered_is_not_skipped_by_a_later_start(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS)
    for _ in range(3):
        world.start()
        world.run_for(2 * COMMIT_INTERVAL_MS)
        world.crash()
    world.start()
    world.run_for(DELAY_MS)
    assert world.offsets(orders) == [0]


def test_an_offset_passes_control_records_and_gaps(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    for _ in range(3):
        world.kafka.produce(orders, START_MS - DELAY_MS)
        world.kafka.logs[orders].end += 2
    world.start()
    world.run_for(2 * COMMIT_INTERVAL_MS)
    assert world.offsets(orders) == [0, 3, 6]
    assert world.kafka.committed == {orders: 9}


# A stop


def test_a_clean_stop_repeats_nothing_and_loses_nothing(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    for number in range(100):
        world.kafka.produce(orders, START_MS - DELAY_MS + 100 * number)
    world.start()
    world.run_for(3_333)
    assert world.stop() == 0
    world.start()
    world.run_for(10_000)
    assert world.offsets(orders) == list(range(100))


def test_a_stop_ends_the_step_at_once_however_long_the_wait(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS)
    world.start()
    world.run_for(60_000)
    stopped_ms = world.clock.steady_ms() + 33
    world.clock.after(33, world.loop.stop)
    while not world.loop.stopping:
        world.loop.step()
    assert world.clock.steady_ms() - stopped_ms <= LONGEST_READ_MS
    assert world.loop.close() == 0
    assert world.clock.steady_ms() - stopped_ms <= LONGEST_READ_MS, "what waits needs no draining"


def test_a_stop_lets_what_is_in_flight_end(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS - DELAY_MS)
    world.sink.takes_ms[orders] = 3_000
    world.start()
    world.run_until(lambda: world.sink.delivered)
    assert world.stop() == 0
    assert world.kafka.committed == {orders: 1}


def test_a_stop_gives_up_what_does_not_end_within_the_grace_and_does_not_commit_it(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS - DELAY_MS)
    world.sink.stuck.add(orders)
    world.setup.grace_ms = 2_000
    world.start()
    world.run_until(lambda: world.sink.delivered)
    before_ms = world.clock.steady_ms()
    assert world.stop() == 1
    assert 2_000 <= world.clock.steady_ms() - before_ms <= 2_100
    assert world.kafka.committed == {orders: 0}


# A failure


def test_a_failed_record_stops_with_its_coordinates_and_commits_what_is_before_it(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    for _ in range(10):
        world.kafka.produce(orders, START_MS - DELAY_MS)
    world.sink.failing[orders, 6] = "too large"
    world.start()
    with pytest.raises(GaveUpError, match=r"^orders\[0\] offset 6: too large$"):
        world.run_for(1_000)
    world.stop()
    assert world.kafka.committed == {orders: 6}
    assert world.metrics.totals()["failed"] == 1
    assert world.metrics.totals()["delivered"] == 6


def test_a_run_that_ends_before_an_earlier_one_moves_nothing(world: World) -> None:
    first, second = world.kafka.create("orders", 2)
    world.sink.in_flight_limit = InFlightLimit(runs=4, records_per_run=1)
    for one in (first, second):
        for _ in range(4):
            world.kafka.produce(one, START_MS - DELAY_MS)
    world.sink.failing[first, 1] = "no"
    world.start()
    with pytest.raises(GaveUpError):
        world.run_for(1_000)
    world.stop()
    assert world.kafka.committed[first] == 1


# COMMIT_EVERY_RECORDS


def test_commit_every_records_1_commits_after_each_record(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.setup.commit_every_records = 1
    for number in range(5):
        world.kafka.produce(orders, START_MS - DELAY_MS + 10 * number)
    world.start()
    world.run_for(100)
    assert [commit[orders] for commit in world.kafka.commits] == [1, 2, 3, 4, 5]


def test_commit_every_records_commits_as_soon_as_that_many_are_done(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.setup.commit_every_records = 3
    for number in range(8):
        world.kafka.produce(orders, START_MS - DELAY_MS + 100 * number)
    world.start()
    world.run_for(1_000)
    assert [commit[orders] for commit in world.kafka.commits] == [3, 6]
    world.run_for(COMMIT_INTERVAL_MS)
    assert world.kafka.committed == {orders: 8}, "the interval takes the rest"


def test_one_commit_is_on_its_way_at_a_time(world: World) -> None:
    """The next takes with it all that was done meanwhile."""
    orders, *_ = world.kafka.create("orders", 1)
    world.setup.commit_every_records = 1
    for _ in range(1_000):
        world.kafka.produce(orders, START_MS - DELAY_MS)
    world.start()
    world.run_until(lambda: world.kafka.committed.get(orders) == 1_000)
    assert len(world.kafka.commits) < 1_000


# Commits that fail


def test_a_commit_that_fails_is_counted_and_logged_and_tried_again(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS - DELAY_MS)
    world.kafka.commit_error = KafkaError.COORDINATOR_NOT_AVAILABLE
    world.start()
    world.run_for(2 * COMMIT_INTERVAL_MS + 200)
    assert world.kafka.committed == {}
    assert world.metrics.commits_failed._value.get() == len(world.log.of("commit_failed")) == 2
    world.kafka.commit_error = None
    world.run_for(COMMIT_INTERVAL_MS)
    assert world.kafka.committed == {orders: 1}
    assert world.metrics.commits_ok._value.get() == 1


def test_a_failed_commit_does_not_end_committing_after_each_record(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.setup.commit_every_records = 1
    world.kafka.commit_error = KafkaError.REQUEST_TIMED_OUT
    for number in range(3):
        world.kafka.produce(orders, START_MS - DELAY_MS + 1_000 * number)
    world.start()
    world.run_for(1_500)
    world.kafka.commit_error = None
    world.run_for(600)
    assert world.kafka.committed == {orders: 3}


def test_a_stop_in_the_middle_of_a_rebalance_waits_until_its_commit_is_taken(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS - DELAY_MS)
    world.start()
    world.run_until(lambda: world.sink.delivered)
    world.kafka.commit_error = KafkaError.REBALANCE_IN_PROGRESS
    world.clock.after(1_000, lambda: setattr(world.kafka, "commit_error", None))
    world.run_for(0)
    world.stop()
    assert world.kafka.committed == {orders: 1}
    assert world.kafka.refused_commits
