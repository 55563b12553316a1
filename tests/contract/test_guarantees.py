"""What each guarantee promises on any cluster, for records that are relayed to another topic."""

from __future__ import annotations

import signal
from dataclasses import dataclass

import pytest

from load.oracle import Verdict
from tests.conftest import ServiceStarter
from tests.contract.conftest import PARTITIONS, SESSION, MakeTopic, spread, topic_maker
from tests.support.kills import Life, judged, relayed
from tests.support.service import ServiceProcess
from tests.support.topics import Record, Topic, committed, now_ms, read_all
from tests.support.wait import wait_until

DELAY_SECONDS = 4  # more than joining takes, so that there is something to wait for
EXACTLY_ONCE = "exactly-once"


@dataclass(frozen=True)
class Relay:
    """From one topic to another, with one of the guarantees."""

    guarantee: str
    topic: Topic
    target: Topic
    starter: ServiceStarter

    def start(self, **settings: object) -> ServiceProcess:
        relaying = {"DELIVERY": self.guarantee, "SINK": "topic", "SINK_TOPIC": self.target.name}
        return self.starter(self.topic, **{"DELAY_SECONDS": DELAY_SECONDS, **SESSION, **relaying, **settings})

    def finish(self, service: ServiceProcess) -> None:
        """Lets it deliver all there is, and stops it."""
        ends = {number: len(records.offsets) for (_, number), records in self.topic.written.items()}
        service.wait_for_event("assigned")  # a signal before it listens to signals would end it at once
        service.wait_until(lambda: committed(self.topic) == ends, what="all was committed")
        service.stop()

    def verdict(self) -> Verdict:
        """On what a reader of committed records finds in the target."""
        visible, _ = relayed(self.target, DELAY_SECONDS * 1000)
        return judged(self.topic, [Life(0, {}, visible)], DELAY_SECONDS * 1000)

    def reached(self) -> dict[int, int]:
        """The offset after the last one that was delivered, by partition."""
        visible, _ = relayed(self.target, DELAY_SECONDS * 1000)
        return {number: Life(0, {}, visible).reached(number, 0) for number in range(PARTITIONS)}


_PLACES = [
    ("embedded", "at-most-once"),
    ("embedded", "at-least-once"),
    *(pytest.param(("kafka", one), marks=pytest.mark.kafka) for one in ("at-most-once", "at-least-once", EXACTLY_ONCE)),
]


@pytest.fixture(params=_PLACES, ids=" ".join)
def relay(request: pytest.FixtureRequest, start: ServiceStarter) -> Relay:
    """Each guarantee on each cluster that has what it needs."""
    cluster, guarantee = request.param
    make_topic = topic_maker(request, cluster)
    return Relay(guarantee, make_topic(), make_topic(), start)


def delivered(service: ServiceProcess, count: int) -> bool:
    return service.metric("delivered_total") >= count


def test_records_are_delivered_in_order_and_never_early(relay: Relay) -> None:
    relay.topic.produce(*spread(now_ms(), 300, 5))
    relay.finish(relay.start())
    found = relay.verdict()
    assert (found.expected, found.faults, found.duplicates) == (300, 0, 0), found.findings


def test_a_restart_goes_on_at_the_committed_offset(relay: Relay) -> None:
    """After a clean stop in the middle nothing is lost and nothing repeated."""
    relay.topic.produce(*spread(now_ms(), 300, 10))
    first = relay.start()
    first.wait_until(lambda: delivered(first, 100))
    first.stop()
    assert committed(relay.topic) == relay.reached()
    relay.topic.produce(*spread(now_ms(), 40, 10))  # a slow first life has left nothing
    relay.finish(relay.start())
    found = relay.verdict()
    assert (found.expected, found.faults, found.duplicates) == (340, 0, 0), found.findings


def test_a_killed_service_does_to_records_what_its_guarantee_says_and_no_more(relay: Relay) -> None:
    relay.topic.produce(*spread(now_ms(), 300, 10))
    first = relay.start(COMMIT_INTERVAL_SECONDS=1)
    first.wait_until(lambda: delivered(first, 120))
    first.signal(signal.SIGKILL)
    first.wait_for_exit()
    relay.topic.produce(*spread(now_ms(), 40, 10))
    relay.finish(relay.start(COMMIT_INTERVAL_SECONDS=1))
    found = relay.verdict()
    assert found.faults - found.lost == 0, found.findings
    assert found.duplicates == 0 or relay.guarantee == "at-least-once"
    assert found.lost == 0 or relay.guarantee == "at-most-once"


def test_a_service_that_waits_stops_in_under_a_second(relay: Relay) -> None:
    relay.topic.produce(*spread(now_ms(), 8, 0))
    service = relay.start(DELAY_SECONDS=900)
    service.wait_until(lambda: {one["state"] for one in service.partitions().values()} == {"paused"})
    assert service.stop() < 1
    assert relay.reached() == dict.fromkeys(range(PARTITIONS), 0)


def test_a_relay_keeps_key_value_and_headers(relay: Relay) -> None:
    at_ms = now_ms() - 60_000
    headers: list[tuple[str, bytes | None]] = [("name", b"1"), ("name", None)]
    relay.topic.produce(Record(at_ms, b"\xff", b"key", headers), Record(at_ms, None, b"gone"))
    relay.finish(relay.start())
    first, second = sorted(read_all(relay.target, 3, 1), key=lambda message: message.key() or b"", reverse=True)
    assert (first.key(), first.value(), list(first.headers() or [])[:2]) == (b"key", b"\xff", headers)
    assert (second.key(), second.value()) == (b"gone", None)
    assert ("delayed-consumer.offset", b"1") in (second.headers() or [])


@pytest.mark.embedded_cannot("it forgets the offsets of a transaction, so exactly-once is tested on Apache Kafka only")
def test_offsets_are_committed_with_a_transaction(make_topic: MakeTopic, start: ServiceStarter) -> None:
    relay = Relay(EXACTLY_ONCE, make_topic(), make_topic(), start)
    relay.topic.produce(*spread(now_ms() - 60_000, 8, 0))
    service = relay.start()
    service.wait_until(lambda: delivered(service, 8))
    wait_until(lambda: committed(relay.topic) == dict.fromkeys(range(PARTITIONS), 2), 5)
