"""The one owner of the Kafka consumer: messages come out in batches, offsets go in, errors come out as ours.

Every method is called on the loop's thread: since confluent-kafka 2.16 a call from another one starves behind
poll, before it some crashed the process.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, Protocol, cast

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from delayed_consumer.broker_watch import STATISTICS_INTERVAL_MS, BrokerWatch
from delayed_consumer.core.records import Partition
from delayed_consumer.errors import AuthError, ConfigError, FencedError, GaveUpError, ServiceError, UnreachableError
from delayed_consumer.probe.connection import DENIED, ClientProperties

# What a held record costs in memory beside its key, value and headers: measured at 240 bytes with
# confluent-kafka 2.16, its columns in a run included.
RECORD_OVERHEAD_BYTES = 320
HEADER_OVERHEAD_BYTES = 160

_FIRST, _END = -2, -1  # the times by which the protocol asks for the ends of a log
_TIME = itemgetter(1)  # of a timestamp, behind its type
_RECEIVED_BYTES = re.compile(r'"rx_bytes":\s*(\d+)')


@dataclass(slots=True)
class Reading:
    """What one read brought, per partition in the order it came."""

    batches: dict[Partition, list[Message]] = field(default_factory=dict)
    ends: dict[Partition, int] = field(default_factory=dict)  # the log ended at this offset
    without_offset: list[Partition] = field(default_factory=list)  # no commit, or it is no longer in the log

    def __bool__(self) -> bool:
        return bool(self.batches or self.ends or self.without_offset)


class GroupListener(Protocol):
    """Who is told, during a read, what the group and the client report."""

    def assigned(self, partitions: Sequence[Partition]) -> None: ...

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """Before they are gone: offsets may still be stored."""

    def lost(self, partitions: Sequence[Partition]) -> None:
        """They already belong to somebody else: nothing may be stored."""

    def committed(self, offsets: Mapping[Partition, int], error: str | None) -> None: ...

    def client_error(self, reason: str) -> None:
        """The client gets over it by itself."""

    def received_bytes(self, total: int) -> None: ...


def consumer_properties(
    client: ClientProperties,
    *,
    group_id: str,
    group_instance_id: str | None,
    commit_interval_seconds: float,
    hold_max_bytes: int,
) -> dict[str, str | int | float | bool]:
    """The consumer's properties: ours where a promise depends on them, then the user's, then tuned defaults.

    The queue is small because a pause throws it away, and what is in it comes before a resumed partition: 2 MB
    cost 1% of the throughput of 8. `fetch.queue.backoff.ms` because a full queue would stall for a second;
    `fetch.wait.max.ms` bounds the wake-up of a partition whose siblings are idle.
    """
    fetch_bytes = max(16_384, min(262_144, hold_max_bytes // 32))
    tuned: dict[str, str | int | float | bool] = {
        "queued.max.messages.kbytes": max(64, min(2_048, hold_max_bytes // 32 // 1024)),
        "fetch.message.max.bytes": fetch_bytes,
        "fetch.max.bytes": max(fetch_bytes, min(2_097_152, hold_max_bytes // 32)),
        "fetch.queue.backoff.ms": 2,
        "fetch.wait.max.ms": 100,
        "partition.assignment.strategy": "cooperative-sticky",  # a rebalance keeps what stays with its member
        "statistics.interval.ms": STATISTICS_INTERVAL_MS,
        "topic.metadata.refresh.interval.ms": 60_000,
        "allow.auto.create.topics": False,
    }
    fixed: dict[str, str | int | float | bool] = {
        "group.id": group_id,
        "enable.auto.commit": True,
        "enable.auto.offset.store": False,
        "auto.commit.interval.ms": max(1, round(commit_interval_seconds * 1000)),
        "auto.offset.reset": "error",  # silently skipping is never right here: the service decides
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        "message.max.bytes": 1_000,  # it sends none, and the client wants fetch.max.bytes to be at least this
    }
    if group_instance_id:
        fixed["group.instance.id"] = group_instance_id
    return {**tuned, **client, **fixed}


class Source:
    """A subscribed consumer."""

    def __init__(self, properties: ClientProperties, logger: logging.Logger, listener: GroupListener) -> None:
        """Raises ConfigError for properties that do not go together."""
        self._properties = properties
        self._logger = logger
        self._listener = listener
        self._failure: ServiceError | None = None
        self._topics: list[str] = []
        self._one_topic = False  # subscribed to no other one
        strategy = str(properties["partition.assignment.strategy"])
        self._incremental = _is_new_protocol(properties) or strategy.startswith("cooperative")
        self._watch = BrokerWatch()
        self._consumer = self._new_consumer()

    @property
    def lost(self) -> bool:
        """The client has forgotten all brokers, and hears of them no more: see `join_anew`."""
        return self._watch.lost

    def subscribe(self, topics: Sequence[str]) -> None:
        """Joins the group while it is read. A topic that starts with ``^`` is a regular expression."""
        self._topics = list(topics)
        self._one_topic = len(topics) == 1 and not topics[0].startswith("^")
        self._consumer.subscribe(
            self._topics,
            on_assign=self._while_present(self._on_assign),
            on_revoke=self._while_present(self._on_revoke),
            on_lost=self._while_present(self._on_lost),
        )

    def join_anew(self) -> None:
        """Goes on with another client, which has no partitions yet; the former one is not heard any more.

        It stays a member until its session ends, as it cannot leave without brokers; to close it takes as long.
        """
        former, self._watch = self._consumer, BrokerWatch()
        self._consumer = self._new_consumer()
        threading.Thread(target=former.close, name="close-former", daemon=True).start()
        self.subscribe(self._topics)

    def read(self, max_records: Callable[[], int], timeout_s: float) -> Reading:
        """At most ``max_records``, waiting up to ``timeout_s`` for the first; serves callbacks.

        ``max_records`` is asked when there is a first one: it looks at all partitions.

        Raises:
            AuthError: not permitted to read a topic or to join the group.
            FencedError: another member has our instance id.
        """
        reading = Reading()
        # Not consume(n, timeout): it waits for all n or the whole timeout (confluent-kafka 2.16).
        message = self._consumer.poll(timeout_s)
        if message is not None:  # a Message with an empty value is false
            more = max_records() - 1
            messages = self._consumer.consume(more, 0) if more > 0 else []
            messages.insert(0, message)
            self._sort(messages, reading)
        if self._failure is not None:
            raise self._failure
        return reading

    def pause(self, partitions: Sequence[Partition]) -> None:
        """Throws away what is prefetched of them; fetching restarts behind the last record read."""
        self._consumer.pause([TopicPartition(*partition) for partition in partitions])

    def resume(self, partitions: Iterable[tuple[Partition, int | None]]) -> None:
        """Fetches again from the given offset, at once.

        Without the seek the broker's thread is not woken: up to 990 ms until the first record. In the other
        order, or with a leader epoch, the seek waits for a second (librdkafka 2.16).
        """
        moves = list(partitions)
        self._consumer.resume([TopicPartition(*partition) for partition, _ in moves])
        for partition, offset in moves:
            if offset is not None:
                with suppress(KafkaException):  # its fetcher is not there yet: it will start at this offset anyway
                    self._consumer.seek(TopicPartition(*partition, offset))

    def store(self, offsets: Iterable[tuple[Partition, int]]) -> None:
        """Gives offsets to the client's periodic commit; those of partitions no longer ours are ignored."""
        with suppress(KafkaException):  # raised when all of them are no longer ours; for some of them nothing is
            self._consumer.store_offsets(offsets=[TopicPartition(*one, offset) for one, offset in offsets])

    def commit_stored(self) -> None:
        """Commits what is stored without waiting; the result comes through the listener."""
        self._consumer.commit(asynchronous=True)

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commits these offsets without waiting; the result comes through the listener."""
        try:
            self._consumer.commit(offsets=_at(offsets, OFFSET_INVALID), asynchronous=True)
        except KafkaException as error:
            self._on_commit(error.args[0], [])

    def commit_now(self, offsets: Mapping[Partition, int]) -> None:
        """Commits these offsets, earlier ones than before included, and waits for the answer.

        Raises UnreachableError when the brokers do not take them.
        """
        with _answered():
            self._commit(offsets)

    def commit_before_joining(self, offsets: Mapping[Partition, int]) -> None:
        """Commits for a group that has no members; where it has some, they speak for it and nothing is committed.

        Raises UnreachableError when the brokers do not answer.
        """
        try:
            self._commit(offsets)
        except KafkaException as error:
            if error.args[0].code() not in _HAS_MEMBERS:
                raise translate(error.args[0]) or UnreachableError(error.args[0].str()) from error

    def committed(self, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, int | None]:
        """The group's committed offsets; None where it has none. Raises UnreachableError without an answer."""
        with _answered():
            answers = self._consumer.committed([TopicPartition(*one) for one in partitions], timeout=timeout_s)
            return {one: offset if offset >= 0 else None for one, offset in _offsets(answers).items()}

    def log_ranges(self, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, tuple[int, int]]:
        """The first offset and the end of each log; a leader that is away leaves its own out.

        Two requests a broker for all: get_watermark_offsets would be one a partition, each behind a long poll.
        Raises UnreachableError without an answer.
        """
        wanted = list(partitions)
        firsts = self._look_up(wanted, _FIRST, timeout_s)
        ends = self._look_up(wanted, _END, timeout_s)
        return {one: (firsts[one], ends[one]) for one in wanted if one in firsts and one in ends}

    def group_metadata(self) -> object | None:
        """Our membership at this moment, by which the brokers refuse the offsets of somebody who has none any more.

        None: we have none. Without a member's id they would take offsets from anybody, for the sake of old producers.
        """
        member_id = self.member_id()
        metadata: object = self._consumer.consumer_group_metadata()
        return metadata if member_id and member_id == self.member_id() else None

    def transaction_ended(self, offsets: Mapping[Partition, int], error: str | None) -> None:
        """A transaction has committed these offsets, or none and why; told as a commit of our own is."""
        self._listener.committed(offsets, error)

    def member_id(self) -> str:
        """The group's name for us; empty before the first join."""
        return str(self._consumer.memberid() or "")

    def known_end(self, partition: Partition) -> int | None:
        """The end of the log as the last fetch told it, without asking. None: not fetched yet."""
        try:
            _, high = self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)
        except KafkaException:
            return None
        return high if high >= 0 else None

    def start_at(self, starts: Mapping[Partition, int | None], positions: Mapping[Partition, int | None]) -> None:
        """Reads assigned partitions from these offsets; None: from the start of the log.

        ``positions`` are those of all that are assigned; None: at the committed offset.

        A partition without an offset has no fetcher that a seek could move (librdkafka refuses it with _STATE),
        so it is assigned anew; under an eager protocol that takes all of them.
        Raises UnreachableError when the client refuses, as in the middle of a rebalance.
        """
        with _answered():
            if self._incremental:
                self._consumer.incremental_unassign([TopicPartition(*partition) for partition in starts])
                self._consumer.incremental_assign(_at(starts, OFFSET_BEGINNING))
            else:
                others = {partition: offset for partition, offset in positions.items() if partition not in starts}
                self._consumer.assign(_at(others, OFFSET_INVALID) + _at(starts, OFFSET_BEGINNING))

    def close(self, timeout_s: float) -> bool:
        """Commits what is stored and leaves the group. False when the brokers did not answer in time.

        The client would wait for them for most of a minute. So it closes on a thread of its own, which is left
        behind then; while it closes nobody else calls it.
        """
        closing = threading.Thread(target=self._consumer.close, name="leave-group", daemon=True)
        closing.start()
        closing.join(timeout_s)
        return not closing.is_alive()

    def _new_consumer(self) -> Consumer:
        callbacks: dict[str, Callable[..., None]] = {
            "error_cb": self._while_present(self._on_error),
            "on_commit": self._while_present(self._on_commit),
            "stats_cb": self._while_present(self._on_statistics),
        }
        try:
            return Consumer(_for_protocol({**self._properties, **callbacks}), logger=self._logger)
        except KafkaException as error:
            raise ConfigError([f"KAFKA_CONF_*: {error.args[0].str()}"]) from error

    def _while_present(self, callback: Callable[..., None]) -> Callable[..., None]:
        """What the present client calls back; once it was replaced nobody hears it, on whatever thread it closes."""
        watch = self._watch
        return lambda *arguments: callback(*arguments) if watch is self._watch else None

    def _commit(self, offsets: Mapping[Partition, int]) -> None:
        taken = _offsets(self._consumer.commit(offsets=_at(offsets, OFFSET_INVALID), asynchronous=False))
        if taken.keys() != offsets.keys():
            raise UnreachableError(f"the brokers did not take the commit of {len(offsets) - len(taken)} partitions")

    def _look_up(self, partitions: Iterable[Partition], time: int, timeout_s: float) -> dict[Partition, int]:
        with _answered():
            question = [TopicPartition(*one, time) for one in partitions]
            return _offsets(self._consumer.offsets_for_times(question, timeout=timeout_s))

    def _sort(self, messages: list[Message], reading: Reading) -> None:
        """Into batches. The client hands over what it fetched, so neighbours are mostly of one partition."""
        if any(map(Message.error, messages)):
            self._sort_events(messages, reading)
            messages = [message for message in messages if message.error() is None]
        if len({*map(Message.partition, messages)}) == 1 and (
            self._one_topic or len({*map(Message.topic, messages)}) == 1
        ):
            reading.batches[_partition_of(messages[0])] = messages
            return
        start = 0
        whose = zip(map(Message.topic, messages), map(Message.partition, messages), strict=True)
        for (topic, number), group in groupby(whose):
            end = start + len(list(group))
            batch = reading.batches.setdefault(Partition(str(topic), int(number or 0)), [])
            batch.extend(messages[start:end])
            start = end

    def _sort_events(self, messages: Iterable[Message], reading: Reading) -> None:
        for message in messages:
            error = message.error()
            if error is None:
                continue
            if error.code() == KafkaError._PARTITION_EOF:
                reading.ends[_partition_of(message)] = int(message.offset() or 0)
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                reading.without_offset.append(_partition_of(message))
            else:
                self._on_error(error)

    def _on_error(self, error: KafkaError) -> None:
        failure = translate(error)
        if failure is not None:
            self._failure = failure
        self._listener.client_error(error.str())

    def _on_commit(self, error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
        if error is not None and error.code() == KafkaError._NO_OFFSET:
            error = None  # there was nothing to commit
        failed = error or next((one.error for one in partitions if one.error is not None), None)
        if failed is not None:
            self._failure = self._failure or translate(failed)
        offsets = {  # partitions of which nothing was stored are listed too, with a negative offset
            Partition(one.topic, one.partition): one.offset
            for one in partitions
            if one.error is None and one.offset >= 0
        }
        self._listener.committed({} if error else offsets, failed.str() if failed else None)

    def _on_statistics(self, statistics: str) -> None:
        self._watch.look(statistics)
        found = _RECEIVED_BYTES.search(statistics)  # parsing megabytes of JSON would stall the loop
        if found:
            self._listener.received_bytes(int(found[1]))

    def _on_assign(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        if partitions:
            # An application's pause survives every kind of rebalance in librdkafka.
            consumer.resume(list(partitions))
        self._listener.assigned(_named(partitions))

    def _on_revoke(self, _: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._listener.revoked(_named(partitions))

    def _on_lost(self, _: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._listener.lost(_named(partitions))


def one_record() -> int:
    """As the most records of a read that is there for its callbacks."""
    return 1


# What is read of every record, column by column: a Python call for each would be most of what reading it costs.


def offsets_of(messages: Sequence[Message]) -> Sequence[int]:
    """They ascend, so the first and the last tell whether there is a gap between them."""
    first, last = int(messages[0].offset() or 0), int(messages[-1].offset() or 0)
    if last - first == len(messages) - 1:
        return range(first, first + len(messages))
    return cast("list[int]", list(map(Message.offset, messages)))


def timestamps_ms(messages: Sequence[Message]) -> Sequence[int]:
    """Negative for a record without one."""
    return list(map(_TIME, map(Message.timestamp, messages)))


def memory_sizes(messages: Sequence[Message]) -> list[int]:
    """What holding each of these records costs in memory, in bytes.

    Raises:
        GaveUpError: a header's name is not UTF-8; to look at the record again would crash the process.
    """
    headers: list[Any] = []
    try:
        headers.extend(map(Message.headers, messages))
    except SystemError as error:  # confluent-kafka 2.16; its next call returns a list with a null pointer in it
        unreadable = messages[len(headers)]
        where = f"{_partition_of(unreadable)} offset {unreadable.offset()}"
        raise GaveUpError(f"{where}: a header has a name that is not UTF-8, which the client cannot read") from error
    keys = list(map(Message.key, messages))
    if any(headers):
        return [
            RECORD_OVERHEAD_BYTES + len(message) + len(key or b"") + (_headers_bytes(pairs) if pairs else 0)
            for message, key, pairs in zip(messages, keys, headers, strict=True)
        ]
    if any(keys):
        return [
            RECORD_OVERHEAD_BYTES + len(message) + len(key or b"") for message, key in zip(messages, keys, strict=True)
        ]
    return [RECORD_OVERHEAD_BYTES + size for size in map(len, messages)]


def _headers_bytes(headers: Any) -> int:
    """``headers`` is typed as a dict too; the client gives a list of pairs."""
    return sum(HEADER_OVERHEAD_BYTES + len(name) + len(value or b"") for name, value in headers)


_FENCED = {KafkaError.FENCED_INSTANCE_ID, KafkaError.UNRELEASED_INSTANCE_ID, KafkaError._FENCED}
_HAS_MEMBERS = {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS}


def translate(error: KafkaError) -> ServiceError | None:
    """The error that ends the service; None for what the client itself gets over."""
    code = _reason_of_fatal(error) if error.code() == KafkaError._FATAL else error.code()
    if code in _FENCED:
        return FencedError(f"another member of the group has our KAFKA_GROUP_INSTANCE_ID: {error.str()}")
    if code in DENIED:
        return AuthError(error.str())
    if code == KafkaError._FATAL or error.fatal():
        return ServiceError(error.str())
    return None


def _reason_of_fatal(error: KafkaError) -> int:
    """A consumer's fatal error has its code only in words, and does not call itself fatal (confluent-kafka 2.16)."""
    reasons = (code for code in _FENCED | DENIED if KafkaError(code).str() in error.str())
    return next(reasons, KafkaError._FATAL)


@contextmanager
def _answered() -> Iterator[None]:
    """Turns the client's refusal into ours."""
    try:
        yield
    except KafkaException as error:
        failure = translate(error.args[0])
        raise failure or UnreachableError(error.args[0].str()) from error


def _partition_of(message: Message) -> Partition:
    return Partition(str(message.topic()), int(message.partition() or 0))


def _is_new_protocol(properties: ClientProperties) -> bool:
    return str(properties.get("group.protocol")).lower() == "consumer"


def _for_protocol(properties: dict[str, Any]) -> dict[str, Any]:
    """Without what the new group protocol leaves to the brokers: librdkafka refuses it."""
    if not _is_new_protocol(properties):
        return properties
    return {name: value for name, value in properties.items() if name != "partition.assignment.strategy"}


def _at(offsets: Mapping[Partition, int] | Mapping[Partition, int | None], when_none: int) -> list[TopicPartition]:
    return [TopicPartition(*one, when_none if offset is None else offset) for one, offset in offsets.items()]


def _offsets(answers: Iterable[TopicPartition] | None) -> dict[Partition, int]:
    """What was answered; a partition whose leader had no answer is left out. Raises what ends the service."""
    offsets = {}
    for one in answers or ():
        if one.error is None:
            offsets[Partition(one.topic, one.partition)] = one.offset
        elif (failure := translate(one.error)) is not None:
            raise failure
    return offsets


def _named(partitions: Iterable[TopicPartition]) -> list[Partition]:
    return [Partition(one.topic, one.partition) for one in partitions]
