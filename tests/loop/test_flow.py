"""Reading ahead, holding back, pausing and resuming, as the client sees it."""

from __future__ import annotations

from functools import partial

from confluent_kafka import KafkaError

from delayed_consumer.loop import CALLBACKS_EVERY_MS, GROUP_EVERY_MS
from delayed_consumer.membership import SETTLED_AFTER_MS
from delayed_consumer.snapshot import LogEnd
from tests.loop.clock import START_MS
from tests.loop.kafka import FETCH_MS, FETCH_RECORDS, QUEUE_RECORDS
from tests.loop.world import World

DELAY_MS = 60_000
LOOKAHEAD_MS = 4_000
HOUR_MS = 3_600_000


def test_a_partition_that_waits_for_minutes_is_paused_and_costs_the_group_nothing(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS)
    world.start()
    world.run_for(1_000)
    assert world.client.paused == {orders}
    world.run_for(DELAY_MS - LOOKAHEAD_MS / 2 - 1_100)
    assert world.client.paused == {orders}
    assert world.client.longest_silence_ms <= CALLBACKS_EVERY_MS, "it is polled all the while"
    world.run_for(1_000)
    assert world.client.paused == set()
    world.run_for(LOOKAHEAD_MS)
    assert world.lateness_ms() == [0.0]


def test_the_steps_of_a_rebalance_follow_sooner_than_its_first(world: World) -> None:
    """Others wait for each of them."""
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS)
    world.start()
    world.run_for(SETTLED_AFTER_MS - 100)
    assert world.client.longest_silence_ms <= GROUP_EVERY_MS
    world.run_for(5_000)
    assert GROUP_EVERY_MS < world.client.longest_silence_ms <= CALLBACKS_EVERY_MS


def test_a_resumed_partition_is_read_within_milliseconds(world: World) -> None:
    """The client's fetcher sleeps through a resume; a seek behind it wakes it."""
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS)
    world.start()
    world.run_for(1_000)
    world.kafka.produce(orders, START_MS + 1_000)
    world.run_until(lambda: not world.client.paused, DELAY_MS)
    world.run_for(FETCH_MS + 1)
    (one,) = world.engine.assignments
    assert one.position == 2


def test_a_steady_stream_is_never_paused_and_nothing_is_fetched_twice(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    for number in range(4_000):
        world.kafka.produce(orders, START_MS - DELAY_MS + 5 * number)
    world.start()
    world.run_for(20_100)
    assert world.offsets(orders) == list(range(4_000))
    assert set(world.lateness_ms()) == {0.0}
    assert world.metrics.totals()["pauses"] <= 1, "at the end of the log"
    assert world.client.thrown_away == 0


def test_records_are_left_with_the_client_until_they_are_wanted(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    for number in range(10_000):
        world.kafka.produce(orders, START_MS - DELAY_MS + 10 * number)
    world.start()
    most = 0
    for _ in range(1_000):
        world.loop.step()
        most = max(most, sum(one.records for one in world.engine.assignments))
    assert most <= LOOKAHEAD_MS / 10 + 500, "a look-ahead and a step"


def test_the_hold_is_bounded_with_a_backlog_of_ten_times_it(world: World) -> None:
    partitions = world.kafka.create("orders", 4)
    world.setup.max_records = 1_000
    for number in range(10_000):
        world.kafka.produce(partitions[number % 4], START_MS - DELAY_MS - HOUR_MS + number // 4)
    world.start()
    world.sink.stuck.update(partitions)
    world.run_for(5_000)
    assert 500 <= sum(one.records for one in world.engine.assignments) <= 1_000
    world.sink.stuck.clear()
    world.run_for(5_000)
    assert [world.offsets(one) for one in partitions] == [list(range(2_500))] * 4
    assert sum(one.records for one in world.engine.assignments) == 0


def test_the_far_future_of_one_partition_does_not_delay_the_others(world: World) -> None:
    far, near = world.kafka.create("orders", 2)
    world.setup.max_records = 1_000
    for _ in range(5 * QUEUE_RECORDS):
        world.kafka.produce(far, START_MS + HOUR_MS)
    for number in range(FETCH_RECORDS):
        world.kafka.produce(near, START_MS - DELAY_MS + 1_000 + 100 * number)
    world.start()
    world.run_for(15_000)
    assert world.offsets(near) == list(range(FETCH_RECORDS))
    assert set(world.lateness_ms()) == {0.0}


def test_a_shorter_delay_beside_a_longer_one_is_not_kept_waiting_behind_it(world: World) -> None:
    """The client has one queue: what it has prefetched of the one lies before what it fetches of the other."""
    (slow,) = world.kafka.create("slow", 1)
    (quick,) = world.kafka.create("quick", 1)
    world.setup.delay_ms_by_topic = {"quick": 10_000}
    for number in range(3 * QUEUE_RECORDS):
        world.kafka.produce(slow, START_MS - DELAY_MS + 10 * number)
    world.start()
    for at_ms in range(2_000, 40_000, 1_000):
        world.clock.after(at_ms, partial(world.kafka.produce, quick, START_MS + at_ms))
    world.run_for(50_000)
    assert [one.at_ms - one.due_ms for one in world.sink.delivered if one.partition == quick] == [0.0] * 38


# The watchdog


def test_a_pause_that_the_client_kept_is_healed_and_counted(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS)
    world.start()
    world.run_for(1_000)
    world.client.keeps_pauses = True
    world.run_until(lambda: world.metrics.totals()["stuck_pauses"] == 2, DELAY_MS + 10_000)
    world.client.keeps_pauses = False
    world.kafka.produce(orders, world.clock.now_ms() - DELAY_MS)
    world.run_until(lambda: world.offsets(orders) == [0, 1])
    assert world.metrics.totals()["stuck_pauses"] == len(world.log.of("stuck_pause")) == 3
    world.run_for(60_000)
    assert world.metrics.totals()["stuck_pauses"] == 3


def test_a_partition_that_has_nothing_to_say_is_not_stuck(world: World) -> None:
    world.kafka.create("orders", 3)
    world.start()
    world.run_for(60_000)
    assert world.metrics.totals()["stuck_pauses"] == 0


def test_due_records_that_only_the_brokers_know_of_wake_the_watchdog(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.start()
    world.run_for(1_000)
    world.client.paused.add(orders)
    world.kafka.produce(orders, START_MS - DELAY_MS)
    world.run_for(5_000)
    assert world.offsets(orders) == []
    world.reporter.note({orders: LogEnd(end=1, due_end=1, committed=None)})
    world.reporter.look()
    world.run_until(lambda: world.offsets(orders) == [0], 3_000)
    assert world.metrics.totals()["stuck_pauses"] == 1


def test_silence_while_a_broker_is_away_is_not_called_a_stuck_pause(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS)
    world.start()
    world.run_for(1_000)
    world.client.keeps_pauses = True
    for at_ms in range(0, DELAY_MS + 60_000, 1_000):
        world.clock.after(at_ms, lambda: world.client.meets_error(KafkaError._TRANSPORT))
    world.run_for(DELAY_MS + 60_000)
    assert world.metrics.totals()["stuck_pauses"] == 0


def test_a_partition_behind_others_in_the_clients_queue_is_not_stuck(world: World) -> None:
    """While the sink is slow it takes long until its turn comes."""
    busy, behind = world.kafka.create("orders", 2)
    world.setup.max_records = 200
    world.setup.commit_every_records = 1
    world.sink.takes_ms = {busy: 15.0, behind: 15.0}
    for _ in range(1_000):
        world.kafka.produce(busy, START_MS - DELAY_MS)
    world.kafka.produce(behind, START_MS - DELAY_MS + 15_000)
    world.start()
    world.run_for(1_000)
    for _ in range(1_000):
        world.kafka.produce(behind, START_MS - DELAY_MS)
    world.run_for(40_000)
    assert world.metrics.totals()["resumes"] > 0
    assert world.metrics.totals()["stuck_pauses"] == 0
