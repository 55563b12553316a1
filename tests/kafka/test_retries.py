"""RETRY_DELAYS_SECONDS: what fails is tried again later, by way of topics of the service's own, and blocks nothing."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message
from confluent_kafka.admin import ConfigResource  # type: ignore[attr-defined]  # it is public, but not marked so

from tests.conftest import Kafka, ServiceStarter
from tests.kafka.test_delivery import content, mixed_payloads
from tests.support.calls import Call, Handled
from tests.support.service import COMMAND, ServiceProcess
from tests.support.settings import SHORT_SESSION
from tests.support.topics import Record, Topic, admin, committed, create_topic, now_ms, read_all
from tests.support.wait import wait_until

DAY_MS = 86_400_000
ADDED_HEADERS = 6


@pytest.fixture
def handled(tmp_path: Path) -> Handled:
    return Handled(tmp_path)


def retrying(handled: Handled, handler: str = "obey", **settings: object) -> dict[str, object]:
    return {
        "DELAY_SECONDS": 1,
        "RETRY_DELAYS_SECONDS": "1,1.5",
        "MAX_ATTEMPTS": 2,
        "COMMIT_INTERVAL_SECONDS": 0.2,
        **handled.by(handler),
        **settings,
    }


def commands(*values: str, partition: int = 0) -> list[Record]:
    """Records that say what their handler does; due a second ago."""
    at_ms = now_ms() - 2000
    return [Record(at_ms, value.encode(), b"key", partition=partition) for value in values]


def retry_topic(topic: Topic, stage: int) -> Topic:
    """The services of these tests have the group of their topic's name."""
    return Topic(topic.bootstrap, f"{topic.name}.retry.{stage}", topic.partitions)


def attempts(handled: Handled, value: bytes) -> list[Call]:
    return handled.calls(lambda call: call.record.value == value)


def added(message: Message) -> dict[str, bytes]:
    headers: Any = message.headers() or []
    return {name.removeprefix("delayed-consumer."): value for name, value in headers[-ADDED_HEADERS:]}


def counted(service: ServiceProcess) -> dict[str, float]:
    names = ("delivered", "failed", "retried", "dead_lettered", "skipped")
    return {name: service.metric(f"{name}_total") for name in names}


def has_partitions(service: ServiceProcess, least: int) -> bool:
    return len(service.status().get("partitions", [])) >= least


def has_handled(handled: Handled, count: int) -> bool:
    return len(handled.returned()) == count


def has_committed(topic: Topic, group: str, offset: int) -> bool:
    """In partition 1."""
    return committed(topic, group)[1] == offset


def settings_of(topic: Topic) -> dict[str, str]:
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic.name)
    client = admin(topic.bootstrap)
    return {name: str(entry.value) for name, entry in client.describe_configs([resource])[resource].result(20).items()}


def test_a_record_that_fails_is_tried_again_after_each_delay_and_blocks_nothing(
    kafka: Kafka, start: ServiceStarter, handled: Handled
) -> None:
    topic = create_topic(kafka.bootstrap, partitions=2)
    topic.produce(*commands("fail 2", "at once", "fail 5", "at last", partition=1))
    service = start(topic, **retrying(handled))
    service.wait_until(lambda: len(handled.returned()) == 4)
    assert [call.record.value for call in handled.returned()] == [b"at once", b"at last", b"fail 2", b"fail 5"]
    for offset, value, last_attempt in [(0, b"fail 2", 3), (2, b"fail 5", 6)]:
        tried = attempts(handled, value)
        assert [call.record.attempt for call in tried] == list(range(1, last_attempt + 1))
        origin = (topic.name, 1, offset, topic.records[1, offset].timestamp_ms)
        assert {call.record[:4] for call in tried} == {origin}
        assert {(call.record.key, tuple(call.record.headers)) for call in tried} == {(b"key", ())}
        for before, call in zip(tried[1::2], tried[2::2], strict=False):
            delay_ms = 1000 if call.record.attempt == 3 else 1500
            assert before.ended_ms - 1 + delay_ms <= call.record.due_ms <= call.begun_ms
    service.wait_until(lambda: committed(topic) == {0: 0, 1: 4})
    for stage, waited_for in [(1, 2), (2, 1)]:
        service.wait_until(partial(has_committed, retry_topic(topic, stage), topic.name, waited_for))
    assert counted(service) == {"delivered": 4, "failed": 3, "retried": 3, "dead_lettered": 0, "skipped": 0}
    assert service.stop() < 10


def test_a_record_whose_retries_are_used_up_is_a_dead_letter_with_its_origin(
    kafka: Kafka, start: ServiceStarter, handled: Handled
) -> None:
    topic, dead_letters = create_topic(kafka.bootstrap, partitions=3), create_topic(kafka.bootstrap)
    topic.produce(*commands("fail 99", partition=2), *commands("raise MessageError", partition=1))
    policy = {"ON_FAILURE": "dead-letter", "DEAD_LETTER_TOPIC": dead_letters.name}
    service = start(topic, **retrying(handled, **policy))
    at_once, at_last = read_all(dead_letters, 2)
    assert (at_once.value(), added(at_once)["attempts"]) == (b"raise MessageError", b"1"), "never retried"
    assert at_last.value() == b"fail 99"
    assert added(at_last) == {
        "topic": topic.name.encode(),
        "partition": b"2",
        "offset": b"0",
        "timestamp": b"%d" % topic.records[2, 0].timestamp_ms,
        "error": b"RuntimeError: attempt 6 was to fail",
        "attempts": b"6",
    }
    assert len(at_last.headers() or []) == ADDED_HEADERS, "those of the retries do not pile up"
    service.wait_until(lambda: counted(service)["dead_lettered"] == 2)
    assert counted(service) == {"delivered": 0, "failed": 4, "retried": 2, "dead_lettered": 2, "skipped": 0}


def test_what_is_retried_is_the_same_record_byte_for_byte(
    kafka: Kafka, start: ServiceStarter, handled: Handled
) -> None:
    """Tombstones, null keys, 1,000 headers, names that occur twice, bytes that decode as nothing, 5 MB."""
    topic = create_topic(kafka.bootstrap, config={"max.message.bytes": "6000000"})
    records = [*mixed_payloads(now_ms()), Record(now_ms(), b"\xf0" * 5_000_000)]
    topic.produce(*records, message_max_bytes=6_000_000)
    service = start(topic, **retrying(handled, "refuse_at_first", MAX_ATTEMPTS=1, RETRY_DELAYS_SECONDS=2))
    retried = read_all(retry_topic(topic, 1), len(records))
    found = [(one.key(), one.value(), list(one.headers() or [])[:-ADDED_HEADERS]) for one in retried]
    assert found == [content(record) for record in records]
    service.wait_until(lambda: len(handled.returned()) == len(records))
    again = [call.record for call in handled.returned()]
    assert [(one.key, one.value, one.headers) for one in again] == [content(record) for record in records]
    assert [one.offset for one in again] == list(range(len(records)))
    assert {one.attempt for one in again} == {2}


def test_retry_topics_are_made_to_fit_the_sources_by_whichever_instance_comes_first(
    kafka: Kafka, start: ServiceStarter, handled: Handled
) -> None:
    topic = create_topic(kafka.bootstrap, partitions=3, config={"max.message.bytes": "3000000"})
    weeks = 20 * DAY_MS // 1000
    instances = [start(topic, **retrying(handled, RETRY_DELAYS_SECONDS=f"1,{weeks}")) for _ in range(3)]
    for service in instances:
        service.wait_until(partial(has_partitions, service, 1))
    partitions = {name: len(one.partitions) for name, one in admin(kafka.bootstrap).list_topics().topics.items()}
    soon, late = retry_topic(topic, 1), retry_topic(topic, 2)
    assert [partitions[one.name] for one in (soon, late)] == [3, 3]
    assert [settings_of(one)["retention.ms"] for one in (soon, late)] == [str(7 * DAY_MS), str(41 * DAY_MS)]
    assert {settings_of(one)["cleanup.policy"] for one in (soon, late)} == {"delete"}
    assert int(settings_of(soon)["max.message.bytes"]) > 3_000_000
    assert 1 <= sum(len(service.events("topic_created")) for service in instances) <= 6
    topic.produce(*(one for number in range(3) for one in commands("fail 2", partition=number)))
    wait_until(lambda: len(handled.returned()) == 3)


def test_an_expression_that_matches_the_retry_topics_too_reads_each_record_once(
    kafka: Kafka, start: ServiceStarter, handled: Handled
) -> None:
    topic = create_topic(kafka.bootstrap)
    topic.produce(*commands("fail 3", "at once"))
    for number in (1, 2):  # the second time they are there already
        service = start(topic, **retrying(handled, KAFKA_TOPICS=f"^{topic.name}", START_FROM="latest"))
        service.wait_until(partial(has_partitions, service, 3))
        topic.produce(*commands("fail 2"))
        wait_until(partial(has_handled, handled, number))
        assert service.stop() < 10
    assert [call.record.attempt for call in attempts(handled, b"fail 2")] == [1, 2, 3, 1, 2, 3]


def test_a_retry_that_waits_survives_a_kill_and_lag_counts_it(
    kafka: Kafka, start: ServiceStarter, handled: Handled
) -> None:
    topic = create_topic(kafka.bootstrap)
    topic.produce(*commands("fail 2"))
    settings = retrying(handled, RETRY_DELAYS_SECONDS=6, COMMIT_INTERVAL_SECONDS=0.1) | SHORT_SESSION
    service = start(topic, **settings)
    service.wait_until(lambda: committed(topic) == {0: 1})
    service.kill()
    environment = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "KAFKA_TOPICS": topic.name, "KAFKA_GROUP_ID": topic.name}
    lag = subprocess.run(
        [*COMMAND, "lag", "--json"],
        env={"PATH": "", **environment, "RETRY_DELAYS_SECONDS": "60"},
        capture_output=True,
        check=True,
    )
    counts = {one["topic"]: one["waiting"] for one in json.loads(lag.stdout)["partitions"]}
    assert counts == {topic.name: 0, retry_topic(topic, 1).name: 1}
    again = start(topic, **settings)
    again.wait_until(lambda: handled.returned())
    assert [call.record.attempt for call in handled.calls()] == [1, 2, 3]
    assert attempts(handled, b"fail 2")[-1].begun_ms >= attempts(handled, b"fail 2")[1].ended_ms + 6000 - 1


def test_a_retry_topic_that_deletes_records_before_they_are_due_is_warned_about(
    kafka: Kafka, start: ServiceStarter, handled: Handled
) -> None:
    topic = create_topic(kafka.bootstrap)
    create_topic(kafka.bootstrap, name=retry_topic(topic, 1).name, config={"retention.ms": "60000"})
    service = start(topic, **retrying(handled, RETRY_DELAYS_SECONDS=600))
    warning = service.wait_for_event("short_retention")
    assert (warning["retention_ms"], warning["delay_ms"]) == (60_000, 600_000)
    assert retry_topic(topic, 1).name in warning["message"]


def test_a_retry_topic_that_is_not_read_any_more_is_warned_about(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap)
    for stage in (1, 2):
        create_topic(kafka.bootstrap, name=retry_topic(topic, stage).name)
    service = start(topic, RETRY_DELAYS_SECONDS=60)
    service.wait_for_event("assigned")
    [warning] = service.events("setting_warning")
    assert warning["message"].startswith(f"{retry_topic(topic, 2).name} is a retry topic of this group")


def test_with_stop_the_service_ends_at_the_record_and_commits_what_was_before_it(
    kafka: Kafka, start: ServiceStarter, handled: Handled
) -> None:
    topic = create_topic(kafka.bootstrap)
    topic.produce(*commands("at once", "at once", "raise MessageError", "never"))
    service = start(topic, **retrying(handled))
    assert service.wait_for_exit() == 1
    [reason] = service.events("failed")
    assert reason["message"] == f"{topic.name}[0] offset 2: MessageError: as the record said"
    assert committed(topic) == {0: 2}
    assert attempts(handled, b"never") == []
