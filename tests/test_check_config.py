"""What check-config shows, and that it never shows a secret."""

from __future__ import annotations

import io
import json
import os
import socket
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are public, but not marked so
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from delayed_consumer.check_config import check_config
from delayed_consumer.errors import AuthError, ConfigError, UnreachableError
from delayed_consumer.settings import Settings
from load.broker import Broker, available

REQUIRED = {"KAFKA_BOOTSTRAP_SERVERS": "localhost:9092", "KAFKA_TOPICS": "orders,^shop"}
CANARY = "c4n4ry"


def shown(variables: Mapping[str, str] = {}, /, *, as_json: bool = False, **arguments: Any) -> str:
    out = io.StringIO()
    code = check_config(Settings({**REQUIRED, **variables}, **arguments), as_json=as_json, connect=False, out=out)
    assert code == 0
    return out.getvalue()


def rows(text: str) -> dict[str, list[str]]:
    return {name: cells for name, *cells in (line.split() for line in text.splitlines())}


def test_every_setting_is_in_the_table_with_its_value_and_source() -> None:
    table = rows(shown({"DELAY_SECONDS": "60", "KAFKA_CONF_CLIENT_ID": "a"}, sink="topic", sink_topic="later"))
    assert {name.upper() for name in Settings.model_fields} - {"KAFKA_CONF"} <= table.keys()
    assert table["DELAY_SECONDS"] == ["60.0", "environment"]
    assert table["KAFKA_TOPICS"] == ["orders,^shop", "environment"]
    assert table["KAFKA_CONF_CLIENT_ID"] == ["a", "environment"]
    assert table["SINK_TOPIC"] == ["later", "argument"]
    assert table["SINK_TOPIC_TIMESTAMP"] == ["delivery", "default"]
    assert table["KAFKA_SASL_PASSWORD"] == ["default"]


def test_a_long_value_is_not_broken_in_a_pipe() -> None:
    servers = ",".join(f"broker-{number}.example.com:9092" for number in range(20))
    assert rows(shown({"KAFKA_BOOTSTRAP_SERVERS": servers}))["KAFKA_BOOTSTRAP_SERVERS"] == [servers, "environment"]


def test_a_value_that_looks_like_markup_is_shown_as_it_is() -> None:
    assert rows(shown({"KAFKA_TOPICS": "^[a]"}))["KAFKA_TOPICS"] == ["^[a]", "environment"]


def test_json_has_settings_warnings_and_topics() -> None:
    answer = json.loads(shown({"KAFKA_BOOTSTRAP_SERVERS": "kafka:1", "HOLD_MAX_BYTES": "1MiB"}, as_json=True))
    assert answer.keys() == {"settings", "warnings", "topics"}
    assert answer["settings"]["HOLD_MAX_BYTES"] == {"value": 1_048_576, "source": "environment"}
    assert answer["settings"]["KAFKA_TOPICS"] == {"value": ["orders", "^shop"], "source": "environment"}
    assert answer["settings"]["SINK_TOPIC"] == {"value": None, "source": "default"}
    assert len(answer["warnings"]) == 1
    assert answer["topics"] == []


def test_warnings_follow_the_table() -> None:
    assert "warning: KAFKA_SECURITY_PROTOCOL=PLAINTEXT sends every record" in shown(
        {"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092"}
    )


def test_properties_that_the_client_refuses_are_all_in_one_message() -> None:
    with pytest.raises(ConfigError) as raised:
        shown({"KAFKA_CONF_SESION_TIMEOUT_MS": "6000", "KAFKA_CONF_SOCKET_TIMEOUT_MS": "soon"})
    told = sorted(raised.value.problems)
    assert [one.partition(":")[0] for one in told] == ["KAFKA_CONF_SESION_TIMEOUT_MS", "KAFKA_CONF_SOCKET_TIMEOUT_MS"]


def test_properties_of_consumers_and_of_producers_are_accepted() -> None:
    shown(
        {"KAFKA_CONF_SESSION_TIMEOUT_MS": "6000", "KAFKA_CONF_LINGER_MS": "5", "KAFKA_CONF_GROUP_PROTOCOL": "classic"}
    )


@pytest.mark.parametrize("as_json", [True, False])
def test_no_secret_is_shown_however_it_was_given(tmp_path: Path, as_json: bool) -> None:
    path = tmp_path / "password"
    path.write_text(CANARY)
    login = {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_SASL_USERNAME": "service",
        "KAFKA_SASL_PASSWORD_FILE": str(path),
    }
    text = shown(
        {
            **login,
            "KAFKA_CONF_SSL_KEYSTORE_PASSWORD": CANARY,
            "KAFKA_CONF_SASL_OAUTHBEARER_CLIENT_SECRET": CANARY,
            "KAFKA_CONF_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL": f"https://user:{CANARY}@idp/token",
            "KAFKA_CONF_CLIENT_ID": f"https://user:{CANARY}@host/?secret={CANARY}",
            "SASL_PASSWORD": CANARY,
        },
        as_json=as_json,
    )
    assert CANARY not in text
    assert text.count("***") >= 5
    assert "file" in text


@pytest.mark.parametrize(
    "variable",
    [
        "KAFKA_CONF_SASL_OAUTHBEARER_CLIENT_SECERT",
        "KAFKA_CONF_SSL_KEY_PASWORD",
        "KAFKA_CONF_SSL_CA_PEM",
    ],
)
def test_no_secret_is_in_what_the_client_says_of_a_property_that_it_refuses(variable: str) -> None:
    with pytest.raises(ConfigError) as raised:
        shown({"KAFKA_SECURITY_PROTOCOL": "SSL", variable: CANARY})
    assert CANARY not in "".join(traceback.format_exception(raised.value))
    assert variable in str(raised.value)


def test_brokers_that_do_not_answer_are_told_after_the_settings() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        servers = f"127.0.0.1:{unused.getsockname()[1]}"
        settings = Settings({**REQUIRED, "KAFKA_BOOTSTRAP_SERVERS": servers, "START_TIMEOUT_SECONDS": "1"})
        out = io.StringIO()
        with pytest.raises(UnreachableError, match=servers):
            check_config(settings, as_json=False, connect=True, out=out)
    assert rows(out.getvalue())["KAFKA_BOOTSTRAP_SERVERS"] == [servers, "environment"]


# --- --connect, on a real broker that guards what is in _FORBIDDEN

_TOPICS = {"orders": {"retention.ms": "3600000"}, "compacted": {"cleanup.policy": "compact"}, "later": {}, "closed": {}}
_FORBIDDEN = [
    (ResourceType.TOPIC, "closed", AclOperation.READ),
    (ResourceType.TOPIC, "later", AclOperation.WRITE),
    (ResourceType.GROUP, "strangers", AclOperation.READ),
]


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """The address of a broker that lets everybody in, but not to everything."""
    missing = available()
    if missing and os.environ.get("CI") == "true":
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    authorizer = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    with Broker(authorizer) as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        topics = [NewTopic(name, num_partitions=2, config=config) for name, config in _TOPICS.items()]
        rules = [_rule(*one, AclPermissionType.DENY) for one in _FORBIDDEN]
        rules += [_rule(kind, name, AclOperation.ALL, AclPermissionType.ALLOW) for kind, name, _ in _FORBIDDEN]
        for future in [*admin.create_topics(topics).values(), *admin.create_acls(rules).values()]:
            future.result(20)
        yield broker.bootstrap


def _rule(kind: ResourceType, name: str, operation: AclOperation, permission: AclPermissionType) -> AclBinding:
    return AclBinding(kind, name, ResourcePatternType.LITERAL, "User:*", "*", operation, permission)


def connected(bootstrap: str, variables: Mapping[str, str]) -> dict[str, Any]:
    settings = Settings({"KAFKA_BOOTSTRAP_SERVERS": bootstrap, "KAFKA_TOPICS": "orders", **variables})
    out = io.StringIO()
    assert check_config(settings, as_json=True, connect=True, out=out) == 0
    answer: dict[str, Any] = json.loads(out.getvalue())
    return answer


@pytest.mark.kafka
def test_connected_it_shows_what_the_brokers_say_of_each_topic(guarded: str) -> None:
    answer = connected(guarded, {"KAFKA_TOPICS": "^(orders|compacted)$", "DELAY_SECONDS_BY_TOPIC": '{"orders": 60}'})
    assert answer["topics"] == [
        {"topic": "compacted", "partitions": 2, "delay_seconds": 900, "retention_seconds": None},
        {"topic": "orders", "partitions": 2, "delay_seconds": 60, "retention_seconds": 3600},
    ]


@pytest.mark.kafka
def test_connected_all_that_the_brokers_lack_is_in_one_message_after_the_settings(guarded: str) -> None:
    variables = {
        "KAFKA_BOOTSTRAP_SERVERS": guarded,
        "KAFKA_TOPICS": "orders,closed,returns",
        "DELAY_SECONDS": "3600",
        "SINK": "topic",
        "SINK_TOPIC": "nowhere",
    }
    out = io.StringIO()
    with pytest.raises(ConfigError) as raised:
        check_config(Settings(variables), as_json=False, connect=True, out=out)
    assert raised.value.problems == (
        "KAFKA_TOPICS: the topic returns does not exist; create it",
        "SINK_TOPIC: the topic nowhere does not exist; create it",
        "the topic orders keeps records for 3600 s, not longer than their delay of 3600 s: "
        "they are deleted before they are due; raise its retention.ms",
        "KAFKA_TOPICS: we may not read the topic closed; permit it",
    )
    assert rows(out.getvalue())["SINK_TOPIC"] == ["nowhere", "environment"]
    assert rows(out.getvalue())["orders"] == ["2", "3600", "s", "3600", "s"]


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"KAFKA_TOPICS": "closed"}, "KAFKA_TOPICS: we may not read the topic closed"),
        ({"SINK": "topic", "SINK_TOPIC": "later"}, "SINK_TOPIC: we may not write to the topic later"),
        ({"KAFKA_GROUP_ID": "strangers"}, "KAFKA_GROUP_ID: we may not join the group strangers"),
    ],
)
def test_connected_what_is_not_permitted_is_told_as_such(
    guarded: str, variables: dict[str, str], expected: str
) -> None:
    with pytest.raises(AuthError, match=expected):
        connected(guarded, variables)
