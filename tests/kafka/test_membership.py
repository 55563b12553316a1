"""Membership never depends on the delay, and a rebalance costs neither records nor order."""

from __future__ import annotations

import signal
from functools import partial

import pytest

from tests.conftest import Kafka, ServiceStarter
from tests.support.groups import describe
from tests.support.service import ServiceProcess, assert_all_delivered
from tests.support.topics import Record, Topic, committed, create_topic, now_ms
from tests.support.wait import wait_until

PARTITIONS = 4
# Members learn of a rebalance with their heartbeats; in the new protocol the brokers set the pace (see conftest).
PROTOCOLS = {
    "eager": {"KAFKA_CONF_PARTITION_ASSIGNMENT_STRATEGY": "range", "KAFKA_CONF_HEARTBEAT_INTERVAL_MS": "500"},
    "cooperative": {"KAFKA_CONF_HEARTBEAT_INTERVAL_MS": "500"},
    "consumer": {"KAFKA_CONF_GROUP_PROTOCOL": "consumer"},
}

every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


def share(service: ServiceProcess) -> int:
    return len(service.partitions())


def wait_for_shares(one: ServiceProcess, other: ServiceProcess) -> None:
    """Until each has half of the partitions."""
    one.wait_until(lambda: share(one) == share(other) == PARTITIONS // 2, what="half of the partitions each")


def test_a_delay_longer_than_session_and_poll_timeout_never_rebalances(kafka: Kafka, start: ServiceStarter) -> None:
    """With either protocol: both wait at the same time."""
    topics = [create_topic(kafka.bootstrap, PARTITIONS) for _ in ("cooperative", "consumer")]
    at_ms = now_ms()
    for topic in topics:
        topic.produce(*(Record(at_ms, partition=number % PARTITIONS) for number in range(8)))
    polls = {"DELAY_SECONDS": 30, "KAFKA_CONF_MAX_POLL_INTERVAL_MS": 10_000}
    # In the new protocol the brokers decide the session's length; it is 6 s there, too.
    one = start(topics[0], **polls, KAFKA_CONF_SESSION_TIMEOUT_MS=6000)
    other = start(topics[1], **polls, KAFKA_CONF_GROUP_PROTOCOL="consumer")
    services = list(zip(topics, (one, other), strict=True))
    for _, service in services:
        service.wait_until(partial(all_paused, service))
    before = [describe(kafka.bootstrap, topic.name) for topic in topics]
    assert all(group.stable for group in before)
    for topic, service in services:
        service.wait_for_records(8, 60)
        counts = {event: service.metric("rebalances_total", event=event) for event in ("assigned", "revoked", "lost")}
        assert counts == {"assigned": 1, "revoked": 0, "lost": 0}
        assert service.metric("stuck_pauses_total") == 0
        assert_all_delivered(topic, 30, service)
    assert [describe(kafka.bootstrap, topic.name) for topic in topics] == before


@every_protocol
def test_members_that_join_and_leave_while_records_are_held_cost_nothing(
    kafka: Kafka, start: ServiceStarter, protocol: str
) -> None:
    """Records fall due all the time, so that there are always some held."""
    topic = steady_topic(kafka, seconds=8)
    settings = {"DELAY_SECONDS": 3, **PROTOCOLS[protocol]}
    one = start(topic, **settings)
    one.wait_for_records(20)
    other = start(topic, **settings)
    wait_for_shares(one, other)
    other.wait_until(lambda: len(other.records) > 20, what="deliveries of the second instance")
    other.stop()
    one.wait_until(lambda: share(one) == PARTITIONS)
    wait_until(lambda: len(one.records) + len(other.records) >= len(topic.records), what="all records")
    assert_all_delivered(topic, 3, one, other)
    one.stop()
    assert committed(topic) == ends(topic)
    assert not one.events("idle_member")
    assert not other.events("idle_member")


@every_protocol
def test_members_that_join_and_leave_while_all_is_paused_cost_nothing(
    kafka: Kafka, start: ServiceStarter, protocol: str
) -> None:
    topic = create_topic(kafka.bootstrap, PARTITIONS)
    at_ms = now_ms()
    topic.produce(*(Record(at_ms + number, partition=number % PARTITIONS) for number in range(40)))
    settings = {"DELAY_SECONDS": 9, **PROTOCOLS[protocol]}
    one = start(topic, **settings)
    one.wait_until(lambda: all_paused(one))
    other = start(topic, **settings)
    wait_for_shares(one, other)
    wait_until(lambda: paused(one) == paused(other) == PARTITIONS // 2)
    other.stop()
    one.wait_until(lambda: all_paused(one))
    third = start(topic, **settings)
    wait_for_shares(one, third)
    wait_until(lambda: len(one.records) + len(third.records) >= 40)
    assert third.records
    assert_all_delivered(topic, 9, one, other, third)
    lateness_ms = [record["delivered_ms"] - record["due_ms"] for record in one.records + third.records]
    assert max(lateness_ms) < 2000, "the pauses of the former assignments were not lifted"


@every_protocol
def test_an_instance_without_partitions_says_so_once_and_takes_over(
    kafka: Kafka, start: ServiceStarter, protocol: str
) -> None:
    topic = create_topic(kafka.bootstrap, 1)
    settings = {"DELAY_SECONDS": 1, **PROTOCOLS[protocol]}
    one = start(topic, **settings)
    one.wait_until(lambda: share(one) == 1)
    other = start(topic, **settings)
    wait_until(lambda: len(describe(kafka.bootstrap, topic.name).members) == 2)
    wait_until(lambda: one.events("idle_member") or other.events("idle_member"))
    idle, busy = (one, other) if one.events("idle_member") else (other, one)
    assert idle.status()["service"]["idle_member"]
    assert idle.get("/readyz") is not None
    assert not busy.status()["service"]["idle_member"]
    busy.stop()
    topic.produce(Record(now_ms()))
    idle.wait_for_records(1)
    assert not idle.status()["service"]["idle_member"]
    assert len(idle.events("idle_member")) == 1
    assert_all_delivered(topic, 1, one, other)


@pytest.mark.parametrize(
    ("protocol", "end"),
    [("cooperative", signal.SIGKILL), ("cooperative", signal.SIGTERM), ("consumer", signal.SIGTERM)],
)
def test_a_static_member_that_restarts_within_its_session_moves_nobody(
    kafka: Kafka, start: ServiceStarter, protocol: str, end: signal.Signals
) -> None:
    """Not after SIGKILL with the new protocol: there a name is free again when the session is over."""
    topic = create_topic(kafka.bootstrap, PARTITIONS)
    settings = {"DELAY_SECONDS": 1, **PROTOCOLS[protocol]}
    one = start(topic, KAFKA_GROUP_INSTANCE_ID="one", **settings)
    other = start(topic, KAFKA_GROUP_INSTANCE_ID="other", **settings)
    wait_for_shares(one, other)
    before = rebalances(other), set(other.partitions())
    one.signal(end)
    one.wait_for_exit()
    again = start(topic, KAFKA_GROUP_INSTANCE_ID="one", **settings)
    wait_for_shares(again, other)
    topic.produce(*(Record(now_ms(), partition=number) for number in range(PARTITIONS)))
    wait_until(lambda: len(again.records) + len(other.records) == PARTITIONS)
    assert (rebalances(other), set(other.partitions())) == before
    assert_all_delivered(topic, 1, again, other)


@pytest.mark.parametrize("protocol", ["cooperative", "consumer"])
def test_two_processes_with_one_instance_id_end_one_of_them(kafka: Kafka, start: ServiceStarter, protocol: str) -> None:
    topic = create_topic(kafka.bootstrap, 1)
    settings = {"DELAY_SECONDS": 1, "KAFKA_GROUP_INSTANCE_ID": "same", **PROTOCOLS[protocol]}
    one = start(topic, **settings)
    one.wait_until(lambda: share(one) == 1)
    other = start(topic, **settings)
    wait_until(lambda: one.ended or other.ended, what="the end of one of them")
    fenced, stays = (one, other) if one.ended else (other, one)
    assert fenced.wait_for_exit() == 75
    assert len(fenced.events("failed")) == 1
    topic.produce(Record(now_ms()))
    stays.wait_for_records(1)
    assert_all_delivered(topic, 1, one, other)


def steady_topic(kafka: Kafka, seconds: int) -> Topic:
    """One record every 10 ms from now on, all written at once with their later timestamps."""
    topic = create_topic(kafka.bootstrap, PARTITIONS)
    first_ms = now_ms()
    topic.produce(*(Record(first_ms + 10 * number, partition=number % PARTITIONS) for number in range(100 * seconds)))
    return topic


def all_paused(service: ServiceProcess) -> bool:
    return paused(service) == PARTITIONS


def paused(service: ServiceProcess) -> int:
    return sum(one["state"] == "paused" for one in service.partitions().values())


def rebalances(service: ServiceProcess) -> float:
    return service.metric("rebalances_total")


def ends(topic: Topic) -> dict[int, int | None]:
    """One past the last record of each partition."""
    return {number: max(offset for one, offset in topic.records if one == number) + 1 for number in range(PARTITIONS)}
