"""What the brokers know: topics, commits, the ends of the logs, retention, and what we may do."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from confluent_kafka import (
    OFFSET_INVALID,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are public, but not marked so
    AclOperation,
    AdminClient,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
)

from delayed_consumer.backlog import (
    LogBounds,
    PartitionLag,
    RecordTime,
    StartFrom,
    examine,
    first_waiting_ms,
    partition_lag,
)
from delayed_consumer.core.records import Partition
from delayed_consumer.errors import ConfigError, UnreachableError
from delayed_consumer.probe.commits import committed_offsets
from delayed_consumer.probe.connection import ClientProperties, Connection, is_denial, silent_logger
from delayed_consumer.probe.first_records import RecordReader
from delayed_consumer.setting_values import any_match

INTERNAL_TOPICS = frozenset({"__consumer_offsets", "__transaction_state", "__share_group_state"})

_TURN_S = 0.05  # how soon a refused password ends a wait
_COORDINATOR_TURN_S = 0.2
_COORDINATOR_IS_COMING = frozenset(
    {KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.NOT_COORDINATOR}
)

_NO_ANSWER = frozenset({KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._TIMED_OUT_QUEUE})

_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Rights:
    """What we may do with a topic or a group."""

    read: bool
    write: bool


class Probe:
    """Asks a cluster; a question takes at most ``timeout_s``. For one thread at a time.

    Every method raises:
        AuthError: the brokers refuse the password, or that we see what is asked for.
        UnreachableError: no answer in time.
    """

    def __init__(
        self, client_config: ClientProperties, *, logger: logging.Logger | None = None, timeout_s: float = 5.0
    ) -> None:
        """``client_config``: how to reach the brokers. ``logger``: takes the client's log; None: nobody does."""
        self._properties = {**client_config, "statistics.interval.ms": 0}  # they pile up between two questions
        self._timeout_s = timeout_s
        self._logger = logger or silent_logger()
        self._connection = Connection(str(client_config.get("bootstrap.servers", "")))
        self._admin = self._new_admin()
        self._reader: RecordReader | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the consumer that reads single records; the admin client ends with its last reference."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def reconnect(self) -> None:
        """Goes on with other clients: those that get no answer may have forgotten all brokers (see `BrokerWatch`)."""
        self.close()
        self._admin = self._new_admin()

    def topics(self, subscriptions: Sequence[str]) -> dict[str, int]:
        """The existing topics that these names and ``^`` patterns take in, with their numbers of partitions.

        Asks for all topics: a question for one of them by its name may create it.
        """
        found = {
            topic: partitions
            for topic, partitions in self._all_topics().items()
            if topic in subscriptions or (topic not in INTERNAL_TOPICS and any_match(subscriptions, topic))
        }
        # A topic that we may not see is left out of the list of all; this raises then. The brokers answered just
        # now: what does not answer here is the embedded cluster.
        with suppress(UnreachableError):
            self.rights_on_topics(missing_topics(subscriptions, found))
        return found

    def rights_on_topics(self, topics: Collection[str]) -> dict[str, Rights]:
        """What we may do with each of these topics that exists."""
        if not topics:
            return {}
        question = TopicCollection(list(topics))
        answers = self._answers(
            self._admin.describe_topics(question, include_authorized_operations=True, request_timeout=self._timeout_s)
        )
        return {topic: _rights(answer.authorized_operations) for topic, answer in answers.items()}

    def topic_ids(self, topics: Collection[str]) -> dict[str, str]:
        """The brokers' own name of each of these topics that exists: a topic made again has another one."""
        if not topics or self._is_embedded():
            return {}
        answers = self._answers(
            self._admin.describe_topics(TopicCollection(list(topics)), request_timeout=self._timeout_s)
        )
        return {topic: str(answer.topic_id) for topic, answer in answers.items()}

    def rights_on_group(self, group: str) -> Rights:
        """What we may do with a consumer group, whether it exists or not."""
        return _rights(self._group(group, include_authorized_operations=True).authorized_operations)

    def has_member(self, group: str, member_id: str) -> bool:
        """Whether the group has a member of this id; an empty id is nobody's."""
        return bool(member_id) and any(one.member_id == member_id for one in self._group(group).members)

    def committed(self, group: str, partitions: Collection[Partition]) -> dict[Partition, int | None]:
        """The group's committed offsets, None for a partition without one.

        The coordinator of a fresh cluster is not there for some seconds: ``timeout_s`` should be longer.
        """
        if not partitions:
            return {}
        return committed_offsets(self._properties, self._connection, self._logger, group, partitions, self._timeout_s)

    def measure(
        self,
        committed: Mapping[Partition, int | None],
        delay_ms: Callable[[str], int],
        now_ms: float,
        start_from: StartFrom = "earliest",
    ) -> list[PartitionLag]:
        """Waiting and overdue of each partition, given the first offset of it that is not done.

        Three requests per broker, and a few reads of a partition whose border lies before that offset. A partition
        whose leader does not answer has no counts. A transaction marker counts as a record (see `examine`): a
        service that has read to the end and holds nothing gives the end, or its last marker would become overdue.
        """
        bounds = self._log_bounds({one: first_waiting_ms(now_ms, delay_ms(one.topic)) for one in committed})
        lags = {
            one: partition_lag(one, offset, bounds.get(one), delay_ms(one.topic), start_from)
            for one, offset in committed.items()
        }
        hidden = [lag for lag in lags.values() if lag.border_is_hidden]
        lags |= {lag.partition: lag for lag in examine(hidden, delay_ms, now_ms, self.first_records)}
        return list(lags.values())

    def first_records(self, offsets: Mapping[Partition, int]) -> dict[Partition, RecordTime | None]:
        """The first committed record at or after each offset, None where the log ends before one.

        Reads without a group. A partition that does not answer in time is left out.
        """
        if not offsets:
            return {}
        if self._reader is None:
            self._reader = RecordReader(self._properties, self._connection, self._logger)
        return self._reader.first_records(offsets, self._timeout_s)

    def retention_ms(self, topics: Collection[str]) -> dict[str, int | None]:
        """How long each topic keeps its records; None: however old they are.

        That is so without a limit of time, and where the topic is only compacted: there a record lives until a later
        one of its key. ``retention.bytes`` may delete sooner, but cannot be compared with a delay.
        A topic whose configuration we may not see is left out.
        """
        return {topic: _retention_ms(settings) for topic, settings in self._topic_settings(topics).items()}

    def max_message_bytes(self, topic: str) -> int | None:
        """The largest batch that the topic takes; None: we may not see it."""
        return self.message_limits([topic]).get(topic)

    def message_limits(self, topics: Collection[str]) -> dict[str, int]:
        """The largest batch that each topic takes, in bytes. One whose configuration we may not see is left out."""
        limits = {
            topic: settings["max.message.bytes"].value for topic, settings in self._topic_settings(topics).items()
        }
        return {topic: int(str(limit)) for topic, limit in limits.items()}

    def create_topic(self, topic: str, partitions: int, settings: Mapping[str, str], *, only_ask: bool = False) -> None:
        """Creates it, with the replication that the brokers give by default, and waits until they list it.

        One that is there already is fine: another instance may create it at the same time. ``only_ask``: whether
        they would.

        Raises:
            ConfigError: the brokers do not create such a topic.
        """
        new = NewTopic(topic, num_partitions=partitions, config=dict(settings))
        future = self._admin.create_topics([new], request_timeout=self._timeout_s, validate_only=only_ask)[topic]
        self._wait([future])
        error = _error_of(future)
        if error is not None and error.code() != KafkaError.TOPIC_ALREADY_EXISTS:
            if is_denial(error) or error.retriable() or error.code() in _NO_ANSWER:
                raise self._connection.translated(error, f"the topic {topic}")
            raise ConfigError([f"the brokers do not create the topic {topic}: {error.str()}"])
        if not only_ask:
            self._await_topic(topic)

    def _group(self, group: str, include_authorized_operations: bool = False) -> Any:
        deadline = time.monotonic() + self._timeout_s
        while True:
            future = self._admin.describe_consumer_groups(
                [group],
                include_authorized_operations=include_authorized_operations,
                request_timeout=self._timeout_s,
            )[group]
            self._wait([future])
            error = _error_of(future)
            if error is None:
                return future.result()
            if error.code() not in _COORDINATOR_IS_COMING or time.monotonic() > deadline:
                raise self._connection.translated(error, f"the group {group}")
            time.sleep(_COORDINATOR_TURN_S)

    def _topic_settings(self, topics: Collection[str]) -> dict[str, Mapping[str, ConfigEntry]]:
        if not topics:
            return {}
        resources = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in topics]
        futures = self._admin.describe_configs(resources, request_timeout=self._timeout_s)
        self._wait(futures.values())
        return {one.name: future.result() for one, future in futures.items() if not _error_of(future)}

    def _all_topics(self) -> dict[str, int]:
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                metadata = self._admin.list_topics(timeout=min(1.0, self._timeout_s))
            except KafkaException as error:
                self._admin.poll(0)
                self._connection.raise_if_denied()
                if time.monotonic() > deadline:
                    raise self._connection.translated(error.args[0]) from error
            else:
                return {name: len(topic.partitions) for name, topic in metadata.topics.items()}

    def _await_topic(self, topic: str) -> None:
        deadline = time.monotonic() + self._timeout_s
        while topic not in self._all_topics():
            if time.monotonic() > deadline:
                raise UnreachableError(f"the topic {topic} was created and is not listed yet")
            time.sleep(_TURN_S)

    def _log_bounds(self, waiting_from_ms: Mapping[Partition, int]) -> dict[Partition, LogBounds]:
        if not waiting_from_ms or self._is_embedded():
            return {}
        questions: tuple[Mapping[Partition, OffsetSpec], ...] = (
            dict.fromkeys(waiting_from_ms, _EARLIEST),
            {one: OffsetSpec.for_timestamp(at_ms) for one, at_ms in waiting_from_ms.items()},
            dict.fromkeys(waiting_from_ms, _LATEST),
        )
        # All are asked before the first answer is awaited: one leader that is away costs one time-out, not three.
        firsts, borders, ends = (self._offsets(futures) for futures in [self._ask_offsets(one) for one in questions])
        return {
            one: LogBounds(firsts[one].offset, ends[one].offset, borders[one] if borders[one].offset >= 0 else None)
            for one in firsts.keys() & borders.keys() & ends.keys()
        }

    def _is_embedded(self) -> bool:
        """librdkafka's embedded cluster answers every lookup by time as if nothing were that late."""
        try:
            cluster_id = self._admin.cluster_id(timeout=self._timeout_s)
        except KafkaException as error:
            self._admin.poll(0)
            raise self._connection.translated(error.args[0]) from error
        return str(cluster_id).startswith("mockCluster")

    def _ask_offsets(self, specs: Mapping[Partition, OffsetSpec]) -> Mapping[TopicPartition, Future[Any]]:
        return self._admin.list_offsets(
            {TopicPartition(*partition): spec for partition, spec in specs.items()},
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=self._timeout_s,
        )

    def _offsets(self, futures: Mapping[TopicPartition, Future[Any]]) -> dict[Partition, RecordTime]:
        return {
            Partition(one.topic, one.partition): RecordTime(answer.offset, answer.timestamp)
            for one, answer in self._answers(futures).items()
            if answer.offset != OFFSET_INVALID  # what librdkafka 2.16 says, without an error, of a silent leader
        }

    def _answers(self, futures: Mapping[Key, Future[Any]]) -> dict[Key, Any]:
        """The answers that came: what does not exist is left out, and what did not answer, unless that is all."""
        self._wait(futures.values())
        errors = {key: error for key, future in futures.items() if (error := _error_of(future)) is not None}
        silent = len(errors) == len(futures) and all(error.code() in _NO_ANSWER for error in errors.values())
        for key, error in errors.items():
            if silent or is_denial(error):
                raise self._connection.translated(error, f"the topic {getattr(key, 'topic', key)}")
        return {key: future.result() for key, future in futures.items() if key not in errors}

    def _wait(self, futures: Collection[Future[Any]]) -> None:
        while wait(futures, _TURN_S).not_done:
            self._admin.poll(0)
            self._connection.raise_if_denied()

    def _new_admin(self) -> AdminClient:
        """To be kept while its answers are waited for: futures of one that is gone fail with _DESTROY."""
        properties: dict[str, Any] = {**self._properties, "error_cb": self._connection.on_error}
        return AdminClient(properties, logger=self._logger)


def missing_topics(subscriptions: Sequence[str], existing: Collection[str]) -> list[str]:
    """The topics subscribed to by their name that do not exist."""
    return [name for name in subscriptions if not name.startswith("^") and name not in existing]


def _error_of(future: Future[Any]) -> KafkaError | None:
    error = future.exception()
    if error is not None and not isinstance(error, KafkaException):
        raise error
    return None if error is None else error.args[0]


def _rights(operations: Collection[AclOperation] | None) -> Rights:
    allowed = set(operations or ())
    return Rights(read=AclOperation.READ in allowed, write=AclOperation.WRITE in allowed)


def _retention_ms(settings: Mapping[str, ConfigEntry]) -> int | None:
    if "delete" not in str(settings["cleanup.policy"].value).split(","):
        return None
    kept_ms = int(str(settings["retention.ms"].value))
    return kept_ms if kept_ms >= 0 else None
