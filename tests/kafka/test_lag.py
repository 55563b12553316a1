"""What `lag` says of logs that a real broker keeps."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are public, but not marked so
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from delayed_consumer.core.records import Partition
from delayed_consumer.errors import AuthError, ConfigError, UnreachableError
from delayed_consumer.lag import lag
from delayed_consumer.probe import Probe, Rights
from delayed_consumer.settings import Settings
from load.broker import Broker, free_ports
from tests.conftest import Kafka
from tests.support.topics import Record, Topic, admin, create_topic, now_ms, send, unique
from tests.support.wait import wait_until

DELAY_SECONDS = 900
HOUR_MS = 3_600_000
DELAY_MS = DELAY_SECONDS * 1000
TIMEOUT_SECONDS = 20.0


def settings(bootstrap: str, topics: str, group: str, **more: str) -> Settings:
    return Settings(
        {
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "KAFKA_TOPICS": topics,
            "KAFKA_GROUP_ID": group,
            "DELAY_SECONDS": str(DELAY_SECONDS),
            "START_TIMEOUT_SECONDS": "10",
            **more,
        }
    )


def ask(topic: Topic, **more: str) -> dict[str, Any]:
    """The document of `lag --json`; the group is called as the topic."""
    out = io.StringIO()
    assert lag(settings(topic.bootstrap, topic.name, topic.name, **more), as_json=True, out=out) == 0
    document: dict[str, Any] = json.loads(out.getvalue())
    return document


def only_partition(topic: Topic, **more: str) -> dict[str, Any]:
    [partition] = ask(topic, **more)["partitions"]
    return dict(partition)


def counts(partition: Mapping[str, Any]) -> tuple[int, int]:
    return partition["overdue"], partition["waiting"]


def due(count: int = 1) -> list[Record]:
    return [Record(now_ms() - HOUR_MS)] * count


def waiting(count: int = 1) -> list[Record]:
    return [Record(now_ms())] * count


def commit(topic: Topic, offset: int, partition: int = 0) -> None:
    consumer = Consumer({"bootstrap.servers": topic.bootstrap, "group.id": topic.name, "log_level": 0})
    try:
        consumer.commit(offsets=[TopicPartition(topic.name, partition, offset)], asynchronous=False)
    finally:
        consumer.close()


def transactional(topic: Topic) -> Producer:
    producer = Producer({"bootstrap.servers": topic.bootstrap, "transactional.id": topic.name, "log_level": 0})
    producer.init_transactions(TIMEOUT_SECONDS)
    return producer


def test_due_records_are_overdue_and_others_wait(kafka: Kafka) -> None:
    topic = create_topic(kafka.bootstrap, partitions=3)
    first_waiting_ms = now_ms() - DELAY_MS + HOUR_MS
    topic.produce(*due(5), *[Record(first_waiting_ms + index) for index in range(7)], Record(now_ms(), partition=2))
    commit(topic, 2)
    document = ask(topic)
    assert [one["partition"] for one in document["partitions"]] == [0, 1, 2]
    assert [counts(one) for one in document["partitions"]] == [(3, 7), (0, 0), (0, 1)]
    assert [one["committed"] for one in document["partitions"]] == [2, None, None]
    assert [one["end"] for one in document["partitions"]] == [12, 0, 1]
    assert document["partitions"][0]["next_due_ms"] == first_waiting_ms + DELAY_MS
    assert document["partitions"][1]["next_due_ms"] is None
    age_seconds = (HOUR_MS - DELAY_MS) / 1000
    assert age_seconds <= document["partitions"][0]["oldest_overdue_seconds"] < age_seconds + 60
    assert document["totals"]["overdue"] == 3
    assert document["totals"]["waiting"] == 8


def test_a_group_without_a_commit_is_counted_from_where_it_would_start(kafka: Kafka) -> None:
    topic = create_topic(kafka.bootstrap)
    topic.produce(*due(4), *waiting(2))
    assert counts(only_partition(topic)) == (4, 2)
    assert counts(only_partition(topic, START_FROM="latest")) == (0, 0)


def test_an_old_record_behind_one_that_waits_waits_with_it(kafka: Kafka) -> None:
    topic = create_topic(kafka.bootstrap)
    topic.produce(*due(2), *waiting(), *due(3))
    assert counts(only_partition(topic)) == (2, 4)


def test_a_future_record_that_is_done_hides_nothing_that_became_due_behind_it(kafka: Kafka) -> None:
    topic = create_topic(kafka.bootstrap)
    topic.produce(Record(now_ms() + HOUR_MS // 2), *due(3_000), *waiting(2_000), linger_ms=100)
    commit(topic, 1)
    partition = only_partition(topic)
    assert counts(partition) == (3_000, 2_000)
    assert partition["next_due_ms"] == topic.records[0, 3_001].timestamp_ms + DELAY_MS


def test_deleted_records_are_not_overdue(kafka: Kafka) -> None:
    topic = create_topic(kafka.bootstrap)
    topic.produce(*due(6), *waiting(2))
    commit(topic, 1)
    client = admin(kafka.bootstrap)
    [deleted] = client.delete_records([TopicPartition(topic.name, 0, 4)]).values()
    deleted.result(TIMEOUT_SECONDS)
    assert counts(only_partition(topic)) == (2, 2)


def test_transaction_markers_are_neither_overdue_nor_waiting(kafka: Kafka) -> None:
    topic = create_topic(kafka.bootstrap)
    producer = transactional(topic)
    for _ in range(2):
        producer.begin_transaction()
        send(producer, topic, due(2))
        producer.commit_transaction(TIMEOUT_SECONDS)
    # Two records, a marker, two records, a marker; the markers have the time of now.
    partition = only_partition(topic)
    assert counts(partition) == (6, 0)
    assert partition["next_due_ms"] is None
    commit(topic, 5)
    assert counts(only_partition(topic)) == (0, 0)


def test_aborted_records_are_passed_over(kafka: Kafka) -> None:
    topic = create_topic(kafka.bootstrap)
    producer = transactional(topic)
    producer.begin_transaction()
    send(producer, topic, due(10))
    producer.flush(TIMEOUT_SECONDS)
    producer.abort_transaction(TIMEOUT_SECONDS)
    assert counts(only_partition(topic)) == (0, 0)
    topic.produce(*due(1), *waiting(1))
    assert counts(only_partition(topic)) == (1, 1)


def test_records_of_an_open_transaction_are_not_there_yet(kafka: Kafka) -> None:
    topic = create_topic(kafka.bootstrap)
    topic.produce(*due(1))
    producer = transactional(topic)
    producer.begin_transaction()
    send(producer, topic, due(3))
    producer.flush(TIMEOUT_SECONDS)
    assert counts(only_partition(topic)) == (1, 0)
    producer.abort_transaction(TIMEOUT_SECONDS)


def test_compacted_gaps_before_the_first_record_are_passed_over(kafka: Kafka) -> None:
    compacted = {"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01"}
    topic = create_topic(kafka.bootstrap, config=compacted)

    def gap() -> bool:
        # A segment is compacted once it is not the last one, which rolls when something is written.
        topic.produce(Record(now_ms() - HOUR_MS, key=b"same"))
        with Probe({"bootstrap.servers": kafka.bootstrap}) as probe:
            first = probe.first_records({Partition(topic.name, 0): 0})[Partition(topic.name, 0)]
        return first is not None and first.offset > 0

    wait_until(gap, what="a gap by compaction")
    partition = only_partition(topic)
    assert 0 < partition["overdue"] < partition["end"]
    with Probe({"bootstrap.servers": kafka.bootstrap}) as probe:
        assert probe.retention_ms([topic.name]) == {topic.name: None}


def test_a_regular_expression_takes_in_its_topics_and_no_internal_one(kafka: Kafka) -> None:
    topics = [create_topic(kafka.bootstrap, name=name) for name in (unique("regexlag-a"), unique("regexlag-b"))]
    topics[0].produce(*due(1))
    out = io.StringIO()
    lag(settings(kafka.bootstrap, "^regexlag-", topics[0].name), as_json=True, out=out)
    assert [one["topic"] for one in json.loads(out.getvalue())["partitions"]] == [one.name for one in topics]
    commit(topics[0], 0)  # now there is a topic of commits
    with Probe({"bootstrap.servers": kafka.bootstrap}) as probe:
        assert "__consumer_offsets" not in probe.topics(["^"])


def test_every_one_of_many_partitions_is_measured_and_examined(kafka: Kafka) -> None:
    topic = create_topic(kafka.bootstrap, partitions=100)
    topic.produce(*[Record(now_ms() - HOUR_MS, partition=number) for number in range(100)] * 2)
    assert [counts(one) for one in ask(topic)["partitions"]] == [(2, 0)] * 100


def test_the_retention_of_a_topic_is_told_in_milliseconds(kafka: Kafka) -> None:
    kept = create_topic(kafka.bootstrap, config={"retention.ms": "7200000"})
    for_ever = create_topic(kafka.bootstrap, config={"retention.ms": "-1"})
    with Probe({"bootstrap.servers": kafka.bootstrap}) as probe:
        found = probe.retention_ms([kept.name, for_ever.name, unique("missing")])
    assert found == {kept.name: 7_200_000, for_ever.name: None}


def test_the_table_says_that_there_is_no_commit_yet(kafka: Kafka) -> None:
    topic = create_topic(kafka.bootstrap)
    out = io.StringIO()
    lag(settings(kafka.bootstrap, topic.name, "nobody"), as_json=False, out=out)
    assert out.getvalue().splitlines()[-1] == "group nobody has no commit yet: counted as START_FROM=earliest does"


def test_brokers_that_are_not_there_are_named() -> None:
    [port] = free_ports(1)
    nowhere = f"127.0.0.1:{port}"
    with pytest.raises(UnreachableError, match=nowhere):
        lag(settings(nowhere, "orders", "g", START_TIMEOUT_SECONDS="0.5"), as_json=True, out=io.StringIO())


class GuardedBroker(Broker):
    """Has a second listener, which wants a password and permits only what ACLs say. Creates topics on demand."""

    def __init__(self) -> None:
        [port] = free_ports(1)
        self.guarded = f"127.0.0.1:{port}"
        super().__init__()

    def _properties(self) -> dict[str, str]:
        properties = super()._properties()
        login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
        return {
            **properties,
            "listeners": f"{properties['listeners']},GUARDED://{self.guarded}",
            "advertised.listeners": f"{properties['advertised.listeners']},GUARDED://{self.guarded}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,GUARDED:SASL_PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.guarded.plain.sasl.jaas.config": f'{login} user_somebody="right";',
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "auto.create.topics.enable": "true",
        }


@pytest.fixture(scope="module")
def guarded(kafka: Kafka) -> Iterator[GuardedBroker]:
    """Started here also where there is a cluster for the other tests."""
    broker = GuardedBroker()
    with broker:
        yield broker


def login(password: str) -> dict[str, str]:
    return {
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_SASL_USERNAME": "somebody",
        "KAFKA_SASL_PASSWORD": password,
    }


def permit(broker: GuardedBroker, topic: str, operation: str, group: str = "") -> None:
    """Lets somebody do that with the topic, and read with the group; returns when the listener knows it."""
    client = admin(broker.bootstrap)
    rights = [right(ResourceType.TOPIC, topic, operation)]
    if group:
        rights.insert(0, right(ResourceType.GROUP, group, "READ"))
    for one in rights:
        client.create_acls([one])[one].result(TIMEOUT_SECONDS)
    with Probe(settings(broker.guarded, topic, "g", **login("right")).client_config()) as probe:
        wait_until(lambda: topic in probe.topics(["^"]), what="the ACL to arrive")


def right(kind: ResourceType, name: str, operation: str) -> AclBinding:
    whose = "User:somebody"
    return AclBinding(
        kind, name, ResourcePatternType.LITERAL, whose, "*", AclOperation[operation], AclPermissionType.ALLOW
    )


def test_a_missing_topic_is_named_and_not_created(guarded: GuardedBroker) -> None:
    name = unique("missing")
    with pytest.raises(ConfigError, match=name):
        lag(settings(guarded.bootstrap, name, "g"), as_json=True, out=io.StringIO())
    assert name not in admin(guarded.bootstrap).list_topics(timeout=TIMEOUT_SECONDS).topics


def test_a_wrong_password_is_told_at_once(guarded: GuardedBroker) -> None:
    begun_ms = now_ms()
    with pytest.raises(AuthError, match="Authentication failed") as refused:
        lag(settings(guarded.guarded, "orders", "g", **login("wrong")), as_json=True, out=io.StringIO())
    assert now_ms() - begun_ms < 5_000
    assert "wrong" not in str(refused.value)


def test_a_topic_that_we_may_not_see_is_denied_rather_than_missing(guarded: GuardedBroker) -> None:
    topic = create_topic(guarded.bootstrap)
    with pytest.raises(AuthError, match=f"the topic {topic.name}: .*authorization failed"):
        lag(settings(guarded.guarded, topic.name, "g", **login("right")), as_json=True, out=io.StringIO())


def test_a_group_that_we_may_not_see_is_denied(guarded: GuardedBroker) -> None:
    topic = create_topic(guarded.bootstrap)
    permit(guarded, topic.name, "DESCRIBE")
    with pytest.raises(AuthError, match=r"the group g: .*authorization failed"):
        lag(settings(guarded.guarded, topic.name, "g", **login("right")), as_json=True, out=io.StringIO())


def test_reading_the_topic_and_the_group_is_all_that_has_to_be_permitted(guarded: GuardedBroker) -> None:
    topic = create_topic(guarded.bootstrap)
    topic.produce(*due(2), *waiting(1))
    permit(guarded, topic.name, "READ", group=topic.name)
    out = io.StringIO()
    lag(settings(guarded.guarded, topic.name, topic.name, **login("right")), as_json=True, out=out)
    [partition] = json.loads(out.getvalue())["partitions"]
    assert counts(partition) == (2, 1)
    assert partition["oldest_overdue_seconds"] > 0


def test_what_we_may_do_with_a_topic_is_told(guarded: GuardedBroker) -> None:
    topic = create_topic(guarded.bootstrap)
    permit(guarded, topic.name, "READ")
    config = settings(guarded.guarded, topic.name, "g", **login("right")).client_config()
    with Probe(config) as probe:
        assert probe.rights_on_topics([topic.name]) == {topic.name: Rights(read=True, write=False)}
        assert probe.retention_ms([topic.name]) == {}
        with pytest.raises(AuthError, match="the group g"):
            probe.rights_on_group("g")
