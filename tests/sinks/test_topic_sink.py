"""The relay, between topics of a cluster inside the process."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from delayed_consumer.clock import SystemClock
from delayed_consumer.core.records import Partition
from delayed_consumer.embedded import EmbeddedCluster
from delayed_consumer.events import Events
from delayed_consumer.failures import Failure, Kind
from delayed_consumer.metrics import Metrics
from delayed_consumer.origin import Origin, Origins
from delayed_consumer.sinks.relaying import Relaying
from delayed_consumer.sinks.topic import TopicSink, producer_properties
from delayed_consumer.status import StatusBoard
from tests.sinks.handling import Taking
from tests.sinks.making import TIMESTAMP_MS, ended, message, results, run_of
from tests.support.wait import wait_until

DELIVERED_MS = TIMESTAMP_MS + 900_000.75
Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]


class Target:
    """A topic of a cluster inside the process, and who reads it from record to record."""

    def __init__(self) -> None:
        self._cluster = EmbeddedCluster()
        self.partitions = self._cluster.create_topic("relay")
        self.fallback = Taking()
        # All at once: a producer's first record waits half a second for its id.
        self.sink = self._sink()
        self.sink_of_sources = self._sink(timestamp="source")
        self.sink_of_small_records = self._sink(max_message_bytes=10_000)
        self._reader = Consumer(
            {"bootstrap.servers": self._cluster.bootstrap_servers, "group.id": "reader", "fetch.wait.max.ms": 10}
        )
        self._reader.assign([TopicPartition("relay", number, 0) for number in range(self.partitions)])

    def read(self, count: int) -> list[Message]:
        """The next records, in order within their partitions."""
        arrived: list[Message] = []

        def look() -> bool:
            arrived.extend(self._reader.consume(count - len(arrived), 0.01))
            return len(arrived) == count

        wait_until(look, 10, f"{count} records")
        return arrived

    def close(self) -> None:
        for sink in (self.sink, self.sink_of_sources, self.sink_of_small_records):
            sink.close()
        self._reader.close()

    def _sink(
        self, *, timestamp: Literal["delivery", "source"] = "delivery", max_message_bytes: int | None = None
    ) -> TopicSink:
        properties = producer_properties({"bootstrap.servers": self._cluster.bootstrap_servers}, max_message_bytes)
        return sink_of(properties, self.partitions, timestamp, self.fallback)


def sink_of(
    properties: Mapping[str, str | int | float | bool],
    partitions: int,
    timestamp: Literal["delivery", "source"],
    fallback: Taking,
) -> TopicSink:
    relaying = Relaying("relay", partitions, timestamp, Origins(["group.retry.1"]))
    events = Events(logging.getLogger("service"), Metrics(StatusBoard(), lambda _: 0, {}))
    return TopicSink(properties, relaying, fallback, SystemClock(), events, logging.getLogger("client"))


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """One for all tests, each of which reads what it relays: a client's first record takes a second."""
    one = Target()
    yield one
    one.close()


@pytest.fixture
def sink(target: Target) -> TopicSink:
    return target.sink


@pytest.fixture
def fallback(target: Target) -> Taking:
    """Who gets what the sinks of the target cannot deliver; the service stops at it unless a test says otherwise."""
    target.fallback.stops = True
    target.fallback.taken.clear()
    return target.fallback


def relay(target: Target, sink: TopicSink, messages: Sequence[Message], *, partition: int = 0) -> list[Message]:
    """What arrives of these messages, all of them acknowledged."""
    sink.deliver(run_of(*messages, partition=Partition("orders", partition)), DELIVERED_MS)
    assert results(ended(sink)) == [(len(messages), None)]
    return target.read(len(messages))


def content(one: Message) -> Record:
    """Key, value and headers, without those that the relay appends."""
    headers: Any = one.headers() or ()  # typed as a dict too; it is a list of pairs
    return one.key(), one.value(), [pair for pair in headers if not pair[0].startswith("delayed-consumer.")]


RECORDS: Mapping[str, Record] = {
    "plain": (b"key", b"value", []),
    "tombstone": (b"key", None, []),
    "empty value": (b"key", b"", []),
    "null key": (None, b"value", []),
    "empty key": (b"", b"value", []),
    "no text": (b"\x00\xff", b"\xfe\x80\x00", [("binary", b"\x00\xff")]),
    "duplicate headers": (b"key", b"value", [("same", b"1"), ("same", b"2"), ("other", None), ("same", b"")]),
    "1,000 headers": (b"key", b"value", [(f"header-{number}", b"%d" % number) for number in range(1_000)]),
}


def test_key_value_and_headers_arrive_byte_for_byte(target: Target, sink: TopicSink) -> None:
    arrived = relay(target, sink, [message(value, key, headers) for key, value, headers in RECORDS.values()])
    by_offset = {dict(one.headers() or ())["delayed-consumer.offset"]: content(one) for one in arrived}
    assert {name: by_offset[b"%d" % offset] for offset, name in enumerate(RECORDS)} == RECORDS


def test_a_relayed_record_says_where_it_comes_from(target: Target, sink: TopicSink) -> None:
    (arrived,) = relay(target, sink, [message(headers=[("own", b"1")])], partition=3)
    assert arrived.headers() == [
        ("own", b"1"),
        ("delayed-consumer.topic", b"orders"),
        ("delayed-consumer.partition", b"3"),
        ("delayed-consumer.offset", b"0"),
        ("delayed-consumer.timestamp", b"1795000000123"),
    ]


def test_records_of_a_partition_arrive_in_order(target: Target, sink: TopicSink) -> None:
    arrived = relay(target, sink, [message(b"%d" % number) for number in range(1_000)])
    assert [one.value() for one in arrived] == [b"%d" % number for number in range(1_000)]


def test_a_null_key_keeps_the_source_partition(target: Target, sink: TopicSink) -> None:
    for number in range(target.partitions):
        (arrived,) = relay(target, sink, [message()], partition=number)
        assert arrived.partition() == number


def test_a_null_key_goes_anywhere_where_the_target_lacks_the_source_partition(target: Target, sink: TopicSink) -> None:
    (arrived,) = relay(target, sink, [message()], partition=1_000)
    assert arrived.value() == b"v"


def test_the_same_key_goes_to_the_same_partition_from_wherever_it_comes(target: Target, sink: TopicSink) -> None:
    keys = [b"key-%d" % number for number in range(20)]
    places: dict[bytes | None, set[int | None]] = {}
    for source in range(3):
        for one in relay(target, sink, [message(key=key) for key in keys], partition=source):
            places.setdefault(one.key(), set()).add(one.partition())
    assert all(len(partitions) == 1 for partitions in places.values())
    assert len({number for partitions in places.values() for number in partitions}) > 1


def test_the_timestamp_is_that_of_the_delivery_or_the_source(target: Target) -> None:
    (arrived,) = relay(target, target.sink, [message()])
    assert arrived.timestamp()[1] == int(DELIVERED_MS)
    (arrived,) = relay(target, target.sink_of_sources, [message()])
    assert arrived.timestamp()[1] == TIMESTAMP_MS


def test_a_record_that_is_tried_again_has_the_origin_that_it_had_at_first(target: Target) -> None:
    first = Origin("orders", 1, 17, 1_700_000_000_456, [("own", b"1"), ("own", None)])
    retried = message(b"again", headers=first.after(Failure("no answer")), timestamp_ms=TIMESTAMP_MS)
    target.sink_of_sources.deliver(run_of(retried, partition=Partition("group.retry.1", 3)), DELIVERED_MS)
    assert results(ended(target.sink_of_sources)) == [(1, None)]
    [arrived] = target.read(1)
    assert arrived.headers() == [*first.headers, *first.as_headers()], "once, and not those of the retry"
    assert arrived.timestamp()[1] == first.timestamp_ms
    assert arrived.partition() == first.partition


def test_a_record_that_the_fallback_takes_is_done_when_that_says_so_and_the_others_are_relayed(
    target: Target, fallback: Taking
) -> None:
    sink = target.sink_of_small_records
    fallback.stops = False
    sink.deliver(run_of(message(b"a"), message(b"x" * 20_000), message(b"c"), first_offset=10), DELIVERED_MS)
    assert [one.value() for one in target.read(2)] == [b"a", b"c"]
    assert sink.outcomes() == []
    fallback.resolve(11)
    [outcome] = ended(sink)
    assert (outcome.done, outcome.failure, list(outcome.diverted)) == (3, None, [1])


def test_a_failure_is_told_after_what_is_before_it_has_ended(target: Target, fallback: Taking) -> None:
    sink = target.sink_of_small_records
    fallback.stops = False
    sink.deliver(run_of(message(b"x" * 20_000), first_offset=10), DELIVERED_MS)
    fallback.stops = True
    sink.deliver(run_of(message(b"y" * 20_000), first_offset=11), DELIVERED_MS)
    sink.deliver(run_of(message(b"z"), partition=Partition("orders", 0)), DELIVERED_MS)
    assert sink.outcomes() == []
    fallback.resolve(10)
    assert [(one.run.offsets[0], one.done, one.failure is None) for one in ended(sink)] == [
        (10, 1, True),
        (11, 0, False),
    ]
    assert results(ended(sink)) == [(1, None)]
    target.read(1)


def test_a_record_that_is_too_large_fails_with_its_place_and_those_before_it_are_done(
    target: Target, fallback: Taking
) -> None:
    sink = target.sink_of_small_records
    sink.deliver(run_of(message(), message(), message(b"x" * 20_000), message()), DELIVERED_MS)
    sink.deliver(run_of(message(b"behind"), first_offset=4), DELIVERED_MS)
    ((done, failure),) = results(ended(sink))
    assert (done, failure) == (2, "Unable to produce message: Broker: Message size too large")
    assert [one.value() for one in target.read(2)] == [b"v", b"v"]
    assert sink.outcomes() == [], "what is behind it waits"
    [(offset, failed)] = fallback.taken
    assert (offset, failed.kind, failed.attempts) == (2, Kind.MESSAGE, 1)


def test_a_record_is_done_when_it_is_acknowledged_and_not_before() -> None:
    nobody = producer_properties({"bootstrap.servers": "127.0.0.1:1", "log_level": 0}, None)
    fallback = Taking()
    sink = sink_of(nobody, 1, "delivery", fallback)
    sink.deliver(run_of(message()), DELIVERED_MS)
    assert sink.outcomes() == []
    sink.close()
    assert sink.outcomes() == [], "what is given up is not done"
    assert fallback.taken == [], "and has not failed"
