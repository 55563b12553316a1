"""One instance that is killed again and again at random instants, and what each of its lives delivered."""

from __future__ import annotations

import random
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from load.oracle import Delivered, Key, Verdict, judge
from tests.support.feeder import Feeder
from tests.support.json_lines import ARRIVED_MS
from tests.support.service import ServiceProcess
from tests.support.topics import Topic, unique

_LONGEST_SECONDS = 0.5  # from the first delivery to the kill
_ANY_INSTANT = 0.2  # of all lives end at any instant from their start on; the others while they deliver
_LONGEST_START_SECONDS = 2.0
_SETTLED_SECONDS = 0.4  # a commit that was on its way at the kill has arrived by then
_TIMEOUT_SECONDS = 20.0
_END_TIMEOUT_SECONDS = 180.0


@dataclass(frozen=True)
class Delivery:
    """``arrived_ms``: when whoever it was delivered to had it."""

    partition: int
    offset: int
    due_ms: int
    delivered_ms: float
    arrived_ms: float


@dataclass
class Life:
    """From a start to a kill, or to the end."""

    begun_ms: float
    committed: Mapping[int, int]  # after it, by partition
    deliveries: list[Delivery] = field(default_factory=list)

    def offsets(self, partition: int) -> list[int]:
        """In the order they came."""
        return [one.offset for one in self.deliveries if one.partition == partition]

    def reached(self, partition: int, begin: int) -> int:
        """The offset after the last one that was delivered; ``begin`` when none was."""
        return max(self.offsets(partition), default=begin - 1) + 1


@dataclass(frozen=True)
class AtKill:
    """What was in flight when a life was killed, in records."""

    uncommitted: int  # delivered, and not committed
    undelivered: int  # committed, and not delivered


def at_kills(lives: Sequence[Life], partitions: int) -> Iterator[AtKill]:
    """For each life but the last, which ended cleanly."""
    begins = dict.fromkeys(range(partitions), 0)
    for life in lives[:-1]:
        ahead = [life.reached(number, begins[number]) - life.committed[number] for number in range(partitions)]
        yield AtKill(sum(one for one in ahead if one > 0), -sum(one for one in ahead if one < 0))
        begins = dict(life.committed)


class Lives:
    """The lives of one static member, which gets its partitions back at once. To be used by one thread."""

    def __init__(self, topic: Topic, settings: Mapping[str, object], dice: random.Random) -> None:
        self._topic = topic
        self._dice = dice
        self._environment = {
            "KAFKA_BOOTSTRAP_SERVERS": topic.bootstrap,
            "KAFKA_TOPICS": topic.name,
            "KAFKA_GROUP_ID": topic.name,
            "KAFKA_GROUP_INSTANCE_ID": "the-one",
            **{name: str(value) for name, value in settings.items()},
        }
        self.lives: list[Life] = []

    def live(self, kills: int, rate: float) -> None:
        """That many lives are killed while records fall due all the time; one more delivers the rest."""
        self._asking = Consumer(
            {
                "bootstrap.servers": self._topic.bootstrap,
                "group.id": self._topic.name,
                "isolation.level": "read_uncommitted",  # does not wait for a transaction that nobody ends
                "log_level": 0,
            }
        )
        try:
            with Feeder(self._topic, rate):
                for _ in range(kills):
                    self._live_until_killed()
            self._live_to_the_end()
        finally:
            self._asking.close()

    def _live_until_killed(self) -> None:
        begun_ms = time.time() * 1000
        service = ServiceProcess(self._environment)
        try:
            if self._dice.random() < _ANY_INSTANT:
                time.sleep(self._dice.uniform(0, _LONGEST_START_SECONDS))
            else:
                service.wait_until(lambda: service.metric("delivered_total") > 0, what="it delivered")
                time.sleep(self._dice.uniform(0, _LONGEST_SECONDS))
            assert not service.ended, service.log_tail()
        finally:
            service.kill()
        self._note(begun_ms, service)

    def _live_to_the_end(self) -> None:
        ends = {number: len(records.offsets) for (_, number), records in self._topic.written.items()}
        begun_ms = time.time() * 1000
        service = ServiceProcess(self._environment)
        try:
            service.wait_until(lambda: self._committed() == ends, _END_TIMEOUT_SECONDS, "all was delivered")
            service.stop()
        finally:
            service.kill()
        self._note(begun_ms, service)

    def _note(self, begun_ms: float, service: ServiceProcess) -> None:
        rows = [
            Delivery(one["partition"], one["offset"], one["due_ms"], one["delivered_ms"], one[ARRIVED_MS])
            for one in service.records
        ]
        self.lives.append(Life(begun_ms, self._settled(), rows))

    def _settled(self) -> dict[int, int]:
        before = self._committed()
        while True:
            time.sleep(_SETTLED_SECONDS)
            now = self._committed()
            if now == before:
                return now
            before = now

    def _committed(self) -> dict[int, int]:
        """0 where nothing was committed yet."""
        asked = [TopicPartition(self._topic.name, number) for number in range(self._topic.partitions)]
        return {one.partition: max(0, one.offset) for one in self._asking.committed(asked, timeout=_TIMEOUT_SECONDS)}


def share(lives: Sequence[Life], deliveries: Iterable[Delivery]) -> None:
    """Gives each life what was delivered while it lasted, for sinks that do not say from which life a record is."""
    begun_ms = [life.begun_ms for life in lives]
    for one in deliveries:
        lives[bisect_right(begun_ms, one.delivered_ms) - 1].deliveries.append(one)


def judged(topic: Topic, lives: Iterable[Life], delay_ms: int) -> Verdict:
    """The oracle's. Due times may begin anew with every life."""
    columns: dict[Key, Delivered] = {}
    for life in lives:
        for one in life.deliveries:
            column = columns.setdefault((topic.name, one.partition), Delivered())
            column.add(one.offset, one.due_ms, one.delivered_ms, one.arrived_ms)
    return judge(topic.written, columns, delay_ms, restarted=True)


def relayed(topic: Topic, delay_ms: int) -> tuple[list[Delivery], list[Delivery]]:
    """What a relay wrote into ``topic``: what was committed, and what only a reader of all sees besides."""
    everything = dict(_read(topic, "read_uncommitted", delay_ms))
    visible = dict(_read(topic, "read_committed", delay_ms))
    return list(visible.values()), [one for place, one in everything.items() if place not in visible]


def _read(topic: Topic, isolation: str, delay_ms: int) -> Iterator[tuple[tuple[int, int], Delivery]]:
    """All that such a reader sees, with its place in the topic, each partition in order."""
    for message in _messages(topic, isolation):
        headers = cast("list[tuple[str, bytes]]", message.headers())
        source = {name.removeprefix("delayed-consumer."): int(value) for name, value in headers[-3:]}
        stamp_ms = float(message.timestamp()[1])
        place = int(message.partition() or 0), int(message.offset() or 0)
        due_ms = source["timestamp"] + delay_ms
        yield place, Delivery(source["partition"], source["offset"], due_ms, stamp_ms, stamp_ms)


def _messages(topic: Topic, isolation: str) -> Iterator[Message]:
    consumer = Consumer(
        {
            "bootstrap.servers": topic.bootstrap,
            "group.id": unique("reader"),
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    unread = set(range(topic.partitions))
    try:
        consumer.assign([TopicPartition(topic.name, number, 0) for number in unread])
        while unread:
            message = consumer.poll(_TIMEOUT_SECONDS)
            assert message is not None, f"no end of {topic.name} was reached"
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                unread.discard(int(message.partition() or 0))
            else:
                raise KafkaException(error)
    finally:
        consumer.close()
