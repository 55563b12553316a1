"""What the client reports becomes ours, and what a promise depends on cannot be configured away."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from delayed_consumer.errors import AuthError, FencedError, ServiceError
from delayed_consumer.source import consumer_properties, offsets_of
from tests.loop.clock import START_MS
from tests.loop.world import World
from tests.sinks.making import message


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (KafkaError.FENCED_INSTANCE_ID, FencedError),
        (KafkaError.UNRELEASED_INSTANCE_ID, FencedError),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, AuthError),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, AuthError),
        (KafkaError.SASL_AUTHENTICATION_FAILED, AuthError),
    ],
)
def test_what_the_client_does_not_get_over_ends_the_service(world: World, code: int, error: type[ServiceError]) -> None:
    world.kafka.create("orders", 1)
    world.start()
    world.run_for(1_000)
    world.client.meets_error(code)
    with pytest.raises(error):
        world.run_for(1_000)


def test_what_the_client_gets_over_is_logged_once_a_minute(world: World) -> None:
    orders, *_ = world.kafka.create("orders", 1)
    world.start()
    for at_ms in range(0, 30_000, 1_000):
        world.clock.after(at_ms, lambda: world.client.meets_error(KafkaError._ALL_BROKERS_DOWN))
    world.run_for(30_000)
    assert len(world.log.of("client_error")) == 1
    world.kafka.produce(orders, START_MS - 900_000)
    world.run_for(1_000)
    assert world.offsets(orders) == [0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("enable.auto.commit", True),  # of what is stored
        ("enable.auto.offset.store", False),
        ("auto.offset.reset", "error"),
        ("enable.partition.eof", True),
        ("isolation.level", "read_committed"),
        ("auto.commit.interval.ms", 250),
    ],
)
def test_what_a_promise_depends_on_cannot_be_configured_away(name: str, value: object) -> None:
    properties = consumer_properties(
        {name: "something else", "fetch.wait.max.ms": 7},
        group_id="group",
        group_instance_id=None,
        commit_interval_seconds=0.25,
        hold_max_bytes=1_000_000,
    )
    assert properties[name] == value
    assert properties["fetch.wait.max.ms"] == 7, "the rest is the user's"


@pytest.mark.parametrize("offsets", [[5], [5, 6, 7], [5, 7], [5, 6, 8, 9], [5, 7, 8, 9]])
def test_offsets_are_those_of_the_records_with_and_without_gaps(offsets: list[int]) -> None:
    assert list(offsets_of([message(offset=offset) for offset in offsets])) == offsets


@pytest.mark.parametrize("hold_max_bytes", [65_536, 1_000_000, 64_000_000])
def test_what_the_client_prefetches_is_small_beside_the_hold(hold_max_bytes: int) -> None:
    """A pause throws it away, and it is memory too."""
    properties = consumer_properties(
        {}, group_id="group", group_instance_id=None, commit_interval_seconds=5, hold_max_bytes=hold_max_bytes
    )
    assert int(properties["queued.max.messages.kbytes"]) * 1024 <= max(65_536, hold_max_bytes / 8)
    assert int(properties["fetch.message.max.bytes"]) <= max(16_384, hold_max_bytes / 8)
