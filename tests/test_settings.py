"""What may be set, what is refused, and that every problem is told at once and no secret ever."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delayed_consumer import client_properties
from delayed_consumer.errors import ConfigError
from delayed_consumer.masking import looks_secret, mask_text
from delayed_consumer.setting_rules import USED_BY_SINK
from delayed_consumer.settings import Settings
from delayed_consumer.variables import FROM_FILES

REQUIRED = {"KAFKA_BOOTSTRAP_SERVERS": "localhost:9092", "KAFKA_TOPICS": "orders"}
LOGIN = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "KAFKA_SASL_USERNAME": "service",
    "KAFKA_SASL_PASSWORD": "secret",
}
CANARY = "c4n4ry"


def load(variables: Mapping[str, str] = {}, /, **arguments: Any) -> Settings:
    return Settings({**REQUIRED, **variables}, **arguments)


def problems(variables: Mapping[str, str] = {}, /, **arguments: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as raised:
        load(variables, **arguments)
    return raised.value.problems


def problem(variables: Mapping[str, str] = {}, /, **arguments: Any) -> str:
    [only] = problems(variables, **arguments)
    return only


# --- defaults, arguments, the environment


def test_the_defaults_are_those_of_the_interface() -> None:
    settings = load()
    assert settings.delay_seconds == 900
    assert settings.kafka_group_id == "delayed-consumer"
    assert (settings.start_from, settings.on_data_loss, settings.delivery) == ("earliest", "stop", "at-least-once")
    assert (settings.commit_interval_seconds, settings.commit_every_records) == (5, 0)
    assert (settings.sink, settings.sink_topic_timestamp, settings.ordering) == ("log", "delivery", "partition")
    assert (settings.lookahead_seconds, settings.hold_max_bytes, settings.hold_max_records) == (4, 64 * 2**20, 200_000)
    assert (settings.on_failure, settings.max_future_seconds, settings.on_future_timestamp) == ("stop", 86_400, "wait")
    assert (settings.start_timeout_seconds, settings.shutdown_grace_seconds) == (60, 20)
    assert (settings.http_host, settings.http_port) == ("127.0.0.1", 8080)
    assert (settings.log_level, settings.log_format) == ("info", "auto")


def test_arguments_come_before_the_environment_and_the_rest_is_read_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "from-environment:9092")
    monkeypatch.setenv("DELAY_SECONDS", "60")
    settings = Settings(kafka_topics=["orders"], delay_seconds=900)
    assert settings.kafka_topics == ("orders",)
    assert settings.delay_seconds == 900
    assert settings.kafka_bootstrap_servers == "from-environment:9092"


def test_given_variables_replace_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELAY_SECONDS", "60")
    assert load().delay_seconds == 900


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().delay_seconds = 1  # type: ignore[misc]


def test_an_empty_variable_counts_as_not_set() -> None:
    settings = load({"DELAY_SECONDS": "", "SINK_TOPIC": "", "KAFKA_SASL_PASSWORD": ""})
    assert settings == load()


def test_every_field_has_a_description_of_one_sentence() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_each_setting_knows_where_it_came_from(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("secret\n")
    variables = {name: value for name, value in LOGIN.items() if name != "KAFKA_SASL_PASSWORD"}
    settings = load(
        {
            **variables,
            "KAFKA_SASL_PASSWORD_FILE": str(password),
            "KAFKA_SASL_PASSWORD": "",
            "KAFKA_CONF_CLIENT_ID": "a",
        },
        delay_seconds=5,
        kafka_conf={"client.rack": "b"},
    )
    assert settings.origin("DELAY_SECONDS") == "argument"
    assert settings.origin("KAFKA_CONF_CLIENT_RACK") == "argument"
    assert settings.origin("KAFKA_CONF_CLIENT_ID") == "environment"
    assert settings.origin("KAFKA_TOPICS") == "environment"
    assert settings.origin("KAFKA_SASL_PASSWORD") == "file"
    assert settings.origin("SINK") == "default"


# --- every problem in one message


def test_every_problem_is_in_one_message_with_those_among_settings() -> None:
    with pytest.raises(ConfigError) as raised:
        Settings(
            {
                "DELAY_SECONDS": "soon",
                "KAFKA_TOPCIS": "orders",
                "DELIVERY": "exactly",
                "KAFKA_CONF_ENABLE_AUTO_COMMIT": "true",
                "SINK": "topic",
                "KAFKA_SASL_USERNAME": "service",
            }
        )
    assert raised.value.exit_code == 78
    told = "\n".join(raised.value.problems)
    assert str(raised.value) == told
    assert len(raised.value.problems) == 9
    assert "stand-in" not in told
    for expected in (
        "DELAY_SECONDS='soon': must be a valid number",
        "KAFKA_BOOTSTRAP_SERVERS is required",
        "KAFKA_TOPICS is required",
        "KAFKA_TOPCIS is not a setting; did you mean KAFKA_TOPICS?",
        "DELIVERY='exactly': must be 'at-most-once', 'at-least-once' or 'exactly-once'",
        "KAFKA_CONF_ENABLE_AUTO_COMMIT: refused",
        "SINK=topic needs SINK_TOPIC",
        "KAFKA_SASL_USERNAME without effect",
        "KAFKA_SASL_USERNAME needs KAFKA_SASL_PASSWORD",
    ):
        assert expected in told


def test_a_wrong_value_is_not_also_a_conflict() -> None:
    assert problem({"SINK": "tpoic", "SINK_TOPIC": "later"}).startswith("SINK='tpoic': must be 'log', 'topic'")


@given(
    st.dictionaries(
        st.sampled_from(
            [name.upper() for name in Settings.model_fields] + ["KAFKA_CONF_CLIENT_ID", "KAFKA_X", "LOG_X"]
        ),
        st.text(st.characters(exclude_characters="\0"), max_size=20)
        | st.sampled_from(["1", "^a", "topic", "[]", "{}"]),
    )
)
def test_whatever_is_set_there_are_settings_or_a_config_error(variables: dict[str, str]) -> None:
    told: tuple[str, ...] = ("no problem",)
    try:
        Settings(variables)
    except ConfigError as error:
        told = error.problems
    assert told


@pytest.mark.parametrize("digits", [400, 5000])
def test_a_number_too_large_for_a_computer_is_a_problem(digits: int) -> None:
    assert "DELAY_SECONDS" in problem({"DELAY_SECONDS": "9" * digits})
    assert "DELAY_SECONDS_BY_TOPIC" in problem({"DELAY_SECONDS_BY_TOPIC": f'{{"orders": {"9" * digits}}}'})


# --- names


@pytest.mark.parametrize(
    ("given_name", "meant"),
    [
        ("KAFKA_TOPIC", "KAFKA_TOPICS"),
        ("KAFKA_BOOTSTRAP_SERVER", "KAFKA_BOOTSTRAP_SERVERS"),
        ("KAFKA_SASL_PASWORD", "KAFKA_SASL_PASSWORD"),
        ("SINK_TOPICS", "SINK_TOPIC"),
        ("HOLD_MAX_BYTE", "HOLD_MAX_BYTES"),
        ("DELAY_SECOND", "DELAY_SECONDS"),
        ("COMMIT_INTERVAL", "COMMIT_INTERVAL_SECONDS"),
        ("START_TIMEOUT", "START_TIMEOUT_SECONDS"),
        ("SHUTDOWN_GRACE", "SHUTDOWN_GRACE_SECONDS"),
        ("HTTP_PROT", "HTTP_PORT"),
        ("LOG_LEVL", "LOG_LEVEL"),
        ("MAX_FUTURE", "MAX_FUTURE_SECONDS"),
        ("SINK_HANDLR", "SINK_HANDLER"),
    ],
)
def test_a_misspelt_name_is_an_error_that_names_the_nearest(given_name: str, meant: str) -> None:
    assert problem({given_name: "x"}) == f"{given_name} is not a setting; did you mean {meant}?"


def test_a_misspelt_argument_is_answered_in_the_same_case() -> None:
    assert problem(kafka_topcs=["orders"]) == "kafka_topcs is not a setting; did you mean kafka_topics?"


def test_a_client_property_without_conf_is_told_how_it_is_given() -> None:
    assert "KAFKA_CONF_<PROPERTY>" in problem({"KAFKA_SOCKET_KEEPALIVE_ENABLE": "true"})


@pytest.mark.parametrize(
    "name",
    [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "http_proxy",
        "LOG_DIR",
        "LOG_FILE",
        "COMMIT_SHA",
        "START_TIME",
        "MAX_MEMORY",
        "PATH",
    ],
)
def test_a_variable_of_others_is_ignored(name: str) -> None:
    assert load({name: "x"}) == load()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KAFKA_PORT", "tcp://10.0.0.1:9092"),
        ("KAFKA_SERVICE_HOST", "10.0.0.1"),
        ("KAFKA_SERVICE_PORT", "9092"),
        ("KAFKA_SERVICE_PORT_TCP_CLIENT", "9092"),
        ("KAFKA_PORT_9092_TCP", "tcp://10.0.0.1:9092"),
        ("KAFKA_PORT_9092_TCP_ADDR", "10.0.0.1"),
        ("KAFKA_PORT_9092_TCP_PORT", "9092"),
        ("KAFKA_PORT_9092_TCP_PROTO", "tcp"),
        ("KAFKA_UI_PORT", "tcp://10.0.0.1:80"),
        ("KAFKA_UI_SERVICE_HOST", "10.0.0.1"),
        ("KAFKA_UI_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("SINK_SERVICE_PORT_HTTP", "80"),
        ("HTTP_PORT", "tcp://10.0.0.1:80"),
    ],
)
def test_what_kubernetes_injects_for_a_service_is_ignored(name: str, value: str) -> None:
    assert load({name: value}) == load()


def test_a_name_that_only_looks_like_an_injected_one_is_an_error() -> None:
    assert "KAFKA_PORTS is not a setting" in problem({"KAFKA_PORTS": "9092"})


def test_a_misspelt_first_word_is_a_warning() -> None:
    assert load({"DEALY_SECONDS": "1"}).warnings() == ["DEALY_SECONDS is not a setting; did you mean DELAY_SECONDS?"]


# --- values


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("DELAY_SECONDS", "-1", "greater than or equal to 0"),
        ("DELAY_SECONDS", "nan", "finite"),
        ("DELAY_SECONDS", "inf", "finite"),
        ("DELAY_SECONDS", "1e10", "less than or equal to"),
        ("DELAY_SECONDS", "15m", "valid number"),
        ("RETRY_DELAYS_SECONDS", "60,0", "greater than 0"),
        ("RETRY_DELAYS_SECONDS", "60,soon", "valid number"),
        ("RETRY_DELAYS_SECONDS", ",".join("1" * 21), "at most 20"),
        ("MAX_ATTEMPTS", "0", "greater than or equal to 1"),
        ("ON_FAILURE", "drop", "'stop', 'dead-letter' or 'skip'"),
        ("DEAD_LETTER_TOPIC", "a b", "topic"),
        ("DELAY_SECONDS_BY_TOPIC", "orders=5", "not JSON"),
        ("DELAY_SECONDS_BY_TOPIC", "[5]", "not a JSON object"),
        ("DELAY_SECONDS_BY_TOPIC", '{"orders": "5"}', "[orders]='5': must be a valid number"),
        ("DELAY_SECONDS_BY_TOPIC", '{"orders": true}', "must be a valid number"),
        ("DELAY_SECONDS_BY_TOPIC", '{"orders": -1}', "greater than or equal to 0"),
        ("DELAY_SECONDS_BY_TOPIC", '{"orders": NaN}', "finite"),
        ("DELAY_SECONDS_BY_TOPIC", '{"orders": 1, "orders": 2}', "more than once: orders"),
        ("DELAY_SECONDS_BY_TOPIC", '{"others": 1}', "names others"),
        ("DELAY_SECONDS_BY_TOPIC", "[" * 100_000, "not JSON"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka:0", "1 to 65535"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka:65536", "1 to 65535"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka:x", "1 to 65535"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092,", "not a host"),
        ("KAFKA_BOOTSTRAP_SERVERS", "::1:9092", "not a host"),
        ("KAFKA_BOOTSTRAP_SERVERS", "[::g]:9092", "not a host"),
        ("KAFKA_BOOTSTRAP_SERVERS", "SSL://kafka:9092", "without a scheme"),
        ("KAFKA_TOPICS", "orders,,returns", "not a topic"),
        ("KAFKA_TOPICS", "or ders", "not a topic"),
        ("KAFKA_TOPICS", "..", "not a topic"),
        ("KAFKA_TOPICS", "a" * 250, "not a topic"),
        ("KAFKA_TOPICS", "orders,orders", "more than once: orders"),
        ("KAFKA_TOPICS", "^orders-[", "not a regular expression"),
        ("KAFKA_TOPICS", r"^orders-\d+$", r"\d is not part of POSIX"),
        ("KAFKA_TOPICS", "^(?:a|b)$", "(? is not part of POSIX"),
        ("KAFKA_GROUP_ID", "a\tb", "printable"),
        ("KAFKA_GROUP_ID", "a\udcff", "UTF-8"),
        ("KAFKA_SECURITY_PROTOCOL", "TLS", "'PLAINTEXT', 'SSL'"),
        ("COMMIT_INTERVAL_SECONDS", "0", "greater than or equal to 0.01"),
        ("COMMIT_EVERY_RECORDS", "-1", "greater than or equal to 0"),
        ("SINK_TOPIC", "or/ders", "not a topic"),
        ("LOOKAHEAD_SECONDS", "0.1", "greater than or equal to 0.5"),
        ("HOLD_MAX_BYTES", "1000", "greater than or equal to 65536"),
        ("HOLD_MAX_BYTES", "64 floppies", "byte unit"),
        ("HOLD_MAX_RECORDS", "99", "greater than or equal to 100"),
        ("HTTP_PORT", "65536", "less than or equal to 65535"),
        ("LOG_LEVEL", "verbose", "'debug', 'info'"),
    ],
)
def test_a_bad_value_is_refused_with_its_name_and_the_reason(name: str, value: str, reason: str) -> None:
    told = problems({name: value})[0]
    assert told.startswith(name)
    assert reason in told


def test_a_comma_in_a_regular_expression_is_answered_with_what_a_comma_does() -> None:
    assert all("a comma always separates two topics" in one for one in problems({"KAFKA_TOPICS": "^a{1,2}$"}))
    assert load(kafka_topics=["^a{1,2}$"]).kafka_topics == ("^a{1,2}$",)


@pytest.mark.parametrize("servers", ["a:1", "a.b-c_d:65535,10.0.0.1:9092", "[::1]:9092", "localhost", "[fe80::1]"])
def test_servers_are_hosts_with_or_without_a_port(servers: str) -> None:
    assert load({"KAFKA_BOOTSTRAP_SERVERS": servers.replace(",", " , ")}).kafka_bootstrap_servers == servers


@pytest.mark.parametrize(("value", "size"), [("65536", 65_536), ("1MiB", 2**20), ("1 MB", 10**6), ("2GiB", 2**31)])
def test_sizes_are_bytes_or_have_a_unit(value: str, size: int) -> None:
    assert load({"HOLD_MAX_BYTES": value}).hold_max_bytes == size


def test_words_may_be_written_in_any_case() -> None:
    settings = load({"LOG_LEVEL": "INFO", "START_FROM": "Latest", "KAFKA_SECURITY_PROTOCOL": "ssl"})
    assert (settings.log_level, settings.start_from, settings.kafka_security_protocol) == ("info", "latest", "SSL")


# --- delays and topics


@given(st.decimals(0, 10_000, places=6))
def test_a_delay_is_rounded_up_to_the_next_millisecond_and_no_further(seconds: Decimal) -> None:
    delay_ms = load({"DELAY_SECONDS": str(seconds)}).delay_ms("orders")
    assert 0 <= delay_ms - seconds * 1000 < 1


@pytest.mark.parametrize("milliseconds", [100, 290, 16_100, 8_200, 4_350, 2_010])
def test_a_delay_of_whole_milliseconds_is_kept(milliseconds: int) -> None:
    assert load({"DELAY_SECONDS": str(milliseconds / 1000)}).delay_ms("orders") == milliseconds


def test_a_topic_may_have_its_own_delay() -> None:
    settings = load({"KAFKA_TOPICS": "orders,^re", "DELAY_SECONDS_BY_TOPIC": json.dumps({"orders": 0.5, "returns": 0})})
    assert [settings.delay_ms(topic) for topic in ("orders", "returns", "refunds")] == [500, 0, 900_000]


def test_topics_are_consumed_by_name_or_by_regular_expression() -> None:
    settings = load({"KAFKA_TOPICS": "orders, ^shop-[[:digit:]]+$"})
    assert [settings.consumes(topic) for topic in ("orders", "orders-1", "shop-12", "shop-a", "a-shop-1")] == [
        True,
        False,
        True,
        False,
        False,
    ]


# --- conflicts


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SINK": "topic"}, "SINK=topic needs SINK_TOPIC"),
        ({"SINK_TOPIC": "later"}, "SINK_TOPIC has no effect with SINK=log"),
        ({"SINK": "topic", "SINK_TOPIC": "orders"}, "SINK_TOPIC=orders is one of the topics that are read"),
        (
            {"SINK": "topic", "SINK_TOPIC": "b-1", "KAFKA_TOPICS": "a,^b"},
            "SINK_TOPIC=b-1 is one of the topics that are read",
        ),
        (
            {"SINK": "topic", "SINK_TOPIC": "b1", "KAFKA_TOPICS": "^b[[:digit:]]"},
            "SINK_TOPIC=b1 is one of the topics that are read",
        ),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "needs KAFKA_SASL_MECHANISM"),
        ({**LOGIN, "KAFKA_SASL_PASSWORD": ""}, "KAFKA_SASL_USERNAME needs KAFKA_SASL_PASSWORD"),
        ({**LOGIN, "KAFKA_SASL_USERNAME": ""}, "KAFKA_SASL_PASSWORD needs KAFKA_SASL_USERNAME"),
        (
            {**LOGIN, "KAFKA_SASL_USERNAME": "", "KAFKA_SASL_PASSWORD": ""},
            "SCRAM-SHA-512 needs KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD",
        ),
        (
            {**LOGIN, "KAFKA_SECURITY_PROTOCOL": "SSL"},
            "KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD without effect",
        ),
        ({"KAFKA_SSL_CA_LOCATION": __file__}, "KAFKA_SSL_CA_LOCATION without effect"),
        ({**LOGIN, "KAFKA_SSL_CA_LOCATION": "/no/such/file"}, "KAFKA_SSL_CA_LOCATION='/no/such/file': there is no"),
        ({**LOGIN, "KAFKA_SSL_KEY_LOCATION": __file__}, "KAFKA_SSL_KEY_LOCATION needs KAFKA_SSL_CERTIFICATE_LOCATION"),
        ({**LOGIN, "KAFKA_SSL_CERTIFICATE_LOCATION": __file__}, "needs KAFKA_SSL_KEY_LOCATION"),
        ({**LOGIN, "KAFKA_SSL_KEY_PASSWORD": "x"}, "KAFKA_SSL_KEY_PASSWORD needs KAFKA_SSL_KEY_LOCATION"),
        ({"KAFKA_CONF_FETCH_WAIT_MAX_MS": "2001"}, "KAFKA_CONF_FETCH_WAIT_MAX_MS=2001 is more than half"),
        ({"ON_FAILURE": "dead-letter"}, "ON_FAILURE=dead-letter needs DEAD_LETTER_TOPIC"),
        ({"ON_FUTURE_TIMESTAMP": "dead-letter"}, "ON_FUTURE_TIMESTAMP=dead-letter needs DEAD_LETTER_TOPIC"),
        ({"ON_FAILURE": "dead-letter", "DEAD_LETTER_TOPIC": "orders"}, "DEAD_LETTER_TOPIC=orders is one of the topics"),
        (
            {"SINK": "topic", "SINK_TOPIC": "late", "ON_FAILURE": "dead-letter", "DEAD_LETTER_TOPIC": "late"},
            "DEAD_LETTER_TOPIC=late is SINK_TOPIC too",
        ),
        (
            {"ON_FAILURE": "dead-letter", "DEAD_LETTER_TOPIC": "dead", "KAFKA_TOPICS": "orders,^d"},
            "DEAD_LETTER_TOPIC=dead is one of the topics that are read",
        ),
        (
            {"SINK": "topic", "SINK_TOPIC": "g.retry.2", "KAFKA_GROUP_ID": "g", "RETRY_DELAYS_SECONDS": "1,2"},
            "SINK_TOPIC=g.retry.2 is one of the topics that are read",
        ),
        (
            {"KAFKA_TOPICS": "orders,g.retry.1", "KAFKA_GROUP_ID": "g", "RETRY_DELAYS_SECONDS": "1"},
            "KAFKA_TOPICS names g.retry.1, which RETRY_DELAYS_SECONDS has read anyway",
        ),
        (
            {"KAFKA_GROUP_ID": "our group", "RETRY_DELAYS_SECONDS": "60"},
            "'our group.retry.1' is named after KAFKA_GROUP_ID",
        ),
        ({"KAFKA_GROUP_ID": "g" * 241, "RETRY_DELAYS_SECONDS": ",".join("1" * 10)}, "is named after KAFKA_GROUP_ID"),
        ({"SINK": "python"}, "SINK=python needs SINK_HANDLER"),
        ({"SINK_HANDLER": "a:b"}, "SINK_HANDLER has no effect with SINK=log"),
        ({"DELIVERY": "exactly-once"}, "DELIVERY=exactly-once needs SINK=topic, SINK is log"),
        ({"KAFKA_CONF_SASL_KERBEROS_PRINCIPAL": "a; rm x"}, "KAFKA_CONF_SASL_KERBEROS_PRINCIPAL: the client hands it"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(variables: dict[str, str], expected: str) -> None:
    assert expected in problem(variables)


def test_what_belongs_together_is_accepted() -> None:
    load({"SINK": "topic", "SINK_TOPIC": "later"})
    load({**LOGIN, "KAFKA_SSL_CERTIFICATE_LOCATION": __file__, "KAFKA_SSL_KEY_LOCATION": __file__})
    load({**LOGIN, "KAFKA_CONF_SSL_KEY_PEM": "k", "KAFKA_CONF_SSL_CERTIFICATE_PEM": "c", "KAFKA_SSL_KEY_PASSWORD": "x"})
    load({"KAFKA_CONF_FETCH_WAIT_MAX_MS": "2000"})


def test_retry_topics_are_named_after_the_group_and_have_delays_of_their_own() -> None:
    settings = load({"RETRY_DELAYS_SECONDS": "60, 0.5 ,1800", "KAFKA_GROUP_ID": "shop", "DELAY_SECONDS": "7"})
    assert settings.retry_topics == ("shop.retry.1", "shop.retry.2", "shop.retry.3")
    assert settings.subscriptions == ("orders", *settings.retry_topics)
    assert [settings.delay_ms(topic) for topic in settings.subscriptions] == [7_000, 60_000, 500, 1_800_000]


def test_without_retry_delays_nothing_else_is_read() -> None:
    settings = load()
    assert (settings.retry_topics, settings.subscriptions) == ((), ("orders",))


def test_a_dead_letter_topic_that_gets_nothing_is_warned_of() -> None:
    [warning] = load({"DEAD_LETTER_TOPIC": "dead"}).warnings()
    assert warning == "DEAD_LETTER_TOPIC=dead gets nothing: ON_FAILURE is stop and ON_FUTURE_TIMESTAMP is wait"
    for name in ("ON_FAILURE", "ON_FUTURE_TIMESTAMP"):
        assert load({"DEAD_LETTER_TOPIC": "dead", name: "dead-letter"}).warnings() == []


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SINK_HTTP_HEADERS": '{"X": "1"}', "MAX_ATTEMPTS": "3"}, "MAX_ATTEMPTS, SINK_HTTP_HEADERS"),
        ({"ORDERING": "key"}, "ORDERING"),
        ({"SINK_TOPIC_TIMESTAMP": "delivery"}, "SINK_TOPIC_TIMESTAMP"),
        ({"SINK": "topic", "SINK_TOPIC": "later", "SINK_CONCURRENCY": "8"}, "SINK_CONCURRENCY"),
        ({"SINK": "http", "SINK_URL": "http://localhost/", "SINK_TOPIC_TIMESTAMP": "source"}, "SINK_TOPIC_TIMESTAMP"),
        ({"SINK": "python", "SINK_HANDLER": "a:b", "SINK_HTTP_FORMAT": "raw"}, "SINK_HTTP_FORMAT"),
    ],
)
def test_what_was_given_and_means_nothing_to_the_sink_is_warned_of_in_one_line(
    variables: dict[str, str], expected: str
) -> None:
    settings = load(variables)
    assert settings.warnings() == [f"{expected} without effect: SINK is {settings.sink}"]


def test_a_secret_from_a_file_that_means_nothing_to_the_sink_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(CANARY)
    [warning] = load({"SINK_HTTP_BEARER_TOKEN_FILE": str(path)}).warnings()
    assert warning == "SINK_HTTP_BEARER_TOKEN without effect: SINK is log"


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"SINK": "topic", "SINK_TOPIC": "later", "SINK_TOPIC_TIMESTAMP": "source"},
        {"SINK": "http", "SINK_URL": "http://localhost/", "SINK_HTTP_FORMAT": "raw", "SINK_TIMEOUT_SECONDS": "3"},
        {"SINK": "python", "SINK_HANDLER": "a:b", "SINK_CONCURRENCY": "8", "ORDERING": "key", "MAX_ATTEMPTS": "5"},
    ],
)
def test_what_the_sink_uses_is_no_warning(variables: dict[str, str]) -> None:
    assert load(variables).warnings() == []


def test_of_every_setting_of_a_sink_it_is_known_which_sinks_use_it() -> None:
    listed, known = frozenset[str]().union(*USED_BY_SINK.values()), Settings.model_fields.keys()
    assert {name for name in known if name.startswith("sink_")} <= listed <= known
    assert USED_BY_SINK.keys() == set(get_args(Settings.model_fields["sink"].annotation))


# --- client properties


@pytest.mark.parametrize("name", client_properties.REFUSED)
def test_a_reserved_or_dangerous_property_is_refused_with_its_reason(name: str) -> None:
    variable = client_properties.variable_of(name)
    assert problem({variable: CANARY}) == f"{variable}: refused: {client_properties.REFUSED[name]}"
    assert problem(kafka_conf={name: CANARY}) == f"{variable}: refused: {client_properties.REFUSED[name]}"


def test_a_callback_is_no_property_to_pass_through() -> None:
    assert "not the name of a client property" in problem(kafka_conf={"error_cb": "print"})


def test_properties_go_to_the_clients_that_have_them() -> None:
    settings = load(
        {**LOGIN, "KAFKA_CONF_SESSION_TIMEOUT_MS": "6000", "KAFKA_CONF_CLIENT_ID": "a"},
        kafka_conf={"linger.ms": 5, "socket.keepalive.enable": True},
    )
    assert settings.client_config() == {
        "bootstrap.servers": "localhost:9092",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "service",
        "sasl.password": "secret",
        "client.id": "a",
        "socket.keepalive.enable": "true",
    }
    common = settings.client_config()
    assert settings.consumer_config() == {**common, "session.timeout.ms": "6000"}
    assert settings.producer_config() == {**common, "linger.ms": "5"}


def test_no_property_belongs_to_two_kinds_or_is_refused_and_sorted() -> None:
    refused = client_properties.REFUSED.keys()
    assert not client_properties.CONSUMER_ONLY & client_properties.PRODUCER_ONLY
    assert not (client_properties.CONSUMER_ONLY | client_properties.PRODUCER_ONLY) & refused


# --- warnings


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"KAFKA_BOOTSTRAP_SERVERS": "localhost:1,kafka:2"}, "sends every record unencrypted to kafka:2"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "10.0.0.1:9092"}, "sends every record unencrypted to 10.0.0.1:9092"),
        (
            {**LOGIN, "KAFKA_BOOTSTRAP_SERVERS": "kafka:2", "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"},
            "sends the password and every record unencrypted to kafka:2",
        ),
        ({"KAFKA_CONF_ENABLE_SSL_CERTIFICATE_VERIFICATION": "False"}, "any broker is believed"),
        ({"KAFKA_CONF_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM": "none"}, "whatever host it was made for"),
    ],
)
def test_what_weakens_the_protection_is_warned_of(variables: dict[str, str], expected: str) -> None:
    [warning] = load(variables).warnings()
    assert expected in warning


@pytest.mark.parametrize(
    ("session_ms", "heartbeat_ms"), [("3000", None), ("1000", "3000"), (None, "60000"), ("501", "500"), ("soon", "900")]
)
def test_a_heartbeat_that_comes_no_sooner_than_the_session_ends_is_warned_of(
    session_ms: str | None, heartbeat_ms: str | None
) -> None:
    given = {"KAFKA_CONF_SESSION_TIMEOUT_MS": session_ms, "KAFKA_CONF_HEARTBEAT_INTERVAL_MS": heartbeat_ms}
    warnings = load({name: value for name, value in given.items() if value is not None}).warnings()
    expected = (
        f"KAFKA_CONF_HEARTBEAT_INTERVAL_MS, {heartbeat_ms or 3000}, is not below KAFKA_CONF_SESSION_TIMEOUT_MS, "
        f"{session_ms or 45000}: the brokers may expel the instance between two heartbeats"
    )
    assert warnings == ([] if session_ms in {"501", "soon"} else [expected])


def test_without_statistics_a_client_that_is_lost_is_not_noticed_which_is_warned_of() -> None:
    assert load({"KAFKA_CONF_STATISTICS_INTERVAL_MS": "1000"}).warnings() == []
    [warning] = load({"KAFKA_CONF_STATISTICS_INTERVAL_MS": "0"}).warnings()
    assert warning.startswith("KAFKA_CONF_STATISTICS_INTERVAL_MS=0: ")


@pytest.mark.parametrize("servers", ["localhost:9092", "127.0.0.1:9092,127.1.2.3", "[::1]:9092"])
def test_unencrypted_to_this_machine_is_no_warning(servers: str) -> None:
    assert load({"KAFKA_BOOTSTRAP_SERVERS": servers}).warnings() == []


def test_encrypted_to_another_machine_is_no_warning() -> None:
    assert load({**LOGIN, "KAFKA_BOOTSTRAP_SERVERS": "kafka:9093"}).warnings() == []


# --- secrets


@pytest.mark.parametrize(("content", "password"), [("a b ", "a b "), ("x\n", "x"), ("x\r\n", "x"), ("x\n\n", "x\n")])
def test_a_secret_is_read_from_a_file_less_one_newline_at_its_end(tmp_path: Path, content: str, password: str) -> None:
    path = tmp_path / "password"
    path.write_bytes(content.encode())
    variables = {**LOGIN, "KAFKA_SASL_PASSWORD": "", "KAFKA_SASL_PASSWORD_FILE": str(path)}
    assert load(variables).client_config()["sasl.password"] == password


def test_a_secret_passed_through_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(f"{CANARY}\n")
    settings = load({"KAFKA_CONF_SASL_OAUTHBEARER_CLIENT_SECRET_FILE": str(path)})
    assert settings.client_config()["sasl.oauthbearer.client.secret"] == CANARY
    assert settings.origin("KAFKA_CONF_SASL_OAUTHBEARER_CLIENT_SECRET") == "file"


def test_a_property_that_is_a_file_is_passed_through_as_it_is() -> None:
    settings = load({"KAFKA_CONF_SASL_OAUTHBEARER_ASSERTION_FILE": "/a/b"})
    assert settings.client_config()["sasl.oauthbearer.assertion.file"] == "/a/b"


@pytest.mark.parametrize("name", [*(name.upper() for name in FROM_FILES), "KAFKA_CONF_SSL_KEYSTORE_PASSWORD"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"", "empty"),
        (b"\n", "empty"),
        (b"a\0b", "NUL"),
        (b"\xff", "not UTF-8"),
        (b"x" * 70_000, "longer than"),
    ],
)
def test_a_file_that_holds_no_secret_is_a_problem(
    tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    path = tmp_path / CANARY
    if content is not None:
        path.write_bytes(content)
    told = problem({f"{name}_FILE": str(path)})
    assert told.startswith(f"{name}: {name}_FILE cannot be used: ")
    assert reason in told
    assert CANARY not in told


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_we_may_not_read_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("secret")
    path.chmod(0)
    assert "Permission denied" in problem({"KAFKA_SASL_PASSWORD_FILE": str(path)})


@pytest.mark.parametrize("name", ["KAFKA_SASL_PASSWORD", "KAFKA_CONF_SSL_KEY_PEM"])
def test_a_secret_given_twice_is_a_problem(tmp_path: Path, name: str) -> None:
    path = tmp_path / "secret"
    path.write_text(CANARY)
    assert problem({name: CANARY, f"{name}_FILE": str(path)}) == f"{name}: given twice: set {name} or {name}_FILE"


def test_only_secrets_may_come_from_a_file() -> None:
    assert "KAFKA_SASL_PASSWORD" in problem({"KAFKA_TOPICS_FILE": "/etc/hosts"})


def planted(tmp_path: Path) -> dict[str, dict[str, str]]:
    """Ways in which a secret may be given, rightly and by mistake."""
    path = tmp_path / "canary"
    path.write_text(f"{CANARY}\n")
    names = [
        "KAFKA_SASL_PASSWORD",
        "KAFKA_SSL_KEY_PASSWORD",
        "KAFKA_SASL_PASWORD",
        "KAFKA_SASL_PASSWORD_FILE",
        "KAFKA_PASSWORD",
        "SASL_PASSWORD",
        "SINK_HTTP_TOKEN",
        "SINK_HTTP_BEARER",
        "KAFKA_CONF_SASL_PASSWORD",
        "KAFKA_CONF_SASL_PASWORD",
        "KAFKA_CONF_SSL_KEY_PEM",
        "KAFKA_CONF_SSL_KEYSTORE_PASSWORD",
        "KAFKA_CONF_SSL_KEYSTORE_PASSWRD",
        "KAFKA_CONF_SASL_OAUTHBEARER_CLIENT_SECRET",
        "KAFKA_CONF_SASL_OAUTHBEARER_CLIENT_SECERT",
        "KAFKA_CONF_SASL_OAUTHBEARER_CONFIG",
        "KAFKA_CONF_SASL_OAUTHBEARER_ASSERTION_PRIVATE_KEY_PASSPHRASE",
        "KAFKA_CONF_SASL_JAAS_CONFIG",
    ]
    in_text = {
        "KAFKA_BOOTSTRAP_SERVERS": [f"SASL_SSL://user:{CANARY}@kafka:9093", f"user:a@{CANARY}@kafka:x"],
        "SINK_URL": [f"https://user:{CANARY}@sink/"],
        "KAFKA_CONF_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL": [f"https://user:{CANARY}@idp/", f"https://idp/?key={CANARY}"],
        "KAFKA_CONF_CLIENT_ID": [f"https://user:{CANARY}@idp/", f"https://idp/?secret={CANARY}&a=b"],
        "KAFKA_SSL_KEY_LOCATION": [f"-----BEGIN PRIVATE KEY-----{CANARY}", f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n"],
        "KAFKA_SASL_PASSWORD_FILE": [str(path)],
        "KAFKA_CONF_SSL_KEY_PEM_FILE": [str(path)],
    }
    single = [{name: CANARY} for name in names] + [{name: text} for name, texts in in_text.items() for text in texts]
    return {f"{n}-{next(iter(variables))}": variables for n, variables in enumerate(single)}


@pytest.mark.parametrize("broken", [{}, {"DELAY_SECONDS": "soon"}], ids=["alone", "beside a problem"])
def test_no_secret_is_in_any_output_however_it_was_given(tmp_path: Path, broken: dict[str, str]) -> None:
    for case, variables in planted(tmp_path).items():
        output = ""
        try:
            settings = load({**broken, **variables})
        except ConfigError as error:
            output = "".join(traceback.format_exception(error)) + repr(error)
        else:
            output = f"{settings!r} {settings} {settings.masked()} {settings.warnings()}"
        assert output, case
        assert CANARY not in output.replace(str(tmp_path), ""), case


def test_a_secret_of_the_wrong_type_is_not_shown_either() -> None:
    for told in problems(kafka_sasl_password=[CANARY], kafka_conf={"ssl.key.pem": [CANARY]}):
        assert CANARY not in told


def test_masked_settings_are_json() -> None:
    shown = json.loads(
        json.dumps(load({**LOGIN, "KAFKA_CONF_SSL_KEYSTORE_PASSWORD": "x", "KAFKA_CONF_CLIENT_ID": "a"}).masked())
    )
    assert shown["kafka_sasl_password"] == "***"
    assert shown["kafka_conf"] == {"client.id": "a", "ssl.keystore.password": "***"}
    assert shown["kafka_topics"] == ["orders"]


@pytest.mark.parametrize("name", ["sasl.password", "KAFKA_SASL_PASWORD", "client.secert", "ssl.key.pem", "X_API_TOKN"])
def test_a_name_that_looks_like_a_secret_is_taken_for_one(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize("name", ["security.protocol", "session.timeout.ms", "KAFKA_SASL_USERNAME", "ssl.key.location"])
def test_a_name_that_does_not_is_shown(name: str) -> None:
    assert not looks_secret(name)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("kafka:9092", "kafka:9092"),
        ("https://a:b@c/d?e=f", "***@c/d?e=f"),
        ("https://c/d?e=f&token=x&g=h", "https://c/d?e=f&token=***&g=h"),
    ],
)
def test_secrets_inside_a_text_are_masked(text: str, masked: str) -> None:
    assert mask_text(text) == masked
