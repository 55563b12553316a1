"""Retry topics and a dead-letter topic that we have no right to: refused at the start, waited for while running."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are public, but not marked so
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from delayed_consumer.check_config import check_config
from delayed_consumer.errors import AuthError, ConfigError
from delayed_consumer.settings import Settings
from load.broker import Broker, available
from tests.conftest import ServiceStarter
from tests.kafka.test_dead_letters import LARGE, SMALL_TARGET, relay_to
from tests.support.topics import Record, admin, committed, create_topic, now_ms, read_all, unique

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """The address of a broker that lets everybody do what no rule forbids."""
    missing = available()
    if missing and os.environ.get("CI") == "true":
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    authorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
    with Broker({"authorizer.class.name": authorizer, "allow.everyone.if.no.acl.found": "true"}) as broker:
        yield broker.bootstrap


def forbid(bootstrap: str, name: str, operation: AclOperation, kind: ResourceType = ResourceType.TOPIC) -> None:
    both = [(operation, AclPermissionType.DENY), (AclOperation.ALL, AclPermissionType.ALLOW)]
    rules = [
        AclBinding(kind, name, ResourcePatternType.LITERAL, "User:*", "*", one, permission) for one, permission in both
    ]
    client = admin(bootstrap)
    for future in client.create_acls(rules).values():
        future.result(20)


def permit(bootstrap: str, name: str, kind: ResourceType = ResourceType.TOPIC) -> None:
    every = (AclOperation.ANY, AclPermissionType.DENY)
    rules = AclBindingFilter(kind, name, ResourcePatternType.LITERAL, "User:*", "*", *every)
    client = admin(bootstrap)
    for future in client.delete_acls([rules]).values():
        future.result(20)


def test_retry_topics_that_we_may_not_create_are_refused_with_what_to_create(
    guarded: str, start: ServiceStarter
) -> None:
    topic = create_topic(guarded, partitions=3)
    missing = f"{topic.name}.retry.1"
    cluster = ("kafka-cluster", ResourceType.BROKER)
    forbid(guarded, missing, AclOperation.CREATE)
    forbid(guarded, cluster[0], AclOperation.CREATE, cluster[1])
    service = start(topic, RETRY_DELAYS_SECONDS=60)
    assert service.wait_for_exit() == 77
    [reason] = service.events("failed")
    assert f"create {missing} with 3 partitions and cleanup.policy=delete, retention.ms=604800000" in reason["message"]
    variables = {"KAFKA_BOOTSTRAP_SERVERS": guarded, "KAFKA_TOPICS": topic.name, "KAFKA_GROUP_ID": topic.name}
    with pytest.raises(AuthError, match=f"create {missing} with 3 partitions"):
        check_config(
            Settings({**variables, "RETRY_DELAYS_SECONDS": "60"}), as_json=True, connect=True, out=io.StringIO()
        )
    permit(guarded, *cluster)
    assert (
        check_config(
            Settings({**variables, "RETRY_DELAYS_SECONDS": "60"}), as_json=True, connect=True, out=io.StringIO()
        )
        == 0
    )
    assert missing not in admin(guarded).list_topics(timeout=10).topics, "check-config only asks"


def test_a_dead_letter_topic_that_we_may_not_write_to_is_refused(guarded: str, start: ServiceStarter) -> None:
    topic, dead_letters = create_topic(guarded), create_topic(guarded)
    forbid(guarded, dead_letters.name, AclOperation.WRITE)
    policy = {"ON_FAILURE": "dead-letter", "DEAD_LETTER_TOPIC": dead_letters.name}
    service = start(topic, **policy)
    assert service.wait_for_exit() == 77
    [reason] = service.events("failed")
    expected = f"DEAD_LETTER_TOPIC: we may not write to the topic {dead_letters.name}"
    assert expected in reason["message"]
    variables = {"KAFKA_BOOTSTRAP_SERVERS": guarded, "KAFKA_TOPICS": topic.name, **policy}
    with pytest.raises(AuthError, match=expected):
        check_config(Settings(variables), as_json=True, connect=True, out=io.StringIO())
    missing = unique("missing")
    with pytest.raises(ConfigError, match=f"DEAD_LETTER_TOPIC: the topic {missing} does not exist"):
        check_config(
            Settings({**variables, "DEAD_LETTER_TOPIC": missing}), as_json=True, connect=True, out=io.StringIO()
        )


@pytest.mark.parametrize("delivery", ["at-least-once", "exactly-once"])
def test_a_right_that_is_taken_while_running_blocks_until_it_is_given_back(
    guarded: str, start: ServiceStarter, delivery: str
) -> None:
    topic, dead_letters = create_topic(guarded), create_topic(guarded)
    target = create_topic(guarded, config=SMALL_TARGET)
    service = start(topic, **relay_to(target, dead_letters, DELIVERY=delivery))
    service.wait_for_event("assigned")
    forbid(guarded, dead_letters.name, AclOperation.WRITE)
    topic.produce(Record(now_ms(), LARGE), Record(now_ms(), b"behind"))
    said = service.wait_for_event("cannot_forward")
    assert "authoriz" in said["message"].lower()
    assert committed(topic)[0] in (None, 0)
    permit(guarded, dead_letters.name)
    service.wait_until(lambda: committed(topic) == {0: 2}, 60, "the dead letter")
    assert [message.value() for message in read_all(dead_letters, 1)] == [LARGE]
    assert service.metric("dead_lettered_total") == 1
