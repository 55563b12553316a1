"""A broker refuses a batch as a whole: what of it is not to blame is delivered all the same, in order."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from tests.conftest import Kafka, ServiceStarter
from tests.kafka.test_exactly_once import Place, ends, places
from tests.support.topics import Record, Topic, committed, create_topic, now_ms

PARTITIONS = 2
SMALL, LARGE = b"s", b"l" * 5_000


def produce_due(topic: Topic, count: int, large: Collection[int] = ()) -> None:
    """On all partitions in turn; ``large``: which of them are."""
    first_ms = now_ms() - 60_000
    values = (LARGE if number in large else SMALL for number in range(count))
    topic.produce(
        *(Record(first_ms + number, value, partition=number % PARTITIONS) for number, value in enumerate(values))
    )


def produce_keyed(topic: Topic, count: int, keyless: Collection[int] = ()) -> None:
    """Likewise; ``keyless``: which of them have no key."""
    first_ms = now_ms() - 60_000
    keys = (None if number in keyless else b"%d" % number for number in range(count))
    topic.produce(
        *(Record(first_ms + number, key=key, partition=number % PARTITIONS) for number, key in enumerate(keys))
    )


def places_of(topic: Topic, value: bytes) -> list[Place]:
    return sorted(place for place, record in topic.records.items() if record.value == value)


def assert_each_once(relayed: list[Place], expected: list[Place], *, in_order: bool) -> None:
    """``in_order``: those of a partition. At-most-once gives that up where a batch is refused, or it might repeat."""
    assert sorted(relayed) == expected
    if in_order:
        assert sorted(relayed, key=lambda place: place[0]) == expected


@pytest.mark.parametrize("on_failure", ["skip", "dead-letter"])
@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once", "exactly-once"])
def test_only_what_is_too_large_is_given_up_when_the_limit_is_lowered(
    kafka: Kafka, start: ServiceStarter, delivery: str, on_failure: str
) -> None:
    topic, target, dead = (create_topic(kafka.bootstrap, PARTITIONS) for _ in range(3))
    failing = {"ON_FAILURE": on_failure, "DEAD_LETTER_TOPIC": dead.name}
    service = start(topic, DELAY_SECONDS=1, SINK="topic", SINK_TOPIC=target.name, DELIVERY=delivery, **failing)
    produce_due(topic, 100)
    service.wait_until(lambda: service.metric("delivered_total") == 100)
    target.set_config("max.message.bytes", "2000")
    produce_due(topic, 1_000, large=range(400, 1_000, 61))
    large, small = places_of(topic, LARGE), places_of(topic, SMALL)
    given_up = "skipped_total" if on_failure == "skip" else "dead_lettered_total"
    service.wait_until(lambda: committed(topic) == ends(topic) and service.metric(given_up) >= len(large))
    relayed = places(target, len(small))
    assert_each_once(relayed, small, in_order=delivery != "at-most-once")
    assert service.metric(given_up) == len(large)
    assert sorted(places(dead, len(large), 1)) == (large if on_failure == "dead-letter" else [])
    assert service.events("batch_refused")


@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once", "exactly-once"])
def test_only_records_without_a_key_are_given_up_where_the_target_is_compacted(
    kafka: Kafka, start: ServiceStarter, delivery: str
) -> None:
    topic, dead = (create_topic(kafka.bootstrap, PARTITIONS) for _ in range(2))
    target = create_topic(kafka.bootstrap, 1)  # the order holds in a partition of it
    target.set_config("cleanup.policy", "compact")
    failing = {"ON_FAILURE": "dead-letter", "DEAD_LETTER_TOPIC": dead.name}
    service = start(topic, DELAY_SECONDS=1, SINK="topic", SINK_TOPIC=target.name, DELIVERY=delivery, **failing)
    produce_keyed(topic, 100)
    service.wait_until(lambda: service.metric("delivered_total") == 100)
    produce_keyed(topic, 1_000, keyless=range(400, 1_000, 61))
    keyed = sorted(place for place, record in topic.records.items() if record.key is not None)
    keyless = sorted(topic.records.keys() - keyed)
    service.wait_until(lambda: committed(topic) == ends(topic), what="commits of all")
    relayed = places(target, len(keyed))
    assert_each_once(relayed, keyed, in_order=delivery != "at-most-once")
    assert sorted(places(dead, len(keyless), 1)) == keyless
