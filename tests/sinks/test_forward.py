"""Retry topics and dead letters, between topics of a cluster inside the process that refuses what it is told to."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from delayed_consumer.core.records import Partition
from delayed_consumer.events import Events
from delayed_consumer.failures import Failure, FailurePolicy, Forward
from delayed_consumer.fallback import PolicyFallback
from delayed_consumer.metrics import Metrics
from delayed_consumer.origin import Origins
from delayed_consumer.sinks.forward import (
    FIRST_WAIT_MS,
    LONGEST_WAIT_MS,
    SILENCE_MS,
    KafkaForwarder,
    forwarder_properties,
)
from delayed_consumer.status import StatusBoard
from tests.loop.clock import ManualClock
from tests.sinks.making import ORDERS, TIMESTAMP_MS, Into, message, run_of
from tests.support.faulty_cluster import INIT_PRODUCER_ID, PRODUCE, FaultyCluster
from tests.support.wait import wait_until

PARTITIONS = 8
FAILED = Failure("TimeoutError: no answer", attempts=3)
DEAD_LETTERS = Forward("dead", retry=False)
RETRY = Forward("group.retry.1", retry=True)
TOO_LARGE, NOT_PERMITTED = KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.TOPIC_AUTHORIZATION_FAILED


class World:
    """A forwarder with a clock that is moved by hand, what it says, and who reads what it writes."""

    def __init__(self, cluster: FaultyCluster, bootstrap_servers: str | None = None) -> None:
        self.cluster = cluster
        self.clock = ManualClock()
        self.said: list[logging.LogRecord] = []
        logger = logging.Logger("world")
        logger.addHandler(Into(self.said))
        self.metrics = Metrics(StatusBoard(), lambda _: 0, {})
        self.events = Events(logger, self.metrics)
        # The client waits 100 ms before it tries again by itself to get the id that its records are numbered by.
        self._client = {"bootstrap.servers": bootstrap_servers or cluster.bootstrap_servers, "log_level": 0}
        client = {**self._client, "retry.backoff.ms": 10}
        self.forwarder = KafkaForwarder(
            forwarder_properties(client, 10_000),
            {DEAD_LETTERS.topic: PARTITIONS, RETRY.topic: 1_000},
            Origins([RETRY.topic]),
            self.clock,
            self.events,
            logging.getLogger("client"),
        )
        self.acknowledged: list[bytes | None] = []

    def forward(self, *messages: Message, to: Forward = DEAD_LETTERS, partition: Partition = ORDERS) -> None:
        run = run_of(*messages, partition=partition)
        for index, one in enumerate(messages):
            self.forwarder.forward(run, index, FAILED, to, partial(self.acknowledged.append, one.value()))

    def serve_until(self, condition: Callable[[], object], what: str = "") -> None:
        def look() -> bool:
            self.forwarder.serve()
            return bool(condition())

        wait_until(look, 10, what)

    def arrived(self, count: int, topic: str = DEAD_LETTERS.topic) -> list[Message]:
        """The first messages of a topic, from all its partitions."""
        reader = Consumer({**self._client, "group.id": "reader"})
        reader.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
        messages: list[Message] = []

        def look() -> bool:
            self.forwarder.serve()
            messages.extend(reader.consume(count, 0.01))
            return len(messages) >= count

        wait_until(look, 10, f"{count} messages")
        reader.close()
        return messages

    def events_named(self, name: str) -> list[logging.LogRecord]:
        return [one for one in self.said if getattr(one, "event", None) == name]


@pytest.fixture
def world() -> Iterator[World]:
    with FaultyCluster() as cluster:
        for topic in (DEAD_LETTERS.topic, RETRY.topic):
            cluster.create_topic(topic, PARTITIONS)
        one = World(cluster)
        yield one
        one.forwarder.close()


def test_it_arrives_with_its_own_headers_where_it_came_from_and_what_went_wrong(world: World) -> None:
    own: list[tuple[str, bytes | None]] = [("name", b"1"), ("name", None), ("x", b"\xff")]
    begun_ms = time.time() * 1000
    world.forward(message(None, b"\x80key", own, offset=7))
    [arrived] = world.arrived(1)
    assert (arrived.key(), arrived.value(), arrived.partition()) == (b"\x80key", None, ORDERS.number)
    assert begun_ms - 1 <= arrived.timestamp()[1] <= time.time() * 1000, "a retry topic's delay counts from now"
    assert arrived.headers() == [
        *own,
        ("delayed-consumer.topic", b"orders"),
        ("delayed-consumer.partition", b"3"),
        ("delayed-consumer.offset", b"0"),
        ("delayed-consumer.timestamp", b"%d" % TIMESTAMP_MS),
        ("delayed-consumer.error", b"TimeoutError: no answer"),
        ("delayed-consumer.attempts", b"3"),
    ]


def test_what_fails_again_keeps_its_origin_and_its_attempts_add_up(world: World) -> None:
    world.forward(message(b"v", headers=[("own", b"1")]), to=RETRY)
    [retried] = world.arrived(1, RETRY.topic)
    world.forward(retried, partition=Partition(RETRY.topic, 5))
    [dead] = world.arrived(1)
    first: Any = retried.headers()
    assert dead.headers() == [*first[:-1], ("delayed-consumer.attempts", b"6")]


def test_a_topic_with_fewer_partitions_gets_it_by_its_key(world: World) -> None:
    for number in (PARTITIONS, PARTITIONS + 1, 1_000):
        world.forward(message(b"%d" % number, b"key"), partition=Partition("orders", number))
    arrived = world.arrived(3)
    assert len({one.partition() for one in arrived}) == 1
    assert {one.value() for one in arrived} == {b"8", b"9", b"1000"}


def test_a_topic_that_was_made_again_with_fewer_partitions_gets_it_too(world: World) -> None:
    """The forwarder believes that the retry topic has a thousand."""
    world.forward(message(b"v", b"key"), to=RETRY)
    world.serve_until(lambda: world.acknowledged)
    for partition in (Partition("orders", 500), Partition("orders", 501)):
        world.forward(message(b"v", b"key"), to=RETRY, partition=partition)
    world.clock.advance(FIRST_WAIT_MS)
    world.serve_until(lambda: len(world.acknowledged) == 3)


def test_a_record_larger_than_a_batch_may_be_is_left_to_the_topic_to_judge(world: World) -> None:
    world.forward(message(b"x" * 3_000_000))
    world.serve_until(lambda: world.acknowledged)


def test_it_is_acknowledged_when_the_broker_has_it_and_not_before(world: World) -> None:
    lonely = World(world.cluster, bootstrap_servers="127.0.0.1:1")
    lonely.forward(message(b"nobody"))
    world.forward(message(b"somebody"))
    world.serve_until(lambda: world.acknowledged)
    lonely.forwarder.serve()
    assert lonely.acknowledged == []
    lonely.forwarder.close()
    assert lonely.acknowledged == []
    assert lonely.events_named("cannot_forward") == [], "that it was not in time is no news at a stop"


def test_brokers_that_are_away_are_said_too(world: World) -> None:
    lonely = World(world.cluster, bootstrap_servers="127.0.0.1:1")
    lonely.forward(message(b"v"))
    lonely.clock.advance(SILENCE_MS - 1)
    lonely.forwarder.serve()
    assert lonely.events_named("cannot_forward") == []
    lonely.clock.advance(1)
    lonely.forwarder.serve()
    lonely.forwarder.serve()
    [said] = lonely.events_named("cannot_forward")
    assert "not acknowledged for 10 s" in said.getMessage()
    lonely.forwarder.close()


def test_what_is_refused_is_said_and_tried_again_until_it_is_taken(world: World) -> None:
    world.cluster.refuse(PRODUCE, TOO_LARGE, TOO_LARGE, NOT_PERMITTED)
    world.forward(message(b"v"))
    world.serve_until(lambda: world.events_named("cannot_forward"))
    [said] = world.events_named("cannot_forward")
    assert said.levelno == logging.ERROR
    assert "dead does not take orders[3] offset 0" in said.getMessage()
    for wait_ms in (FIRST_WAIT_MS, 2 * FIRST_WAIT_MS):
        tries = len(world.forwarder._jams[ORDERS].parcels)
        assert (tries, world.acknowledged) == (1, [])
        world.clock.advance(wait_ms - 1)
        world.forwarder.serve()
        assert len(world.forwarder._jams[ORDERS].parcels) == 1, "too soon"
        world.clock.advance(1)
        world.serve_until(lambda: world.acknowledged or world.forwarder._jams[ORDERS].parcels)
    assert world.acknowledged == [b"v"]
    assert [one.value() for one in world.arrived(1)] == [b"v"]
    assert len(world.events_named("cannot_forward")) == 1, "once a minute"


def test_the_waits_grow_to_a_minute(world: World) -> None:
    world.cluster.refuse(PRODUCE, *[NOT_PERMITTED] * 10)
    world.forward(message(b"v"))
    world.serve_until(lambda: world.forwarder._jams)
    waits_ms = []
    while world.forwarder._jams:
        jam = world.forwarder._jams[ORDERS]
        world.serve_until(partial(getattr, jam, "parcels"))
        waits_ms.append(jam.again_ms - world.clock.steady_ms())
        world.clock.advance(waits_ms[-1])
        world.serve_until(lambda: world.forwarder._jams.get(ORDERS) is None or world.forwarder._jams[ORDERS].parcels)
    assert waits_ms == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, *[LONGEST_WAIT_MS] * 4]


def test_what_follows_in_its_partition_waits_for_it_and_other_partitions_go_on(world: World) -> None:
    world.cluster.refuse(PRODUCE, NOT_PERMITTED)
    world.forward(message(b"first"))
    world.serve_until(lambda: world.forwarder._jams)
    world.forward(message(b"second"), message(b"third"))
    world.forward(message(b"other"), partition=Partition("orders", 4))
    world.serve_until(lambda: world.acknowledged)
    assert world.acknowledged == [b"other"]
    world.clock.advance(FIRST_WAIT_MS)
    world.serve_until(lambda: len(world.acknowledged) == 4)
    assert world.acknowledged == [b"other", b"first", b"second", b"third"]
    assert [one.value() for one in world.arrived(4) if one.partition() == ORDERS.number] == [
        b"first",
        b"second",
        b"third",
    ]


def test_what_was_refused_with_its_batch_goes_again_at_once_and_blocks_its_partition_only_if_refused_alone(
    world: World,
) -> None:
    world.cluster.refuse(PRODUCE, TOO_LARGE, TOO_LARGE)
    for number in (10, 11, 12):  # the topic has fewer partitions, so these come together by their key
        world.forward(message(b"%d" % number, b"key"), partition=Partition("orders", number))
    world.serve_until(lambda: len(world.acknowledged) == 2)
    assert world.acknowledged == [b"11", b"12"]
    [said] = world.events_named("cannot_forward")
    assert "dead does not take orders[10] offset 0" in said.getMessage()
    world.clock.advance(FIRST_WAIT_MS)
    world.serve_until(lambda: len(world.acknowledged) == 3)


def test_after_a_refusal_what_was_on_its_way_behind_it_still_arrives_once(world: World) -> None:
    """The client numbers records to see gaps: one that is refused must not spoil those behind it."""
    world.forward(message(b"%d" % 0))
    world.serve_until(lambda: len(world.acknowledged) == 1)
    world.cluster.refuse(PRODUCE, TOO_LARGE)
    for number in range(1, 20):
        world.forward(message(b"%d" % number), partition=Partition("orders", number % PARTITIONS))

    def look() -> bool:
        world.clock.advance(20)
        return len(world.acknowledged) == 20

    world.serve_until(look)
    assert sorted(one.value() or b"" for one in world.arrived(20)) == sorted(b"%d" % number for number in range(20))


def test_a_client_that_has_failed_for_good_is_replaced_and_nothing_is_lost(world: World) -> None:
    world.cluster.refuse(INIT_PRODUCER_ID, *[KafkaError.CLUSTER_AUTHORIZATION_FAILED] * 3)
    broken = World(world.cluster)
    broken.forward(message(b"before"))
    broken.serve_until(lambda: broken.events_named("cannot_forward"))
    broken.forward(message(b"behind"))
    assert broken.acknowledged == []
    world.cluster.let_pass(INIT_PRODUCER_ID)

    def look() -> bool:
        broken.clock.advance(LONGEST_WAIT_MS)
        return len(broken.acknowledged) == 2

    broken.serve_until(look)
    assert broken.acknowledged == [b"before", b"behind"]
    broken.forwarder.close()


@pytest.mark.parametrize(("to", "counter"), [(DEAD_LETTERS, "dead_lettered"), (RETRY, "retried")])
def test_it_is_counted_and_resolved_once_it_is_acknowledged_and_not_before(
    world: World, to: Forward, counter: str
) -> None:
    retry_topics = [RETRY.topic] if to.retry else []
    policy = FailurePolicy("dead-letter", retry_topics, DEAD_LETTERS.topic)
    fallback = PolicyFallback(policy, world.forwarder, world.events)
    resolved: list[bool] = []
    world.cluster.refuse(PRODUCE, NOT_PERMITTED)
    assert fallback.take(run_of(message(b"v")), 0, FAILED, lambda: resolved.append(True)) is None
    world.serve_until(lambda: world.events_named("cannot_forward"))
    assert (world.metrics.totals()[counter], world.metrics.totals()["failed"], resolved) == (0, 1, [])
    world.clock.advance(FIRST_WAIT_MS)
    world.serve_until(lambda: resolved)
    assert (world.metrics.totals()[counter], world.metrics.totals()["failed"]) == (1, 1)
    assert resolved == [True]
