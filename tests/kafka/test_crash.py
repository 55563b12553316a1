"""A crash repeats what was not committed and loses nothing; a clean stop does neither."""

from __future__ import annotations

import random
import signal

import pytest

from tests.conftest import Kafka, ServiceStarter
from tests.support.service import ServiceProcess, assert_all_delivered
from tests.support.settings import SHORT_SESSION
from tests.support.topics import Record, Topic, committed, create_topic, now_ms, read_all
from tests.support.wait import wait_until

PARTITIONS = 4
DELAY_SECONDS = 1.5


def steady_topic(kafka: Kafka, count: int) -> Topic:
    """One record every 5 ms from now on."""
    topic = create_topic(kafka.bootstrap, PARTITIONS)
    first_ms = now_ms()
    topic.produce(*(Record(first_ms + 5 * number, partition=number % PARTITIONS) for number in range(count)))
    return topic


def delivered_and_uncommitted(service: ServiceProcess, commits: dict[int, int | None]) -> int:
    """What a crash of the service at this moment repeats."""
    return sum(
        offset >= (committed_offset or 0)
        for number, committed_offset in commits.items()
        for offset in service.offsets(number)
    )


@pytest.mark.parametrize("settings", [{"COMMIT_INTERVAL_SECONDS": 1}, {"COMMIT_EVERY_RECORDS": 1}])
def test_sigkill_loses_nothing_and_repeats_only_what_was_not_committed(
    kafka: Kafka, start: ServiceStarter, dice: random.Random, settings: dict[str, object]
) -> None:
    topic = steady_topic(kafka, 1600)
    lives: list[ServiceProcess] = []
    repeats = 0
    for _ in range(3):
        commits = committed(topic)
        service = start(topic, DELAY_SECONDS=DELAY_SECONDS, **SHORT_SESSION, **settings)
        lives.append(service)
        service.wait_for_records(dice.randint(50, 350))
        service.signal(signal.SIGKILL)
        service.wait_for_exit()
        assert_continues_at(service, commits)
        repeats += delivered_and_uncommitted(service, committed(topic))
    assert repeats, "no fault landed while work was in flight"
    last = start(topic, DELAY_SECONDS=DELAY_SECONDS, **SHORT_SESSION, **settings)
    wait_until(lambda: seen(*lives, last) >= topic.records.keys())
    assert_all_delivered(topic, DELAY_SECONDS, *lives, last, duplicates_at_most=repeats)


def assert_continues_at(service: ServiceProcess, commits: dict[int, int | None]) -> None:
    firsts = {number: service.offsets(number)[:1] for number in commits}
    assert {number: first[0] for number, first in firsts.items() if first} == {
        number: offset or 0 for number, offset in commits.items() if firsts[number]
    }


def seen(*services: ServiceProcess) -> set[tuple[int, int]]:
    return {(record["partition"], record["offset"]) for service in services for record in service.records}


def test_a_clean_stop_during_delivery_repeats_nothing(kafka: Kafka, start: ServiceStarter, dice: random.Random) -> None:
    topic = steady_topic(kafka, 1200)
    lives: list[ServiceProcess] = []
    for _ in range(3):
        service = start(topic, DELAY_SECONDS=DELAY_SECONDS)
        lives.append(service)
        service.wait_for_records(dice.randint(50, 250))
        service.stop()
        next_offsets = {number: service.offsets(number)[-1] + 1 for number in range(PARTITIONS)}
        assert committed(topic) == next_offsets
    last = start(topic, DELAY_SECONDS=DELAY_SECONDS)
    wait_until(lambda: seen(*lives, last) >= topic.records.keys())
    assert_all_delivered(topic, DELAY_SECONDS, *lives, last)


def test_a_clean_stop_while_relaying_a_backlog_repeats_nothing(
    kafka: Kafka, start: ServiceStarter, dice: random.Random
) -> None:
    topic, target = create_topic(kafka.bootstrap), create_topic(kafka.bootstrap)
    count = 150_000
    old_ms = now_ms() - 60_000
    topic.produce(*(Record(old_ms, value=b"%d" % number) for number in range(count)))
    relay = {"DELAY_SECONDS": 1, "SINK": "topic", "SINK_TOPIC": target.name}
    first = start(topic, **relay)
    enough = dice.randint(2_000, 15_000)
    first.wait_until(lambda: first.metric("delivered_total") >= enough)
    first.stop()
    done = committed(topic)[0]
    assert done is not None
    assert done < count, "it was over before the stop"
    second = start(topic, **relay)
    second.wait_until(lambda: second.metric("delivered_total") >= count - done)
    second.stop()
    relayed = [message.value() for message in read_all(target, count + 1, idle_seconds=2)]
    assert relayed == [b"%d" % number for number in range(count)]
