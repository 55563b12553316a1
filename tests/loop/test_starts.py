"""Where a partition is read that the client knows no offset for."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, TopicPartition

from delayed_consumer.errors import DataLossError
from tests.loop.clock import START_MS
from tests.loop.world import COMMIT_INTERVAL_MS, World

DELAY_MS = 60_000


def test_a_new_group_starts_at_the_earliest_record(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    for _ in range(3):
        world.kafka.produce(orders, START_MS - DELAY_MS)
    world.kafka.delete_before(orders, 1)
    world.start()
    world.run_for(1_000)
    assert world.offsets(orders) == [1, 2]


def test_a_group_goes_on_where_it_has_committed(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    for _ in range(3):
        world.kafka.produce(orders, START_MS - DELAY_MS)
    world.kafka.committed[orders] = 2
    world.start()
    world.run_for(1_000)
    assert world.offsets(orders) == [2]


def test_start_from_latest_is_anchored_at_once(world: World) -> None:
    """A crash before the first delivery loses nothing that came after the start."""
    orders, *_ = world.kafka.create("orders", 1)
    world.setup.start_from = "latest"
    world.kafka.produce(orders, START_MS)
    world.start()
    world.run_for(100)
    assert world.kafka.committed == {orders: 1}
    world.kafka.produce(orders, START_MS)
    world.run_for(100)
    world.crash()
    world.kafka.produce(orders, START_MS)
    world.start()
    world.run_for(DELAY_MS)
    assert world.offsets(orders) == [1, 2]


def test_a_partition_added_later_is_read_from_its_start(world: World) -> None:
    """Nobody has seen its first records, also where a new group starts at the latest."""
    first, *_ = world.kafka.create("orders", 1)
    world.setup.start_from = "latest"
    world.kafka.produce(first, START_MS - DELAY_MS)
    world.start()
    world.run_for(1_000)
    *_, added = world.kafka.create("orders", 2)
    world.kafka.produce(added, START_MS - DELAY_MS)
    world.client.is_given([added])
    world.run_for(1_000)
    assert (world.offsets(first), world.offsets(added)) == ([], [0])


def test_a_partition_added_while_no_instance_ran_is_read_from_its_start(world: World) -> None:
    world.kafka.create("orders", 1)
    world.setup.start_from = "latest"
    world.start()
    world.run_for(1_000)
    world.stop()
    *_, added = world.kafka.create("orders", 2)
    world.kafka.produce(added, START_MS - DELAY_MS)
    world.start()
    world.run_for(1_000)
    assert world.offsets(added) == [0]


def test_records_deleted_before_they_were_read_stop_the_service(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    for _ in range(10):
        world.kafka.produce(orders, START_MS - DELAY_MS)
    world.kafka.committed[orders] = 3
    world.kafka.delete_before(orders, 7)
    world.start()
    with pytest.raises(DataLossError, match=r"orders\[0\]: offset 3 is no longer in the log, .* from 7 to 10"):
        world.run_for(1_000)
    world.stop()
    assert world.kafka.committed == {orders: 3}
    assert world.offsets(orders) == []


def test_on_data_loss_continue_goes_on_at_the_earliest_record_and_counts(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.setup.on_data_loss = "continue"
    for _ in range(10):
        world.kafka.produce(orders, START_MS - DELAY_MS)
    world.kafka.committed[orders] = 3
    world.kafka.delete_before(orders, 7)
    world.start()
    world.run_for(COMMIT_INTERVAL_MS + 100)
    assert world.offsets(orders) == [7, 8, 9]
    assert world.metrics.totals()["data_loss"] == 4
    assert len(world.log.of("data_loss")) == 1
    assert world.kafka.committed == {orders: 10}


def test_a_log_made_again_takes_back_what_was_committed_of_the_former_one(world: World) -> None:
    """Or a crash, once the new log has grown beyond that offset, would lose what is before it."""
    orders, *_ = world.kafka.create("orders", 1)
    world.setup.on_data_loss = "continue"
    for _ in range(10):
        world.kafka.produce(orders, START_MS)
    world.kafka.committed[orders] = 5
    world.start()
    world.run_for(1_000)
    world.kafka.recreate(orders)
    for _ in range(3):
        world.kafka.produce(orders, START_MS)
    before = len(world.kafka.commits)
    world.run_for(DELAY_MS - 2_000)
    assert world.kafka.commits[before:] == [{orders: 0}], "what was held of the former log is not committed"
    world.run_for(2_000 + COMMIT_INTERVAL_MS)
    assert world.offsets(orders) == [0, 1, 2]
    assert world.kafka.committed == {orders: 3}


def test_a_topic_that_was_made_again_is_read_and_committed_from_its_start(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.setup.on_data_loss = "continue"
    for _ in range(5):
        world.kafka.produce(orders, START_MS - DELAY_MS)
    world.start()
    world.run_for(COMMIT_INTERVAL_MS + 100)
    assert world.kafka.committed == {orders: 5}
    world.kafka.recreate(orders)
    for _ in range(2):
        world.kafka.produce(orders, START_MS - DELAY_MS + 20_000)
    world.client.must_give_up([orders])
    world.client.is_given([orders])
    world.run_for(COMMIT_INTERVAL_MS)
    assert world.kafka.committed == {orders: 0}, "the periodic commit would never go back"
    world.run_for(20_000)
    assert world.offsets(orders) == [0, 1, 2, 3, 4, 0, 1]
    assert world.kafka.committed == {orders: 2}


def hear_of(world: World, **topic_ids: str) -> None:
    """What the brokers say."""
    world.reporter.note_topics(topic_ids)
    world.reporter.look()


def test_a_topic_made_again_that_passes_for_the_former_one_is_read_from_its_start_once_its_id_is_heard_of(
    world: World,
) -> None:
    """The next offset is in the new log too, and the client reads by the topic's name."""
    orders, *_ = world.kafka.create("orders", 1)
    for _ in range(2):
        world.kafka.produce(orders, START_MS - DELAY_MS)
    world.start()
    world.run_for(100)
    hear_of(world, orders="former")
    world.kafka.produce(orders, START_MS)
    world.run_for(COMMIT_INTERVAL_MS + 100)
    world.kafka.recreate(orders)
    for _ in range(5):
        world.kafka.produce(orders, START_MS - DELAY_MS)
    hear_of(world)  # it is on its way
    world.run_for(100)
    assert world.offsets(orders) == [0, 1]
    for _ in range(3):
        hear_of(world, orders="another", others="x")
        world.run_for(COMMIT_INTERVAL_MS + 100)
    world.run_for(DELAY_MS)
    assert world.offsets(orders) == [0, 1, 0, 1, 2, 3, 4], "nothing of the former one, and nothing twice"
    assert world.kafka.committed == {orders: 5}
    assert len(world.log.of("topic_replaced")) == 1


def test_an_empty_topic_that_was_made_again_is_begun_anew_once(world: World) -> None:
    world.kafka.create("orders", 1)
    world.start()
    world.run_for(100)
    for topic_id in ("former", "another", "another", "another"):
        hear_of(world, orders=topic_id)
        world.run_for(1_000)
    assert len(world.log.of("topic_replaced")) == 1


def test_a_topic_that_comes_back_to_us_may_have_another_id(world: World) -> None:
    """It was made again meanwhile, and we began anew when it was assigned."""
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS - DELAY_MS)
    world.start()
    world.run_for(100)
    hear_of(world, orders="former")
    world.run_for(1_000)
    world.client.must_give_up([orders])
    world.client.is_given([orders])
    world.run_for(1_000)
    hear_of(world, orders="another")
    world.run_for(1_000)
    assert world.offsets(orders) == [0]
    assert world.log.of("topic_replaced") == []


def test_a_commit_of_a_former_log_that_cannot_be_taken_back_at_once_is_taken_back_later(world: World) -> None:
    """Else a restart would begin there, as soon as the new log is long enough, and skip what is before it."""
    orders, *_ = world.kafka.create("orders", 1)
    world.setup.on_data_loss = "continue"
    world.kafka.committed[orders] = 5
    world.kafka.produce(orders, START_MS)
    world.kafka.commit_error = KafkaError.COORDINATOR_NOT_AVAILABLE
    world.start()
    world.run_for(3_000)
    world.kafka.commit_error = None
    world.run_for(3_000)
    for _ in range(10):
        world.kafka.produce(orders, START_MS)
    world.crash()
    world.start()
    world.run_for(DELAY_MS)
    assert world.offsets(orders) == list(range(11))


def test_what_is_held_of_a_topic_that_was_made_again_is_dropped(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.setup.on_data_loss = "continue"
    for _ in range(5):
        world.kafka.produce(orders, START_MS - DELAY_MS + 20_000)
    world.start()
    world.run_for(1_000)
    world.kafka.recreate(orders)
    world.kafka.produce(orders, START_MS - DELAY_MS + 20_000, b"new")
    world.client.resume([TopicPartition(*orders)])  # the client looks sooner than it was asked to
    world.run_for(30_000)
    assert [one.message.value() for one in world.sink.delivered] == [b"new"]


def test_records_deleted_while_their_partition_was_paused_are_noticed(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.setup.on_data_loss = "continue"
    world.kafka.produce(orders, START_MS)
    world.start()
    world.run_for(1_000)
    assert world.client.paused == {orders}
    for _ in range(5):
        world.kafka.produce(orders, START_MS)
    world.kafka.delete_before(orders, 4)
    world.run_for(DELAY_MS)
    assert world.offsets(orders) == [0, 4, 5], "what was in memory is delivered all the same"
    assert world.metrics.totals()["data_loss"] == 3


def test_brokers_that_do_not_say_where_to_start_are_asked_again(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.kafka.produce(orders, START_MS - DELAY_MS)
    world.kafka.committed[orders] = 5
    world.setup.on_data_loss = "continue"
    world.start()
    world.kafka.unreachable = True
    world.run_for(10_000)
    assert world.offsets(orders) == []
    assert len(world.log.of("no_positions")) == 1
    world.kafka.unreachable = False
    world.run_for(2_000)
    assert world.offsets(orders) == [0]


def test_a_partition_that_is_lost_while_its_start_is_asked_for_is_forgotten(world: World) -> None:
    orders, other = world.kafka.create("orders", 2)
    world.kafka.committed[orders] = 5
    world.setup.on_data_loss = "continue"
    world.start()
    world.kafka.unreachable = True
    world.run_for(500)
    world.client.has_lost([orders])
    world.kafka.unreachable = False
    world.kafka.produce(other, START_MS - DELAY_MS)
    world.run_for(3_000)
    assert (world.offsets(orders), world.offsets(other)) == ([], [0])
