"""What is delivered, when, and that it is the same bytes."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from confluent_kafka import Message

from load.quantiles import quantile
from tests.conftest import Kafka, ServiceStarter
from tests.support.service import assert_all_delivered
from tests.support.topics import Headers, Record, committed, create_topic, now_ms, read_all

DELAY_SECONDS = 2
SOURCE_HEADERS = 4  # what the topic sink appends

LARGE_BYTES = 900 * 1024


def mixed_payloads(timestamp_ms: int) -> list[Record]:
    """One record of every kind that has been lost, changed or choked on somewhere."""
    payloads: list[tuple[bytes | None, bytes | None, Headers]] = [
        (b"plain", b"key", []),
        (None, b"tombstone", []),
        (b"", b"empty value", []),
        (b"null key", None, []),
        (b"empty key", b"", []),
        (None, None, []),
        (b"", b"", []),
        (b"\xff\xfe\x00 not utf-8", b"\x80key", [("bytes", b"\xc3\x28"), ("null", None), ("empty", b"")]),
        ('ä\u2028\x00\n"\\'.encode(), "schlüssel".encode(), [("ümlaut", "ö".encode())]),
        (b"duplicate names", b"k", [("name", b"1"), ("name", b"2"), ("other", b"x"), ("name", b"1")]),
        (b"1,000 headers", b"k", [(f"header-{number}", b"%d" % number) for number in range(1000)]),
        (b"\xf0" * LARGE_BYTES, b"large", []),
        (b"x" * LARGE_BYTES, b"large text", []),
    ]
    return [Record(timestamp_ms + index, *payload) for index, payload in enumerate(payloads)]


def content(record: Record) -> tuple[bytes | None, bytes | None, Headers]:
    return record.key, record.value, list(record.headers)


def content_of_line(line: dict[str, Any]) -> tuple[bytes | None, bytes | None, Headers]:
    headers = [(name, as_bytes(value)) for name, value in line["headers"]]
    return as_bytes(line["key"]), as_bytes(line["value"]), headers


def as_bytes(text: str | dict[str, str] | None) -> bytes | None:
    """What the log sink makes of bytes, undone."""
    if text is None:
        return None
    return text.encode() if isinstance(text, str) else base64.b64decode(text["base64"])


def content_of_message(message: Message) -> tuple[bytes | None, bytes | None, list[Any]]:
    return message.key(), message.value(), list(message.headers() or [])[:-SOURCE_HEADERS]


def source_of(message: Message) -> dict[str, str]:
    appended: list[Any] = list(message.headers() or [])[-SOURCE_HEADERS:]
    return {name: value.decode() for name, value in appended}


def test_mixed_payloads_reach_stdout_byte_for_byte(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap)
    records = mixed_payloads(now_ms())
    topic.produce(*records, message_max_bytes=2_000_000)
    service = start(topic, DELAY_SECONDS=DELAY_SECONDS)
    service.wait_for_records(len(records))
    assert [content_of_line(line) for line in service.records] == [content(record) for record in records]
    assert [line["timestamp_ms"] for line in service.records] == [record.timestamp_ms for record in records]
    assert_all_delivered(topic, DELAY_SECONDS, service)


@pytest.mark.parametrize("timestamps", ["delivery", "source"])
def test_mixed_payloads_reach_the_target_topic_byte_for_byte(
    kafka: Kafka, start: ServiceStarter, timestamps: str
) -> None:
    topic, target = create_topic(kafka.bootstrap), create_topic(kafka.bootstrap)
    records = mixed_payloads(now_ms())
    topic.produce(*records, message_max_bytes=2_000_000)
    service = start(
        topic, DELAY_SECONDS=DELAY_SECONDS, SINK="topic", SINK_TOPIC=target.name, SINK_TOPIC_TIMESTAMP=timestamps
    )
    messages = read_all(target, len(records))
    assert [content_of_message(message) for message in messages] == [content(record) for record in records]
    sources = [
        {
            "delayed-consumer.topic": topic.name,
            "delayed-consumer.partition": "0",
            "delayed-consumer.offset": str(offset),
            "delayed-consumer.timestamp": str(record.timestamp_ms),
        }
        for offset, record in enumerate(records)
    ]
    assert [source_of(message) for message in messages] == sources
    for message, record in zip(messages, records, strict=True):
        stamp_ms = message.timestamp()[1]
        if timestamps == "source":
            assert stamp_ms == record.timestamp_ms
        else:
            assert stamp_ms >= record.timestamp_ms + DELAY_SECONDS * 1000
    service.stop()
    assert committed(topic) == {0: len(records)}


def test_a_relayed_record_keeps_its_partition_by_key_or_by_number(kafka: Kafka, start: ServiceStarter) -> None:
    topic, target = create_topic(kafka.bootstrap, partitions=6), create_topic(kafka.bootstrap, partitions=3)
    at_ms = now_ms() - 10_000
    keyed = [Record(at_ms, b"%d" % number, b"key-%d" % (number % 5), partition=number % 6) for number in range(60)]
    bare = [Record(at_ms, b"%d" % number, partition=number) for number in range(6)]
    topic.produce(*keyed, *bare)
    start(topic, DELAY_SECONDS=0, SINK="topic", SINK_TOPIC=target.name)
    messages = read_all(target, len(keyed) + len(bare))
    assert len(messages) == len(keyed) + len(bare)
    partitions_of_key = {
        key: {message.partition() for message in messages if message.key() == key}
        for key in {record.key for record in keyed}
    }
    assert all(len(partitions) == 1 for partitions in partitions_of_key.values())
    without_key = {message.value(): message.partition() for message in messages if message.key() is None}
    assert [without_key[b"%d" % number] for number in range(3)] == [0, 1, 2]


def test_a_hundred_records_a_second_are_never_early_and_hardly_late(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap, partitions=4)
    first_ms = now_ms()
    topic.produce(*(Record(first_ms + 10 * number, partition=number % 4) for number in range(600)))
    service = start(topic, DELAY_SECONDS=4)
    service.wait_for_records(600)
    found = assert_all_delivered(topic, 4, service)
    assert quantile(sorted(found.lateness_ms), 0.5) < 50
    assert service.metric("stuck_pauses_total") == 0


def test_without_a_delay_it_is_an_ordinary_consumer(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap, partitions=2)
    service = start(topic, DELAY_SECONDS=0)
    service.wait_for_event("assigned")
    for number in range(20):
        topic.produce(Record(now_ms(), partition=number % 2), linger_ms=0)
        service.wait_for_records(number + 1, 10)
    found = assert_all_delivered(topic, 0, service)
    assert quantile(sorted(found.lateness_ms), 0.5) < 250
    service.stop()
    assert committed(topic) == {0: 10, 1: 10}


def test_every_topic_has_its_own_delay(kafka: Kafka, start: ServiceStarter) -> None:
    soon, late = create_topic(kafka.bootstrap), create_topic(kafka.bootstrap)
    at_ms = now_ms()
    for topic in (soon, late):
        topic.produce(Record(at_ms))
    service = start(
        soon,
        KAFKA_TOPICS=f"{soon.name},{late.name}",
        DELAY_SECONDS=600,
        DELAY_SECONDS_BY_TOPIC=f'{{"{soon.name}": 1.5}}',
    )
    service.wait_for_records(1)
    assert [(line["topic"], line["due_ms"]) for line in service.records] == [(soon.name, at_ms + 1500)]
    [waiting] = service.partitions(late.name).values()
    assert waiting["next_due_ms"] == at_ms + 600_000
