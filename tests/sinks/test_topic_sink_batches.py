"""What the relay does about a batch that a broker refused: one inside the process, that refuses what it is told to."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from delayed_consumer.assembly import SINKS, Surroundings
from delayed_consumer.clock import SystemClock
from delayed_consumer.core.records import Run
from delayed_consumer.events import Events
from delayed_consumer.metrics import Metrics
from delayed_consumer.origin import Origins
from delayed_consumer.settings import Settings
from delayed_consumer.sinks import Outcome, batches, topic
from delayed_consumer.sinks.relaying import Relaying
from delayed_consumer.sinks.topic import TopicSink, producer_properties
from delayed_consumer.status import StatusBoard
from tests.sinks.handling import Taking
from tests.sinks.making import ORDERS, Into, ended, message, results, run_of
from tests.support.faulty_cluster import PRODUCE, FaultyCluster
from tests.support.wait import wait_until

TAKEN, TOO_LARGE = KafkaError.NO_ERROR, KafkaError.MSG_SIZE_TOO_LARGE


class World:
    """A relay that sends one request at a time, so that the broker's answers can be told beforehand; the events it
    causes; and who reads what it writes."""

    def __init__(
        self, cluster: FaultyCluster, requests_in_flight: int = 1, batch_bytes: int = 2_000, *, gapless: bool = True
    ) -> None:
        self.cluster = cluster
        self._client = {"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0}
        how = {"max.in.flight.requests.per.connection": requests_in_flight, "batch.size": batch_bytes}
        self.fallback = Taking()
        self.fallback.at_once = True
        self.said: list[logging.LogRecord] = []
        logger = logging.Logger("service")
        logger.addHandler(Into(self.said))
        self.sink = TopicSink(
            producer_properties({**self._client, **how}, None),
            Relaying("relay", 8, "delivery", Origins()),
            self.fallback,
            SystemClock(),
            Events(logger, Metrics(StatusBoard(), lambda _: 0, {})),
            logging.getLogger("client"),
            gapless=gapless,
        )

    def refuse(self, *answers: int) -> None:
        """To the requests that come next, one each."""
        self.cluster.refuse(PRODUCE, *answers)

    def deliver(self, first: int, count: int) -> Run:
        """Records that are their own numbers."""
        run = run_of(*(message(b"%d" % number) for number in range(first, first + count)), first_offset=first)
        self.sink.deliver(run, 0.0)
        return run

    def end(self, runs: int = 1) -> list[Outcome]:
        return ended(self.sink, lambda outcomes: len(outcomes) >= runs)

    @property
    def blamed(self) -> list[int]:
        return [offset for offset, _ in self.fallback.taken]

    def arrived(self) -> list[int]:
        """What there is of the partition now."""
        reader = Consumer({**self._client, "group.id": "reader", "enable.partition.eof": True})
        reader.assign([TopicPartition("relay", ORDERS.number, 0)])
        values = []
        while (one := reader.poll(10)) is not None and one.error() is None:
            values.append(int(one.value() or b""))
        reader.close()
        return values


@pytest.fixture
def world() -> Iterator[World]:
    with FaultyCluster() as cluster:
        cluster.create_topic("relay", 8)
        one = World(cluster)
        yield one
        one.sink.close()


def test_no_record_of_a_refused_batch_is_to_blame_unless_it_is_refused_alone(world: World) -> None:
    world.refuse(TOO_LARGE, TAKEN, TOO_LARGE)
    world.deliver(0, 4)
    [outcome] = world.end()
    assert (outcome.done, outcome.failure, list(outcome.diverted)) == (4, None, [1])
    assert world.blamed == [1]
    assert world.arrived() == [0, 2, 3]
    assert [getattr(one, "event", "") for one in world.said] == ["batch_refused"]


@pytest.mark.parametrize("code", [KafkaError.INVALID_RECORD, KafkaError._INVALID_DIFFERENT_RECORD])
def test_so_it_is_whatever_a_broker_has_against_a_batch(world: World, code: int) -> None:
    world.refuse(code)
    world.deliver(0, 4)
    assert results(world.end()) == [(4, None)]
    assert world.blamed == []


def test_the_service_stops_at_the_record_that_is_to_blame_and_at_no_other(world: World) -> None:
    world.fallback.stops = True
    world.refuse(TOO_LARGE, TAKEN, TAKEN, TOO_LARGE)
    world.deliver(0, 4)
    assert results(world.end()) == [(2, "Broker: Message size too large")]


def test_nothing_overtakes_what_was_refused_with_its_batch(world: World) -> None:
    world.refuse(TAKEN, TOO_LARGE)
    for number in range(5):
        world.deliver(100 * number, 100)
    assert results(world.end(5)) == [(100, None)] * 5
    assert world.arrived() == list(range(500))
    assert world.blamed == []


def test_what_was_on_its_way_behind_a_refused_batch_goes_again_too(world: World) -> None:
    """The client keeps it without a word: it cannot go on."""
    # librdkafka has a second batch of a partition on its way only where the first one has less than five records.
    two = World(world.cluster, requests_in_flight=2, batch_bytes=1)
    two.cluster.refuse_late(PRODUCE, (TOO_LARGE, 50), (KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, 300))
    two.deliver(0, 2)  # this cluster would take a third one: it does not look at their numbers
    assert results(two.end()) == [(2, None)]
    assert two.blamed == []
    assert two.arrived() == [0, 1]
    two.sink.close()


def deliver_until_one_is_not_taken(world: World) -> list[Run]:
    """By the client, which has failed, without being asked for its reports."""
    world.refuse(TOO_LARGE)
    delivered = [world.deliver(0, 2)]

    def look() -> bool:
        delivered.append(world.deliver(delivered[-1].next_offset, 1))
        return world.sink._halted

    wait_until(look, 10, "a record that is not taken")
    return delivered


def test_what_comes_while_the_client_has_failed_waits_for_another_one(world: World) -> None:
    """It may have failed before we hear of it."""
    delivered = deliver_until_one_is_not_taken(world)
    assert all(failure is None for _, failure in results(world.end(len(delivered))))
    assert world.blamed == []
    assert world.arrived() == list(range(delivered[-1].next_offset))


def test_after_enough_records_that_went_alone_there_are_batches_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "ALONE_RECORDS", 3)
    world.refuse(TOO_LARGE)
    world.deliver(0, 10)
    world.end()
    world.refuse(TOO_LARGE)
    world.deliver(10, 2)
    assert results(world.end()) == [(2, None)]
    assert world.blamed == [], "it had company when it was refused"
    assert world.arrived() == list(range(12))


def test_what_was_refused_with_its_batch_goes_no_more_when_its_partition_is_lost(world: World) -> None:
    world.deliver(0, 1)
    world.end()
    world.refuse(TOO_LARGE)
    run = world.deliver(1, 4)
    later = world.deliver(5, 1)
    wait_until(lambda: world.sink.outcomes() == [] and world.sink._halted, 10, "a refusal")
    assert world.sink.forget([ORDERS]) == []
    outcomes = world.end(2)
    assert [(one.run, one.done) for one in outcomes] == [(run, 0), (later, 0)]
    assert world.arrived() == [0]


class Probe:
    def topics(self, names: list[str]) -> dict[str, int]:
        return dict.fromkeys(names, 8)

    def max_message_bytes(self, topic: str) -> int:
        return 10_000


@pytest.mark.parametrize(("delivery", "gapless"), [("at-most-once", False), ("at-least-once", True)])
def test_at_most_once_sends_nothing_again_that_may_be_written(
    monkeypatch: pytest.MonkeyPatch, delivery: str, gapless: bool
) -> None:
    """A producer that fails for good gives back, as not sent, also what it was about to send once more."""
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(topic, "RelayProducer", lambda properties, _: made.append(properties))
    relay: dict[str, Any] = {"kafka_topics": ["orders"], "sink": "topic", "sink_topic": "relay", "delivery": delivery}
    settings = Settings({}, kafka_bootstrap_servers="127.0.0.1:1", **relay)
    around: Any = Surroundings(settings, Probe(), None, None, None)  # type: ignore[arg-type]
    SINKS["topic"](around)
    assert [one["enable.gapless.guarantee"] for one in made] == [gapless]


def test_without_the_guarantee_what_is_behind_a_refused_batch_goes_on_and_nothing_goes_twice(world: World) -> None:
    other = World(world.cluster, gapless=False)
    other.refuse(TAKEN, TOO_LARGE, TAKEN, TAKEN, TAKEN, TOO_LARGE)
    for number in range(5):
        other.deliver(100 * number, 100)
    assert all(failure is None for _, failure in results(other.end(5)))
    assert sorted(other.arrived() + other.blamed) == list(range(500))
    assert other.arrived() != sorted(other.arrived())
    other.sink.close()


def test_a_record_to_blame_is_found_however_far_behind_in_its_batch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "ALONE_RECORDS", 3)
    world.refuse(TOO_LARGE, *[TAKEN] * 7, TOO_LARGE)
    world.deliver(0, 10)
    assert results(world.end()) == [(10, None)]
    assert world.blamed == [7]
    assert world.arrived() == [0, 1, 2, 3, 4, 5, 6, 8, 9]


def test_while_an_answer_is_missing_other_records_go_on_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker may be away for hours."""
    monkeypatch.setattr(batches, "ALONE_RECORDS", 3)
    monkeypatch.setattr(topic, "AWAY_MS", 100.0)
    world.cluster.refuse_late(PRODUCE, (TOO_LARGE, 0), (TAKEN, 2_000))
    world.deliver(0, 3)
    wait_until(lambda: world.sink.outcomes() == [] and world.sink._batches.alone, 10, "a refusal")
    world.deliver(3, 9)
    wait_until(lambda: world.sink.outcomes() == [] and len(world.sink._producer) == 12, 1.5, "the others in the client")
    assert results(world.end(2)) == [(3, None), (9, None)]
    assert world.arrived() == list(range(12))


def test_at_a_stop_in_the_middle_nothing_counts_as_done(world: World) -> None:
    deliver_until_one_is_not_taken(world)
    world.sink.close()
    assert world.sink.outcomes() == []
    assert world.blamed == []


def test_that_the_client_calls_its_own_guarantee_experimental_is_kept_from_the_log(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    client, deprecated = {"bootstrap.servers": world.cluster.bootstrap_servers}, {"socket.blocking.max.ms": 10}
    sink = TopicSink(
        producer_properties({**client, **deprecated}, None),
        Relaying("relay", 8, "delivery", Origins()),
        world.fallback,
        SystemClock(),
        Events(logging.getLogger(), Metrics(StatusBoard(), lambda _: 0, {})),
        logging.getLogger("talking client"),
    )
    wait_until(lambda: sink.outcomes() == [] and "socket.blocking.max.ms is deprecated" in caplog.text, 10, "warnings")
    sink.close()
    assert "experimental" not in caplog.text
