"""Offsets without a record: compacted away, aborted, or taken by the marker of a transaction."""

from __future__ import annotations

from confluent_kafka import Producer

from tests.conftest import Kafka, ServiceStarter
from tests.support.service import ServiceProcess, assert_all_delivered
from tests.support.topics import Record, Topic, committed, create_topic, now_ms, read_all, send, unique
from tests.support.wait import wait_until

DELAY_SECONDS = 2
COMPACTED = {
    "cleanup.policy": "compact",
    "segment.ms": "100",
    "min.cleanable.dirty.ratio": "0.01",
    "min.compaction.lag.ms": "0",
}


def test_a_compacted_topic_is_delivered_with_its_gaps(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap, config=COMPACTED)
    first_ms = now_ms() - 5000
    topic.produce(*(Record(first_ms + number, key=b"%d" % (number % 7)) for number in range(300)))
    topic.produce(Record(now_ms(), key=b"later"))  # rolls the segment, so that it can be compacted
    kept = wait_until(lambda: compacted(topic), 60)
    service = start(topic, DELAY_SECONDS=DELAY_SECONDS)
    service.wait_until(lambda: 300 in service.offsets())
    assert service.offsets() == kept
    service.wait_until(lambda: waits_for_nothing(service))
    service.stop()
    assert committed(topic) == {0: 301}


def compacted(topic: Topic) -> list[int]:
    """The offsets that are left, once there are gaps."""
    offsets = [int(message.offset() or 0) for message in read_all(topic, 301, idle_seconds=0.5)]
    return offsets if len(offsets) < 301 else []


def test_aborted_records_are_never_delivered_and_markers_are_passed_over(kafka: Kafka, start: ServiceStarter) -> None:
    topic, aborted = create_topic(kafka.bootstrap), Topic(kafka.bootstrap, "", 1)
    producer = transactional(kafka)
    at_ms = now_ms()
    for number, commit in enumerate([True, False, True, False]):
        producer.begin_transaction()
        into = topic if commit else Topic(kafka.bootstrap, topic.name, 1, aborted.records)
        send(producer, into, [Record(at_ms + number, b"%d %d" % (number, each)) for each in range(5)])
        producer.flush(10)
        producer.commit_transaction(10) if commit else producer.abort_transaction(10)
    service = start(topic, DELAY_SECONDS=DELAY_SECONDS)
    service.wait_for_records(10)
    service.wait_until(lambda: waits_for_nothing(service), what="waiting and overdue to reach 0")
    assert len(aborted.records) == 10
    assert_all_delivered(topic, DELAY_SECONDS, service)
    service.stop()
    assert committed(topic) == {0: 24}, "10 committed, 10 aborted, 4 markers"


def test_records_of_an_open_transaction_wait_for_its_end(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap)
    service = start(topic, DELAY_SECONDS=DELAY_SECONDS)
    producer = transactional(kafka)
    producer.begin_transaction()
    send(producer, topic, [Record(now_ms() - 60_000, b"open")])
    producer.flush(10)
    topic.produce(Record(now_ms() - 60_000, b"behind it"))
    service.wait_until(lambda: service.partitions().get(0, {}).get("end") is not None)
    assert not service.records
    producer.commit_transaction(10)
    service.wait_for_records(2)
    assert [record["value"] for record in service.records] == ["open", "behind it"]
    service.wait_until(lambda: waits_for_nothing(service))


def transactional(kafka: Kafka) -> Producer:
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "transactional.id": unique("transaction"), "log_level": 0}
    )
    producer.init_transactions(20)
    return producer


def waits_for_nothing(service: ServiceProcess) -> bool:
    """By the brokers' answers, which came at least once."""
    [one] = service.partitions().values()
    return (one["waiting"], one["overdue"]) == (0, 0)
