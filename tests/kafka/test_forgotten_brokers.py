"""A restart of brokers can make the Kafka client forget all of them for good: another client goes on."""

from __future__ import annotations

from contextlib import suppress

import pytest

from delayed_consumer import MessageError
from delayed_consumer import Record as DueRecord
from delayed_consumer.errors import UnreachableError
from delayed_consumer.probe import Probe
from tests.conftest import ServiceStarter
from tests.kafka.test_exactly_once import place
from tests.support.proxy import HoldingProxy, proxied_broker
from tests.support.service import ServiceProcess
from tests.support.settings import SHORT_SESSION
from tests.support.topics import Record, Topic, committed, create_topic, now_ms, read_all
from tests.support.wait import wait_until

RECORDS = 3_000
SETTINGS = {
    "DELAY_SECONDS": 1,
    "COMMIT_INTERVAL_SECONDS": 1,
    "KAFKA_CONF_STATISTICS_INTERVAL_MS": 200,
    "KAFKA_CONF_TOPIC_METADATA_REFRESH_INTERVAL_MS": 500,  # each client asks that often which brokers there are
}
# The brokers wait for the former client until its session ends, unless it has the name of the present one.
NAMED = {"KAFKA_GROUP_INSTANCE_ID": "one"}


@pytest.mark.parametrize("delivery", ["at-least-once", "at-most-once"])
def test_the_group_is_joined_anew_and_what_waits_is_delivered(start: ServiceStarter, delivery: str) -> None:
    with proxied_broker() as (proxy, bootstrap):
        topic = steady_topic(bootstrap)
        membership = SHORT_SESSION if delivery == "at-least-once" else NAMED
        service = start(topic, DELIVERY=delivery, **SETTINGS, **membership)
        service.wait_for_records(100)
        proxy.name_no_broker()
        service.wait_for_event("brokers_forgotten")
        proxy.name_brokers()
        service.wait_until(lambda: committed(topic) == {0: RECORDS}, 60, "commits of all")
        service.wait_until(lambda: service.offsets()[-1] == RECORDS - 1, what="the last record")
        offsets = service.offsets()
        if delivery == "at-least-once":
            assert set(offsets) == set(range(RECORDS))
        else:
            assert offsets == sorted(set(offsets)), "repeated"
        assert all(one["delivered_ms"] >= one["due_ms"] for one in service.records)
        service.stop()


@pytest.mark.parametrize("delivery", ["at-least-once", "exactly-once"])
def test_a_relay_goes_on_with_another_producer(start: ServiceStarter, delivery: str) -> None:
    with proxied_broker() as (proxy, bootstrap):
        topic, target = steady_topic(bootstrap), create_topic(bootstrap, 1)
        service = start(topic, DELIVERY=delivery, SINK="topic", SINK_TOPIC=target.name, **SETTINGS, **NAMED)
        service.wait_until(lambda: service.metric("delivered_total") >= 100)
        clients = {"consumer", "SINK_TOPIC"} if delivery == "at-least-once" else {"consumer"}
        proxy.name_no_broker()
        service.wait_until(lambda: forgetful(service) >= clients, what=str(clients))
        proxy.name_brokers()
        service.wait_until(lambda: committed(topic) == {0: RECORDS}, 60, "commits of all")
        relayed = [place(message) for message in read_all(target, 10 * RECORDS, 2)]
        assert set(relayed) == set(topic.records)
        assert delivery == "at-least-once" or len(relayed) == RECORDS
        service.stop()


def test_dead_letters_go_on_with_another_producer(start: ServiceStarter) -> None:
    with proxied_broker() as (proxy, bootstrap):
        topic, dead = steady_topic(bootstrap), create_topic(bootstrap, 1)
        failing = {"MAX_ATTEMPTS": 1, "ON_FAILURE": "dead-letter", "DEAD_LETTER_TOPIC": dead.name}
        service = start(topic, SINK="python", SINK_HANDLER=f"{__name__}:refuse", **failing, **SETTINGS, **NAMED)
        service.wait_until(lambda: service.metric("dead_lettered_total") >= 100)
        proxy.name_no_broker()
        clients = {"consumer", "retry topics, dead letters"}
        service.wait_until(lambda: forgetful(service) >= clients, what=str(clients))
        proxy.name_brokers()
        service.wait_until(lambda: committed(topic) == {0: RECORDS}, 90, "commits of all")
        assert {place(message) for message in read_all(dead, 10 * RECORDS, 2)} == set(topic.records)
        service.stop()


def test_the_probe_answers_with_other_clients() -> None:
    with proxied_broker() as (proxy, bootstrap):
        topic = create_topic(bootstrap, 1)
        with Probe({"bootstrap.servers": bootstrap}, timeout_s=0.5) as probe:
            wait_until(lambda: has_forgotten(probe, proxy), 60, "the probe to forget the broker")
            probe.reconnect()
            assert wait_until(lambda: answer(probe)) == {topic.name: 1}


def steady_topic(bootstrap: str) -> Topic:
    """A record each 10 ms."""
    topic, first_ms = create_topic(bootstrap, 1), now_ms()
    topic.produce(*(Record(first_ms + 10 * number) for number in range(RECORDS)))
    return topic


def has_forgotten(probe: Probe, proxy: HoldingProxy) -> bool:
    """After some questions more."""
    proxy.name_no_broker()
    for _ in range(3):
        answer(probe)
    proxy.name_brokers()
    return not any(answer(probe) for _ in range(5))


def answer(probe: Probe) -> dict[str, int] | None:
    with suppress(UnreachableError):
        return probe.topics(["^topic-"])
    return None


def forgetful(service: ServiceProcess) -> set[str]:
    """Which clients have forgotten all brokers."""
    return {event["client"] for event in service.events("brokers_forgotten")}


def refuse(record: DueRecord) -> None:
    """A handler."""
    raise MessageError("never")
