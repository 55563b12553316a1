"""What can be asked without brokers, and of the embedded cluster."""

from __future__ import annotations

import pytest

from delayed_consumer.core.records import Partition
from delayed_consumer.embedded import EmbeddedCluster
from delayed_consumer.errors import ConfigError, UnreachableError
from delayed_consumer.probe import Probe, check_client_config, missing_topics


def test_only_names_can_be_missing() -> None:
    assert missing_topics(["orders", "^payments", "returns"], ["orders"]) == ["returns"]


def test_properties_that_the_client_takes_are_no_problem() -> None:
    check_client_config({"bootstrap.servers": "localhost:9092", "session.timeout.ms": "6000", "client.id": "me"})


def test_every_refused_property_is_named_as_its_variable() -> None:
    with pytest.raises(ConfigError) as refused:
        check_client_config({"session.timeout.ms": "soon", "client.id": "me", "no.such.property": "1"})
    first, second = refused.value.problems
    assert first.startswith("KAFKA_CONF_SESSION_TIMEOUT_MS: Invalid value")
    assert second.startswith("KAFKA_CONF_NO_SUCH_PROPERTY: No such")


def test_properties_that_contradict_each_other_are_both_named() -> None:
    with pytest.raises(ConfigError) as refused:
        check_client_config({"session.timeout.ms": "6000", "max.poll.interval.ms": "1000"})
    [problem] = refused.value.problems
    assert problem.startswith("KAFKA_CONF_SESSION_TIMEOUT_MS, KAFKA_CONF_MAX_POLL_INTERVAL_MS: ")


def test_a_property_that_the_client_calls_by_another_name_is_named_as_it_was_set() -> None:
    with pytest.raises(ConfigError, match=r"^KAFKA_CONF_COMPRESSION_TYPE: "):
        check_client_config({"compression.type": "wishful", "client.id": "me"})


def test_a_property_with_a_setting_of_its_own_is_named_as_that_setting() -> None:
    with pytest.raises(ConfigError, match=r"^KAFKA_SSL_CA_LOCATION: "):
        check_client_config({"security.protocol": "SSL", "ssl.ca.location": "/nonexistent"})


def test_what_is_missing_is_named_too() -> None:
    with pytest.raises(ConfigError, match="KAFKA_SASL_PASSWORD, KAFKA_SASL_USERNAME: "):
        check_client_config({"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"})


def test_the_embedded_cluster_tells_topics_and_commits_but_no_counts() -> None:
    cluster = EmbeddedCluster()
    count = cluster.create_topic("orders")
    orders = Partition("orders", 0)
    with Probe({"bootstrap.servers": cluster.bootstrap_servers}) as probe:
        assert probe.topics(["orders"]) == probe.topics(["^ord"]) == {"orders": count}
        assert probe.committed("group", [orders]) == {orders: None}
        [lag] = probe.measure({orders: 3}, lambda _: 1000, now_ms=5000.0)
    assert (lag.committed, lag.end, lag.waiting, lag.overdue) == (3, None, None, None)


def test_every_question_to_brokers_that_are_not_there_ends() -> None:
    orders = Partition("orders", 0)
    with Probe({"bootstrap.servers": "127.0.0.1:1"}, timeout_s=0.3) as probe:
        for question in (
            lambda: probe.topics(["orders"]),
            lambda: probe.committed("group", [orders]),
            lambda: probe.measure({orders: 0}, lambda _: 1000, now_ms=5000.0),
            lambda: probe.rights_on_topics(["orders"]),
            lambda: probe.rights_on_group("group"),
        ):
            with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1 do not answer: .*refused"):
                question()
        assert probe.first_records({orders: 0}) == {}
        assert probe.retention_ms(["orders"]) == {}
