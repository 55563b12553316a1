"""DELIVERY=exactly-once: what becomes of records that cannot be relayed, in the transactions of all the others."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from confluent_kafka import Consumer, TopicPartition

from tests.conftest import Kafka, ServiceStarter
from tests.kafka.test_exactly_once import PARTITIONS, ends, exactly_once, places, uncommitted
from tests.support.open_transactions import freeze_within_transaction
from tests.support.settings import SHORT_SESSION
from tests.support.topics import Headers, Record, Topic, committed, create_topic, now_ms, read_all

SMALL, LARGE = b"s" * 1_000, b"l" * 5_000
SMALL_TARGET = {"max.message.bytes": "2000"}


def topic_with_large_records(kafka: Kafka, large: Collection[int]) -> Topic:
    topic, at_ms = create_topic(kafka.bootstrap), now_ms() - 60_000
    topic.produce(*(Record(at_ms + number, LARGE if number in large else SMALL, b"key") for number in range(60)))
    return topic


def test_a_record_too_large_stops_the_service_after_what_is_before_it(kafka: Kafka, start: ServiceStarter) -> None:
    topic = topic_with_large_records(kafka, {30})
    target = create_topic(kafka.bootstrap, config=SMALL_TARGET)
    for _ in range(2):  # a restart stops at the same record
        service = start(topic, **exactly_once(target))
        assert service.wait_for_exit() == 1
        [reason] = service.events("failed")[-1:]
        assert f"{topic.name}[0] offset 30" in reason["message"]
        assert committed(topic)[0] == 30
    assert places(target, 30) == [(0, offset) for offset in range(30)]


def test_a_record_too_large_is_skipped_and_its_offset_committed(kafka: Kafka, start: ServiceStarter) -> None:
    topic = topic_with_large_records(kafka, {0, 30, 59})
    target = create_topic(kafka.bootstrap, config=SMALL_TARGET)
    service = start(topic, **exactly_once(target, ON_FAILURE="skip"))
    service.wait_until(lambda: committed(topic) == {0: 60})
    assert (service.metric("skipped_total"), service.metric("delivered_total")) == (3, 57)
    assert service.metric("commits_total", result="failed") == 0
    assert [event["offset"] for event in service.events("delivery_failed")] == [0, 30, 59]
    assert places(target, 57) == [(0, offset) for offset in range(60) if offset not in {0, 30, 59}]


def dead_lettering(kafka: Kafka, dead: Topic, **settings: object) -> Mapping[str, object]:
    """Into a target that takes no large record."""
    target = create_topic(kafka.bootstrap, PARTITIONS, SMALL_TARGET)
    return exactly_once(target, ON_FAILURE="dead-letter", DEAD_LETTER_TOPIC=dead.name, **settings)


def test_a_dead_letter_is_in_the_same_transaction(kafka: Kafka, start: ServiceStarter) -> None:
    topic, dead = topic_with_large_records(kafka, {30}), create_topic(kafka.bootstrap)
    target = create_topic(kafka.bootstrap, config=SMALL_TARGET)
    service = start(topic, **exactly_once(target, ON_FAILURE="dead-letter", DEAD_LETTER_TOPIC=dead.name))
    service.wait_until(lambda: committed(topic) == {0: 60})
    assert places(target, 59) == [(0, offset) for offset in range(60) if offset != 30]
    [letter] = read_all(dead, 2, 1)
    assert (letter.key(), letter.value()) == (b"key", LARGE)
    headers = dict(letter.headers() or ())
    assert headers["delayed-consumer.offset"] == b"30"
    assert "too large" in str(headers["delayed-consumer.error"])
    assert service.metric("dead_lettered_total") == 1
    assert log_end(dead) == 2, "the record, and the marker of its transaction"


def test_dead_letters_of_a_killed_transaction_are_visible_once(kafka: Kafka, start: ServiceStarter) -> None:
    """Readers of all see also those that were written in a transaction that nobody ended."""
    topic, dead = create_topic(kafka.bootstrap, PARTITIONS), create_topic(kafka.bootstrap, PARTITIONS)
    first_ms = now_ms()
    sizes = [LARGE if number % 2 else SMALL for number in range(4_000)]
    records = (
        Record(first_ms + 2 * number, value, partition=number // 2 % PARTITIONS) for number, value in enumerate(sizes)
    )
    topic.produce(*records)
    settings = dead_lettering(kafka, dead, KAFKA_GROUP_INSTANCE_ID="one", **SHORT_SESSION)
    killed = start(topic, **settings)
    killed.wait_until(lambda: killed.metric("dead_lettered_total") > 10)
    freeze_within_transaction(killed, dead)
    killed.kill()
    last = start(topic, **settings)
    last.wait_until(lambda: committed(topic) == ends(topic))
    large = [where for where, record in topic.records.items() if record.value is LARGE]
    assert sorted(places(dead, len(large))) == sorted(large)
    assert uncommitted(dead) > len(large)


def test_no_record_that_is_too_large_is_tried_later_but_what_waits_to_be_is(
    kafka: Kafka, start: ServiceStarter
) -> None:
    """A retry topic may have records of a time with another sink."""
    topic, dead = topic_with_large_records(kafka, {30}), create_topic(kafka.bootstrap)
    retries = Topic(kafka.bootstrap, f"{topic.name}.retry.1", 1)
    service = start(topic, **dead_lettering(kafka, dead, RETRY_DELAYS_SECONDS="1"))
    service.wait_until(lambda: committed(topic) == {0: 60})
    assert places(dead, 1) == [(0, 30)]
    assert read_all(retries, 1, 1) == []
    coordinates = {
        "topic": topic.name,
        "partition": 0,
        "offset": 70,
        "timestamp": now_ms(),
        "error": "no",
        "attempts": 3,
    }
    headers: Headers = [(f"delayed-consumer.{name}", str(value).encode()) for name, value in coordinates.items()]
    retries.produce(Record(now_ms(), SMALL, headers=headers), Record(now_ms(), LARGE, headers=headers))
    service.wait_until(lambda: committed(retries, topic.name) == {0: 2})
    assert places(dead, 2) == [(0, 30), (0, 70)]
    assert service.metric("retried_total") == 0
    assert service.metric("delivered_total") == 60


def log_end(topic: Topic) -> int:
    consumer = Consumer({"bootstrap.servers": topic.bootstrap, "group.id": topic.name, "log_level": 0})
    try:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic.name, 0), timeout=20)
        return int(end)
    finally:
        consumer.close()
