"""ON_FAILURE=dead-letter and skip, ON_FUTURE_TIMESTAMP=dead-letter: what the target does not take is lost nowhere."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import Message

from tests.conftest import Kafka, ServiceStarter
from tests.kafka.test_timestamps import any_timestamp
from tests.support.service import ServiceProcess
from tests.support.topics import Headers, Record, Topic, committed, create_topic, now_ms, read_all, unique
from tests.support.wait import wait_until

YEAR_3000_MS = 32_503_680_000_000
LARGE = b"l" * 50_000
SMALL_TARGET = {"max.message.bytes": "20000"}
DEAD_LETTER_HEADERS = ["topic", "partition", "offset", "timestamp", "error", "attempts"]


def own(message: Message) -> tuple[bytes | None, bytes | None, Headers]:
    """Key, value and headers as they were in the source."""
    headers: Any = message.headers() or []
    return message.key(), message.value(), list(headers)[: -len(DEAD_LETTER_HEADERS)]


def ours(message: Message) -> dict[str, bytes]:
    """What was added, without the prefix."""
    headers: Any = message.headers() or []
    return {name.removeprefix("delayed-consumer."): value for name, value in headers[-len(DEAD_LETTER_HEADERS) :]}


def content(record: Record) -> tuple[bytes | None, bytes | None, Headers]:
    return record.key, record.value, list(record.headers)


def relay_to(target: Topic, dead_letters: Topic, **settings: object) -> dict[str, object]:
    return {
        "DELAY_SECONDS": 1,
        "SINK": "topic",
        "SINK_TOPIC": target.name,
        "ON_FAILURE": "dead-letter",
        "DEAD_LETTER_TOPIC": dead_letters.name,
        "COMMIT_INTERVAL_SECONDS": 0.2,
        **settings,
    }


def wait_for_commit(service: ServiceProcess, topic: Topic, offsets: dict[int, int]) -> None:
    service.wait_until(lambda: committed(topic) == offsets, 40, f"the commit of {offsets}")


def take_messages_of(topic: Topic, max_bytes: int) -> None:
    """The operator raises the topic's limit."""
    topic.set_config("max.message.bytes", str(max_bytes))


def test_what_the_target_does_not_take_becomes_a_dead_letter_byte_for_byte(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap, partitions=2)
    target = create_topic(kafka.bootstrap, config=SMALL_TARGET)
    dead_letters = create_topic(kafka.bootstrap, partitions=2)
    at_ms = now_ms() - 60_000
    heavy: Headers = [("heavy", LARGE)]
    refused = [
        Record(at_ms, LARGE, b"key", partition=1),
        Record(at_ms + 1, None, b"tombstone", heavy, partition=1),
        Record(at_ms + 2, b"", None, heavy, partition=1),
        Record(at_ms + 3, LARGE, None, partition=1),
        Record(at_ms + 4, b"\xff\xfe\x00" + LARGE, b"\x80", [("bytes", b"\xc3\x28"), ("null", None)], partition=1),
        Record(at_ms + 5, LARGE, b"k", [("name", b"1"), ("name", b"2"), ("x", b""), ("name", b"1")], partition=1),
        Record(at_ms + 6, LARGE, b"k", [(f"header-{number}", b"%d" % number) for number in range(1000)], partition=1),
    ]
    small = [Record(at_ms + 10 + number, b"%d" % number, partition=1) for number in range(5)]
    topic.produce(*refused[:4], *small, *refused[4:])
    service = start(topic, **relay_to(target, dead_letters))
    arrived = read_all(dead_letters, len(refused))
    assert [own(message) for message in arrived] == [content(record) for record in refused]
    assert {message.partition() for message in arrived} == {1}, "it keeps the number of its partition"
    offsets = [0, 1, 2, 3, 9, 10, 11]
    for message, record, offset in zip(arrived, refused, offsets, strict=True):
        headers: Any = message.headers()
        assert [name for name, _ in headers[-6:]] == [f"delayed-consumer.{name}" for name in DEAD_LETTER_HEADERS]
        assert ours(message) == {
            "topic": topic.name.encode(),
            "partition": b"1",
            "offset": b"%d" % offset,
            "timestamp": b"%d" % record.timestamp_ms,
            "error": ours(message)["error"],
            "attempts": b"1",
        }
        assert b"Message size too large" in ours(message)["error"]
    assert [message.value() for message in read_all(target, len(small))] == [record.value for record in small]
    wait_for_commit(service, topic, {0: 0, 1: 12})
    counted = {name: service.metric(f"{name}_total") for name in ("delivered", "failed", "dead_lettered", "retried")}
    assert counted == {"delivered": 5, "failed": 7, "dead_lettered": 7, "retried": 0}


@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once"])
def test_a_record_of_5_mb_becomes_a_dead_letter_and_is_not_tried_for_ever(
    kafka: Kafka, start: ServiceStarter, delivery: str
) -> None:
    large = {"max.message.bytes": "6000000"}
    topic, target = create_topic(kafka.bootstrap, config=large), create_topic(kafka.bootstrap)
    dead_letters = create_topic(kafka.bootstrap, config=large)
    at_ms = now_ms()
    huge = b"\xf0" * 5_000_000
    topic.produce(Record(at_ms, b"before"), Record(at_ms, huge), Record(at_ms, b"behind"), message_max_bytes=6_000_000)
    service = start(topic, **relay_to(target, dead_letters, DELIVERY=delivery))
    [arrived] = read_all(dead_letters, 1)
    assert arrived.value() == huge
    assert [message.value() for message in read_all(target, 2)] == [b"before", b"behind"]
    wait_for_commit(service, topic, {0: 3})
    assert service.metric("failed_total") == 1


@pytest.mark.parametrize("delivery", ["at-least-once", "exactly-once"])
def test_a_dead_letter_that_is_not_taken_blocks_its_partition_until_it_is(
    kafka: Kafka, start: ServiceStarter, delivery: str
) -> None:
    topic = create_topic(kafka.bootstrap, partitions=2)
    target, dead_letters = (create_topic(kafka.bootstrap, config=SMALL_TARGET) for _ in range(2))
    at_ms = now_ms()
    topic.produce(Record(at_ms, b"before"), Record(at_ms, LARGE), Record(at_ms, b"behind"), Record(at_ms, LARGE))
    service = start(topic, **relay_to(target, dead_letters, DELIVERY=delivery))
    said = service.wait_for_event("cannot_forward")
    assert (said["level"], said["topic"], said["partition"], said["offset"]) == ("error", topic.name, 0, 1)
    assert dead_letters.name in said["message"]
    service.wait_until(lambda: service.partitions()[0]["state"] == "blocked")
    topic.produce(*(Record(now_ms(), b"other", partition=1) for _ in range(10)))
    wait_until(lambda: committed(topic)[1] == 10, what="the other partition")
    assert committed(topic)[0] in (0, 1), "a run of records is committed as a whole"
    assert service.metric("dead_lettered_total") == 0
    take_messages_of(dead_letters, 1_000_000)
    wait_for_commit(service, topic, {0: 4, 1: 10})
    assert [message.value() for message in read_all(dead_letters, 2)] == [LARGE, LARGE]
    assert service.metric("dead_lettered_total") == 2
    assert service.partitions()[0]["state"] != "blocked"
    assert len(read_all(target, 13, idle_seconds=1)) == 12


def test_what_blocks_is_not_lost_by_a_restart(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap)
    target, dead_letters = (create_topic(kafka.bootstrap, config=SMALL_TARGET) for _ in range(2))
    topic.produce(Record(now_ms(), LARGE), Record(now_ms(), b"behind"))
    service = start(topic, **relay_to(target, dead_letters, SHUTDOWN_GRACE_SECONDS=1))
    service.wait_for_event("cannot_forward")
    assert service.stop() < 10
    assert committed(topic)[0] in (None, 0)
    take_messages_of(dead_letters, 1_000_000)
    again = start(topic, **relay_to(target, dead_letters))
    wait_for_commit(again, topic, {0: 2})
    assert [message.value() for message in read_all(dead_letters, 1)] == [LARGE]


@pytest.mark.parametrize("delivery", ["at-least-once", "exactly-once"])
def test_a_dead_letter_topic_deleted_while_running_blocks_until_it_is_there_again(
    kafka: Kafka, start: ServiceStarter, delivery: str
) -> None:
    topic, target = create_topic(kafka.bootstrap), create_topic(kafka.bootstrap, config=SMALL_TARGET)
    dead_letters = create_topic(kafka.bootstrap)
    topic.produce(Record(now_ms(), LARGE))
    service = start(topic, **relay_to(target, dead_letters, DELIVERY=delivery))
    wait_for_commit(service, topic, {0: 1})
    dead_letters.delete()
    topic.produce(Record(now_ms(), b"lost?" + LARGE))
    service.wait_for_event("cannot_forward", 60)
    assert committed(topic) == {0: 1}
    again = create_topic(kafka.bootstrap, name=dead_letters.name)
    service.wait_until(lambda: committed(topic) == {0: 2}, 90, "the dead letter")
    assert [message.value() for message in read_all(again, 1)] == [b"lost?" + LARGE]


def test_a_dead_letter_topic_that_does_not_exist_is_a_bad_setting(kafka: Kafka, start: ServiceStarter) -> None:
    topic, missing = create_topic(kafka.bootstrap), unique("missing")
    service = start(topic, ON_FAILURE="dead-letter", DEAD_LETTER_TOPIC=missing)
    assert service.wait_for_exit() == 78
    [reason] = service.events("failed")
    assert f"DEAD_LETTER_TOPIC: the topic {missing} does not exist" in reason["message"]


def test_what_is_skipped_is_counted_and_logged(kafka: Kafka, start: ServiceStarter) -> None:
    topic, target = create_topic(kafka.bootstrap), create_topic(kafka.bootstrap, config=SMALL_TARGET)
    at_ms = now_ms()
    topic.produce(Record(at_ms, b"before"), Record(at_ms, LARGE), Record(at_ms, b"behind"))
    skip = {"ON_FAILURE": "skip", "COMMIT_INTERVAL_SECONDS": 0.2}
    service = start(topic, DELAY_SECONDS=1, SINK="topic", SINK_TOPIC=target.name, **skip)
    wait_for_commit(service, topic, {0: 3})
    [skipped] = service.events("skipped")
    assert (skipped["level"], skipped["offset"]) == ("warning", 1)
    assert [service.metric(f"{name}_total") for name in ("delivered", "failed", "skipped")] == [2, 1, 1]
    assert [message.value() for message in read_all(target, 2)] == [b"before", b"behind"]


def test_a_timestamp_far_ahead_is_dead_lettered_at_once_and_holds_nothing_up(
    kafka: Kafka, start: ServiceStarter
) -> None:
    topic, dead_letters = create_topic(kafka.bootstrap, config=any_timestamp()), create_topic(kafka.bootstrap)
    at_ms = now_ms()
    far_ms = [YEAR_3000_MS, 2**63 - 1, 2**63 - 1 - 900_000, at_ms + 90_000_000]
    ahead = [Record(far, b"far-%d" % number, b"key", [("h", b"1")]) for number, far in enumerate(far_ms)]
    near = [Record(at_ms + number, b"near-%d" % number) for number in range(4)]
    topic.produce(near[0], ahead[0], ahead[1], near[1], near[2], ahead[2], ahead[3], near[3])
    settings = {"ON_FUTURE_TIMESTAMP": "dead-letter", "DEAD_LETTER_TOPIC": dead_letters.name}
    service = start(topic, DELAY_SECONDS=2, COMMIT_INTERVAL_SECONDS=0.2, **settings)
    service.wait_for_records(4)
    assert [record["offset"] for record in service.records] == [0, 3, 4, 7]
    assert all(record["due_ms"] < at_ms + 60_000 for record in service.records)
    arrived = read_all(dead_letters, 4)
    assert [own(message) for message in arrived] == [content(record) for record in ahead]
    assert [int(ours(message)["timestamp"]) for message in arrived] == far_ms
    assert [int(ours(message)["offset"]) for message in arrived] == [1, 2, 5, 6]
    assert {ours(message)["attempts"] for message in arrived} == {b"0"}
    wait_for_commit(service, topic, {0: 8})
    assert service.metric("future_timestamps_total") == 4
    assert service.metric("dead_lettered_total") == 4
    assert service.metric("delivered_total") == 4
