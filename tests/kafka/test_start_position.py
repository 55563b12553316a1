"""Where reading starts: a new group, a new partition, a new topic, a topic made anew."""

from __future__ import annotations

import signal

import pytest
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]  # it is public, but not marked so

from tests.conftest import Kafka, ServiceStarter
from tests.support.service import ServiceProcess, assert_all_delivered
from tests.support.settings import SHORT_SESSION
from tests.support.topics import Record, Topic, admin, committed, create_topic, now_ms, unique

QUICK_DISCOVERY = {"KAFKA_CONF_TOPIC_METADATA_REFRESH_INTERVAL_MS": 300}


def values(*services: ServiceProcess) -> list[str]:
    return sorted(record["value"] for service in services for record in service.records)


def test_a_new_group_starts_at_the_earliest_record(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap)
    topic.produce(*(Record(now_ms() - 60_000) for _ in range(10)))
    service = start(topic, DELAY_SECONDS=1)
    service.wait_for_records(10)
    assert_all_delivered(topic, 1, service)


def test_latest_is_anchored_so_a_crash_before_the_first_delivery_loses_nothing(
    kafka: Kafka, start: ServiceStarter
) -> None:
    topic = create_topic(kafka.bootstrap, partitions=2)
    topic.produce(*(Record(now_ms(), b"before", partition=number) for number in range(2)))
    settings = {"DELAY_SECONDS": 4, "START_FROM": "latest", **SHORT_SESSION}
    first = start(topic, **settings, COMMIT_INTERVAL_SECONDS=600)
    first.wait_until(lambda: len(committed_ones(topic)) == 2)
    topic.produce(*(Record(now_ms(), b"waiting", partition=number) for number in range(2)))
    first.wait_until(lambda: sum(one["held"] for one in first.partitions().values()) == 2)
    first.signal(signal.SIGKILL)
    first.wait_for_exit()
    assert not first.records
    topic.produce(*(Record(now_ms(), b"while down", partition=number) for number in range(2)))
    second = start(topic, **settings)
    second.wait_for_records(4)
    assert values(second) == ["waiting", "waiting", "while down", "while down"]


def committed_ones(topic: Topic) -> list[int]:
    return [offset for offset in committed(topic).values() if offset is not None]


def test_a_partition_added_while_running_is_read_from_its_start(kafka: Kafka, start: ServiceStarter) -> None:
    """Also with START_FROM=latest: what was written before it was discovered is not lost."""
    topic = create_topic(kafka.bootstrap)
    topic.produce(Record(now_ms(), b"before"))
    service = start(topic, DELAY_SECONDS=1, START_FROM="latest", **QUICK_DISCOVERY)
    service.wait_until(lambda: committed_ones(topic) == [1])
    add_partitions(topic, 3)
    topic.produce(Record(now_ms(), b"first", partition=1), Record(now_ms(), b"first", partition=2))
    service.wait_for_records(2)
    assert values(service) == ["first", "first"]
    topic.produce(Record(now_ms(), b"old partition", partition=0))
    service.wait_for_records(3)


def add_partitions(topic: Topic, partitions: int) -> None:
    client = admin(topic.bootstrap)
    client.create_partitions([NewPartitions(topic.name, partitions)])[topic.name].result(10)
    topic.partitions = partitions


def test_a_topic_that_matches_later_is_read_from_its_start(kafka: Kafka, start: ServiceStarter) -> None:
    prefix = unique("matched")
    present = create_topic(kafka.bootstrap, name=f"{prefix}-1")
    service = start(present, KAFKA_TOPICS=f"^{prefix}-[0-9]+$", DELAY_SECONDS=1, START_FROM="latest", **QUICK_DISCOVERY)
    service.wait_for_event("anchored")
    create_topic(kafka.bootstrap, name=f"{prefix}-other")
    late = create_topic(kafka.bootstrap, name=f"{prefix}-2", partitions=2)
    late.produce(Record(now_ms(), b"late", partition=1))
    service.wait_for_records(1)
    assert_all_delivered(late, 1, service)
    present.produce(Record(now_ms(), b"present"))
    service.wait_for_records(2)
    assert {one["topic"] for one in service.status()["partitions"]} == {present.name, late.name}


@pytest.mark.parametrize("noticed", [True, False], ids=["noticed", "unnoticed"])
def test_a_topic_deleted_and_made_again_is_read_from_its_start(
    kafka: Kafka, start: ServiceStarter, noticed: bool
) -> None:
    """The new topic soon has more records than the former one had, so that a former offset is one of the new log.

    Unnoticed by the client that is, which goes on there, until the service hears of the topic's id.
    """
    topic = create_topic(kafka.bootstrap)
    topic.produce(*(Record(now_ms(), b"former") for _ in range(10)))
    service = start(topic, DELAY_SECONDS=2, **(QUICK_DISCOVERY if noticed else {}))
    service.wait_for_records(10)
    topic.produce(*(Record(now_ms() + 60_000, b"dropped with its topic") for _ in range(10)))
    service.wait_until(lambda: service.partitions()[0]["held"] == 10)
    service.wait_until(lambda: service.partitions()[0]["end"] is not None, what="an answer of the brokers")
    topic.delete()
    if noticed:
        service.wait_for_event("lost")
    again = create_topic(kafka.bootstrap, name=topic.name)
    again.produce(*(Record(now_ms(), b"new %02d" % number) for number in range(30)))
    new = [f"new {number:02}" for number in range(30)]
    service.wait_until(lambda: values(service) == ["former"] * 10 + new)
    assert bool(service.events("topic_replaced")) is not noticed
    service.wait_until(lambda: committed(again) == {0: 30})
