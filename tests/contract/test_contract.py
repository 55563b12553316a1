"""What the service promises on any cluster: the embedded one of the demo, and Apache Kafka."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are public, but not marked so
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)

from tests.conftest import ServiceStarter
from tests.contract.conftest import PARTITIONS, SESSION, MakeTopic, spread
from tests.support.service import ServiceProcess, assert_all_delivered
from tests.support.topics import Record, Topic, admin, committed, now_ms, send
from tests.support.wait import wait_until


def states(service: ServiceProcess) -> list[str]:
    return [one["state"] for one in service.partitions().values()]


def test_mixed_payloads_come_out_as_they_went_in(make_topic: MakeTopic, start: ServiceStarter) -> None:
    topic = make_topic()
    at_ms = now_ms() - 60_000
    topic.produce(
        Record(at_ms, b"text", b"key", [("name", b"1"), ("name", b"2")]),
        Record(at_ms, None, b"tombstone"),
        Record(at_ms, b"", None),
        Record(at_ms, b"\xff\x00", b"", [("null", None)]),
    )
    service = start(topic, DELAY_SECONDS=1)
    service.wait_for_records(4)
    assert [(one["key"], one["value"], one["headers"]) for one in service.records] == [
        ("key", "text", [["name", "1"], ["name", "2"]]),
        ("tombstone", None, []),
        (None, "", []),
        ("", {"base64": "/wA="}, [["null", None]]),
    ]


def test_a_partition_that_waits_long_is_paused_and_stops_in_under_a_second(
    make_topic: MakeTopic, start: ServiceStarter
) -> None:
    topic = make_topic()
    at_ms = now_ms()
    topic.produce(*spread(at_ms, 8, 0))
    service = start(topic, DELAY_SECONDS=900)
    service.wait_until(lambda: states(service) == ["paused"] * PARTITIONS, what="all partitions paused")
    for one in service.partitions().values():
        assert one["paused"]
        assert one["next_due_ms"] == at_ms + 900_000
        assert at_ms + 890_000 < one["paused_until_ms"] < at_ms + 900_000
    assert service.metric("partition_paused") == PARTITIONS
    assert service.stop() < 1
    assert not service.records


def test_a_paused_partition_is_resumed_in_time(make_topic: MakeTopic, start: ServiceStarter) -> None:
    """And what was written meanwhile follows."""
    topic = make_topic()
    service = start(topic, DELAY_SECONDS=7)
    service.wait_until(lambda: len(states(service)) == PARTITIONS)
    topic.produce(*spread(now_ms(), 8, 0))
    service.wait_until(lambda: states(service) == ["paused"] * PARTITIONS, what="all partitions paused")
    topic.produce(*spread(now_ms(), 8, 0))
    service.wait_for_records(16)
    found = assert_all_delivered(topic, 7, service)
    assert max(found.lateness_ms) < 2000
    assert service.metric("resumes_total") >= PARTITIONS
    assert service.metric("stuck_pauses_total") == 0


def test_without_a_delay_a_record_comes_at_once(make_topic: MakeTopic, start: ServiceStarter) -> None:
    topic = make_topic()
    service = start(topic, DELAY_SECONDS=0)
    service.wait_until(lambda: len(states(service)) == PARTITIONS)
    for number in range(8):
        topic.produce(Record(now_ms(), partition=number % PARTITIONS))
        service.wait_for_records(number + 1, 10)
    assert_all_delivered(topic, 0, service)


def test_a_new_group_starts_at_the_earliest_record(make_topic: MakeTopic, start: ServiceStarter) -> None:
    topic = make_topic()
    topic.produce(*spread(now_ms() - 3_600_000, 40, 1))
    service = start(topic, DELAY_SECONDS=1, START_FROM="earliest")
    service.wait_for_records(40)
    assert_all_delivered(topic, 1, service)


def test_latest_skips_what_was_there_and_nothing_else(make_topic: MakeTopic, start: ServiceStarter) -> None:
    topic = make_topic()
    topic.produce(*spread(now_ms() - 3_600_000, 8, 1))
    service = start(topic, DELAY_SECONDS=1, START_FROM="latest")
    service.wait_until(lambda: committed(topic) == dict.fromkeys(range(PARTITIONS), 2), what="the anchor")
    topic.produce(Record(now_ms(), b"new"))
    service.wait_for_records(1)
    assert [(record["offset"], record["value"]) for record in service.records] == [(2, "new")]


def test_two_instances_share_the_partitions_and_one_takes_over(make_topic: MakeTopic, start: ServiceStarter) -> None:
    topic = make_topic()
    one = start(topic, DELAY_SECONDS=1, **SESSION)
    other = start(topic, DELAY_SECONDS=1, **SESSION)
    both = (one, other)
    wait_until(lambda: [len(service.partitions()) for service in both] == [2, 2], what="two partitions each")
    topic.produce(*spread(now_ms(), 40, 10))
    wait_until(lambda: [len(service.records) for service in both] == [20, 20])
    other.stop()
    topic.produce(*spread(now_ms(), 40, 10))
    one.wait_for_records(60)
    assert_all_delivered(topic, 1, *both)


def test_a_missing_topic_is_refused_by_name(make_topic: MakeTopic, start: ServiceStarter) -> None:
    topic = make_topic()
    service = start(topic, KAFKA_TOPICS=f"{topic.name},{topic.name}-missing")
    assert service.wait_for_exit() == 78
    [reason] = service.events("failed")
    assert f"{topic.name}-missing" in reason["message"]


@pytest.mark.embedded_cannot("it has no lookup by timestamp, so a paused partition's end stays as it was")
def test_what_is_written_while_all_is_paused_is_counted(make_topic: MakeTopic, start: ServiceStarter) -> None:
    topic = make_topic()
    topic.produce(*spread(now_ms(), 8, 0))
    service = start(topic, DELAY_SECONDS=900)
    service.wait_until(lambda: states(service) == ["paused"] * PARTITIONS, what="all partitions paused")
    topic.produce(*spread(now_ms(), 100, 0))
    service.wait_until(lambda: sum(one["waiting"] or 0 for one in service.partitions().values()) == 108, 13)
    assert states(service) == ["paused"] * PARTITIONS


@pytest.mark.embedded_cannot("it has no admin calls, so every topic has its producers' timestamps")
def test_a_topic_may_take_its_own_timestamps(make_topic: MakeTopic, start: ServiceStarter) -> None:
    topic = make_topic()
    use_log_append_time(topic)
    begun_ms = now_ms()
    topic.produce(Record(begun_ms - 3_600_000))
    service = start(topic, DELAY_SECONDS=1)
    service.wait_for_records(1)
    assert service.records[0]["timestamp_ms"] >= begun_ms


def use_log_append_time(topic: Topic) -> None:
    client = admin(topic.bootstrap)
    entry = ConfigEntry("message.timestamp.type", "LogAppendTime", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic.name, incremental_configs=[entry])
    for future in client.incremental_alter_configs([resource], request_timeout=5).values():
        future.result()


@pytest.mark.embedded_cannot("it has no transactions: what was aborted is read like any record")
def test_what_was_aborted_is_not_delivered(make_topic: MakeTopic, start: ServiceStarter) -> None:
    topic = make_topic()
    producer = Producer({"bootstrap.servers": topic.bootstrap, "transactional.id": topic.name, "log_level": 0})
    producer.init_transactions(20)
    for value, commit in ((b"aborted", False), (b"committed", True)):
        producer.begin_transaction()
        send(producer, topic, [Record(now_ms() - 60_000, value)])
        producer.flush(10)
        producer.commit_transaction(10) if commit else producer.abort_transaction(10)
    service = start(topic, DELAY_SECONDS=1)
    service.wait_until(lambda: any(record["value"] == "committed" for record in service.records))
    assert [record["value"] for record in service.records] == ["committed"]
