"""Logs, a group, and the client as librdkafka behaves: what the service must live with, and no more.

What is modelled was measured on librdkafka 2.16: one queue of what is prefetched of all partitions; a pause that
throws away its partition's part and survives every rebalance; a resume that wakes nobody without a seek; offsets
that are committed only as far as they are stored.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_INVALID,
    TIMESTAMP_CREATE_TIME,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from delayed_consumer.core.records import Partition
from tests.loop.clock import ManualClock

QUEUE_RECORDS = 2_000
FETCH_RECORDS = 100
COMMIT_MS = 1.0  # until the broker has answered
FETCH_MS = 4.0  # until the first record after a resume and a seek
UNWOKEN_FETCH_MS = 500.0  # after a resume alone
SEEK_WHILE_PAUSED_MS = 1_000.0

Callback = Callable[[Any, list[TopicPartition]], None]


@dataclass
class Log:
    """One partition. Offsets below ``first`` were deleted; ``end`` may lie behind control records."""

    messages: list[Message] = field(default_factory=list)
    first: int = 0
    end: int = 0

    def from_offset(self, offset: int, records: int) -> list[Message]:
        index = bisect_left(self.messages, offset, key=lambda one: one.offset() or 0)
        return self.messages[index : index + records]


class FakeKafka:
    """The brokers."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.logs: dict[Partition, Log] = {}
        self.committed: dict[Partition, int] = {}
        self.commits: list[dict[Partition, int]] = []
        self.refused_commits = 0
        self.commit_ms = COMMIT_MS
        self.refused_stores: list[Partition] = []
        self.commit_error: int | None = None
        self.unreachable = False
        self.consumers: list[FakeConsumer] = []

    def create(self, topic: str, partitions: int) -> list[Partition]:
        new = [Partition(topic, number) for number in range(partitions)]
        for one in new:
            self.logs.setdefault(one, Log())
        return new

    def produce(
        self,
        partition: Partition,
        timestamp_ms: float,
        value: bytes | None = b"v",
        key: bytes | None = None,
        headers: list[tuple[str, bytes | None]] | None = None,
    ) -> None:
        log = self.logs[partition]
        timestamp = (TIMESTAMP_CREATE_TIME, int(timestamp_ms))
        where: dict[str, Any] = {"topic": partition.topic, "partition": partition.number, "offset": log.end}
        where |= {"headers": headers}
        log.messages.append(Message(**where, value=value, key=key, timestamp=timestamp))
        log.end += 1

    def recreate(self, partition: Partition) -> None:
        """As a topic that was deleted and made again."""
        self.logs[partition] = Log()

    def delete_before(self, partition: Partition, offset: int) -> None:
        """As retention does."""
        log = self.logs[partition]
        log.first = offset
        log.messages = [one for one in log.messages if (one.offset() or 0) >= offset]

    def consumer(self, properties: dict[str, Any], logger: object = None) -> FakeConsumer:
        """Stands in for the client's constructor."""
        one = FakeConsumer(self, properties)
        self.consumers.append(one)
        return one


@dataclass
class Fetch:
    """How far one assigned partition is fetched (``next``) and handed over (``position``); None: no offset is known."""

    next: int | None
    position: int | None
    told_end: int | None = None
    from_ms: float = 0.0
    refused: bool = False

    def start_over(self, offset: int | None, from_ms: float) -> None:
        self.next = self.position = offset
        self.told_end, self.from_ms, self.refused = None, from_ms, False


class FakeConsumer:
    """`confluent_kafka.Consumer`, as far as `source.Source` uses it."""

    def __init__(self, kafka: FakeKafka, properties: dict[str, Any]) -> None:
        self._kafka = kafka
        self._clock = kafka.clock
        self._on_commit: Callable[[KafkaError | None, list[TopicPartition]], None] = properties["on_commit"]
        self._on_error: Callable[[KafkaError], None] = properties["error_cb"]
        self._on_statistics: Callable[[str], None] = properties["stats_cb"]
        self._interval_ms = float(properties["auto.commit.interval.ms"])
        self._on_assign: Callback
        self._on_revoke: Callback
        self._on_lost: Callback
        self._callbacks: deque[Callable[[], None]] = deque()
        self._queue: deque[Message] = deque()
        self._fetches: dict[Partition, Fetch] = {}
        self._stored: dict[Partition, int] = {}
        self._polled_ms = self._clock.steady_ms()
        self.paused: set[Partition] = set()  # survives rebalances, as an application's pause does
        self.thrown_away = 0
        self.keeps_pauses = False
        self._longest_silence_ms = 0.0
        self.alive = True
        self._commit_periodically()

    # What the application calls

    def subscribe(self, _: list[str], *, on_assign: Callback, on_revoke: Callback, on_lost: Callback) -> None:
        self._on_assign, self._on_revoke, self._on_lost = on_assign, on_revoke, on_lost

    def poll(self, timeout: float) -> Message | None:
        end_ms = self._clock.steady_ms() + int(timeout * 1000)  # whole milliseconds, cut off
        while True:
            self._serve()
            self._fill()
            if self._queue:
                return self._hand_over()
            left_ms = end_ms - self._clock.steady_ms()
            if left_ms <= 0:
                return None
            self._clock.advance(left_ms, until=self._has_something)

    def consume(self, num_messages: int, timeout: float) -> list[Message]:
        assert timeout == 0, "it would wait for all of them"
        self._serve()
        self._fill()
        return [self._hand_over() for _ in range(min(num_messages, len(self._queue)))]

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        for one in map(_named, partitions):
            self.paused.add(one)
            self._purge(one)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        for one in map(_named, partitions):
            if one not in self.paused or self.keeps_pauses:
                continue
            self.paused.discard(one)
            if one in self._fetches:
                self._fetch_later(one, UNWOKEN_FETCH_MS)

    def seek(self, partition: TopicPartition) -> None:
        one = _named(partition)
        if one not in self._fetches:
            raise _refusal(KafkaError._STATE)
        self._purge(one)
        self._fetches[one].start_over(partition.offset, 0.0)
        self._fetch_later(one, SEEK_WHILE_PAUSED_MS if one in self.paused else FETCH_MS)

    def store_offsets(self, offsets: Iterable[TopicPartition]) -> None:
        for partition in offsets:
            one = _named(partition)
            if one in self._fetches:
                self._stored[one] = partition.offset
            else:
                self._kafka.refused_stores.append(one)

    def commit(
        self, offsets: Sequence[TopicPartition] | None = None, *, asynchronous: bool
    ) -> Sequence[TopicPartition] | None:
        if offsets is None:
            assert asynchronous
            self._send_commit(self._uncommitted(), even_if_empty=True)
            return None
        if asynchronous:
            self._send_commit({_named(one): one.offset for one in offsets}, even_if_empty=False)
            return None
        self._ask()
        if self._kafka.commit_error is not None:
            raise _refusal(self._kafka.commit_error)
        committed = {_named(one): one.offset for one in offsets}
        self._kafka.committed.update(committed)
        self._kafka.commits.append(committed)
        return offsets

    def committed(self, partitions: Iterable[TopicPartition], timeout: float) -> list[TopicPartition]:
        self._ask()
        offsets = self._kafka.committed
        return [TopicPartition(*_named(one), offsets.get(_named(one), OFFSET_INVALID)) for one in partitions]

    def offsets_for_times(self, partitions: Iterable[TopicPartition], timeout: float) -> list[TopicPartition]:
        """Only the ends of the logs, -2 and -1, can be asked for."""
        self._ask()
        logs = self._kafka.logs
        ends = {-2: lambda one: logs[one].first, -1: lambda one: logs[one].end}
        return [TopicPartition(*_named(one), ends[one.offset](_named(one))) for one in partitions]

    def get_watermark_offsets(self, partition: TopicPartition, *, cached: bool) -> tuple[int, int]:
        assert cached, "a question for each partition would wait behind a long poll"
        log = self._kafka.logs[_named(partition)]
        return log.first, log.end

    def memberid(self) -> str:
        return "member"

    def incremental_unassign(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            self._unassign(_named(partition))

    def incremental_assign(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            one = _named(partition)
            assert one not in self._fetches
            offset = self._kafka.logs[one].first if partition.offset == OFFSET_BEGINNING else partition.offset
            self._fetches[one] = Fetch(offset, offset)

    def close(self) -> None:
        if self._fetches and self.alive:
            self._revoke(list(self._fetches))
        self.alive = False

    # What befalls the application

    @property
    def longest_silence_ms(self) -> float:
        """Between two polls, or since the last one."""
        return max(self._longest_silence_ms, self._clock.steady_ms() - self._polled_ms)

    def is_given(self, partitions: Iterable[Partition]) -> None:
        self._later(self._assign, partitions)

    def must_give_up(self, partitions: Iterable[Partition]) -> None:
        self._later(self._revoke, partitions)

    def has_lost(self, partitions: Iterable[Partition]) -> None:
        self._later(self._lose, partitions)

    def meets_error(self, code: int) -> None:
        self._callbacks.append(lambda: self._on_error(KafkaError(code)))

    def says(self, statistics: str) -> None:
        self._callbacks.append(lambda: self._on_statistics(statistics))

    def dies(self) -> None:
        """Without another word: what was not committed by now never will be."""
        self.alive = False

    # How

    def _later(self, callback: Callable[[list[Partition]], None], partitions: Iterable[Partition]) -> None:
        named = list(partitions)
        self._callbacks.append(lambda: callback(named))

    def _serve(self) -> None:
        self._longest_silence_ms = self.longest_silence_ms
        self._polled_ms = self._clock.steady_ms()
        while self._callbacks:
            self._callbacks.popleft()()

    def _assign(self, partitions: list[Partition]) -> None:
        self._purge(*self._fetches)
        self._on_assign(self, _bare(partitions))
        for one in partitions:
            committed = self._kafka.committed.get(one)
            self._fetches[one] = Fetch(committed, committed)

    def _revoke(self, partitions: list[Partition]) -> None:
        self._purge(*self._fetches)
        self._on_revoke(self, _bare(partitions))
        offsets = {one: offset for one, offset in self._uncommitted().items() if one in partitions}
        if offsets:
            self._answer_commit(offsets)
        for one in partitions:
            self._unassign(one)

    def _lose(self, partitions: list[Partition]) -> None:
        self._purge(*self._fetches)
        for one in partitions:
            self._unassign(one)
        self._on_lost(self, _bare(partitions))

    def _unassign(self, one: Partition) -> None:
        self._purge(one)
        del self._fetches[one]
        self._stored.pop(one, None)

    def _purge(self, *partitions: Partition) -> None:
        """Throws away what is prefetched; fetching goes on behind what was handed over last."""
        kept = deque(message for message in self._queue if _partition_of(message) not in partitions)
        self.thrown_away += len(self._queue) - len(kept)
        self._queue = kept
        for one in partitions:
            fetch = self._fetches.get(one)
            if fetch is not None:
                fetch.start_over(fetch.position, fetch.from_ms)

    def _fetch_later(self, one: Partition, wait_ms: float) -> None:
        self._fetches[one].from_ms = self._clock.steady_ms() + wait_ms
        self._clock.after(wait_ms, lambda: None)  # a wait looks up then

    def _has_something(self) -> bool:
        self._fill()
        return bool(self._callbacks or self._queue)

    def _fill(self) -> None:
        """Fetches of all partitions in turn, until the one queue is full."""
        while len(self._queue) < QUEUE_RECORDS and sum([self._fetch(one) for one in self._fetches]):  # each of them
            pass

    def _fetch(self, one: Partition) -> bool:
        fetch, log = self._fetches[one], self._kafka.logs[one]
        if one in self.paused or fetch.refused or self._clock.steady_ms() < fetch.from_ms:
            return False
        if fetch.next is None or not log.first <= fetch.next <= log.end:
            fetch.refused = True
            self._queue.append(_error_at(one, 0, KafkaError._AUTO_OFFSET_RESET))
            return True
        messages = log.from_offset(fetch.next, FETCH_RECORDS)
        if messages:
            self._queue.extend(messages)
            fetch.next = (messages[-1].offset() or 0) + 1
            return True
        if fetch.told_end == log.end:
            return False
        fetch.told_end = fetch.next = log.end
        self._queue.append(_error_at(one, log.end, KafkaError._PARTITION_EOF))
        return True

    def _hand_over(self) -> Message:
        message = self._queue.popleft()
        if message.error() is None:
            self._fetches[_partition_of(message)].position = (message.offset() or 0) + 1
        return message

    def _commit_periodically(self) -> None:
        if self.alive:
            self._send_commit(self._uncommitted(), even_if_empty=False)
            self._clock.after(self._interval_ms, self._commit_periodically)

    def _send_commit(self, offsets: dict[Partition, int], *, even_if_empty: bool) -> None:
        if offsets or even_if_empty:
            self._clock.after(self._kafka.commit_ms, lambda: self._answer_commit(offsets) if self.alive else None)

    def _uncommitted(self) -> dict[Partition, int]:
        """What a commit would send: it never goes back."""
        return {one: offset for one, offset in self._stored.items() if offset > self._kafka.committed.get(one, -1)}

    def _answer_commit(self, offsets: dict[Partition, int]) -> None:
        code = self._kafka.commit_error if offsets else KafkaError._NO_OFFSET
        if code is None:
            self._kafka.committed.update(offsets)
            self._kafka.commits.append(offsets)
        elif offsets:
            self._kafka.refused_commits += 1
        error = None if code is None else KafkaError(code)
        answer = [TopicPartition(*one, offset) for one, offset in offsets.items()]
        self._callbacks.append(lambda: self._on_commit(error, answer))

    def _ask(self) -> None:
        if self._kafka.unreachable:
            raise _refusal(KafkaError._TIMED_OUT)


def _named(one: TopicPartition) -> Partition:
    return Partition(one.topic, one.partition)


def _bare(partitions: Iterable[Partition]) -> list[TopicPartition]:
    return [TopicPartition(*one) for one in partitions]


def _partition_of(message: Message) -> Partition:
    return Partition(str(message.topic()), int(message.partition() or 0))


def _error_at(one: Partition, offset: int, code: int) -> Message:
    return Message(topic=one.topic, partition=one.number, offset=offset, error=KafkaError(code))


def _refusal(code: int) -> KafkaException:
    return KafkaException(KafkaError(code))
