"""SINK_URL and SINK_HTTP_*: what is refused, what is warned of, and that no secret is ever shown."""

from __future__ import annotations

import io
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delayed_consumer.check_config import check_config
from delayed_consumer.errors import ConfigError
from delayed_consumer.settings import Settings
from delayed_consumer.sinks.http_address import is_refused, read_url

REQUIRED = {"KAFKA_BOOTSTRAP_SERVERS": "localhost:9092", "KAFKA_TOPICS": "orders"}
HTTP = {"SINK": "http", "SINK_URL": "https://example.com/hook"}
CANARY = "c4n4ry"


def load(**variables: str) -> Settings:
    return Settings({**REQUIRED, **HTTP, **variables})


def problems(**variables: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as raised:
        load(**variables)
    return raised.value.problems


# --- where records may go


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost", ("http", "localhost", 80, "/")),
        ("https://example.com", ("https", "example.com", 443, "/")),
        ("HTTPS://Example.COM:8443/a/b?c=d&e", ("https", "example.com", 8443, "/a/b?c=d&e")),
        ("http://my_service:8080/", ("http", "my_service", 8080, "/")),
        ("http://example.com./", ("http", "example.com.", 80, "/")),
        ("http://[::1]:80/x", ("http", "::1", 80, "/x")),
        ("http://10.0.0.1//x", ("http", "10.0.0.1", 80, "//x")),
        ("http://xn--mnchen-3ya.de?q", ("http", "xn--mnchen-3ya.de", 80, "/?q")),
    ],
)
def test_a_url_names_scheme_host_port_and_path(url: str, expected: tuple[str, str, int, str]) -> None:
    assert read_url(url) == expected
    assert load(SINK_URL=url).sink_url == url


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("example.com", "must start with http:// or https://"),
        ("ftp://example.com/", "must start with http:// or https://"),
        ("//example.com/", "must start with http:// or https://"),
        ("http:///path", "not a URL"),
        ("http://:80/", "not a URL"),
        ("http://example.com:0/", "a port is a number"),
        ("http://example.com:/", "a port is a number"),
        ("http://example.com:65536/", "not a URL"),
        ("http://example.com:http/", "not a URL"),
        ("http://[::1/", "not a URL"),
        ("http://[example.com]/", "not a URL"),
        ("http://a..b/", "not a URL"),
        ("http://.example.com/", "not a URL"),
        (f"http://{'a' * 64}.com/", "not a URL"),
        ("http://exa%6dple.com/", "not a URL"),
        ("http://example.com/#part", "no fragment"),
        ("http://example.com/#", "no fragment"),
        ("http://exämple.com/", "must be ASCII"),
        ("http://example.com/a b", "must be ASCII"),
        ("http://example.com\\@evil.example/", "must be ASCII"),
        ("http://example.com/\r\nHost: evil", "must be ASCII"),
    ],
)
def test_what_is_no_url_is_refused(url: str, reason: str) -> None:
    [only] = problems(SINK_URL=url)
    assert only.startswith("SINK_URL=")
    assert reason in only


@pytest.mark.parametrize(
    "url", [f"http://user:{CANARY}@host/", f"http://{CANARY}@host/", f"http://host:1@{CANARY}@host/"]
)
def test_a_password_in_the_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="SINK_HTTP_PASSWORD") as raised:
        load(SINK_URL=url)
    assert CANARY not in "".join(traceback.format_exception(raised.value))


METADATA_HOSTS = [
    "169.254.169.254",
    "169.254.0.1",
    "169.254.170.2",
    "169.254.169.254.",
    "2852039166",
    "0xa9fea9fe",
    "0xA9.0xFE.0xA9.0xFE",
    "0251.0376.0251.0376",
    "169.254.43518",
    "169.0xfea9fe",
    "100.100.100.200",
    "0x646464c8",
    "168.63.129.16",
    "192.0.0.192",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[febf::ffff]",
    "[fd00:ec2::254]",
    "[fd20:ce::254]",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[::169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
    "metadata.google.internal",
    "METADATA.google.internal.",
    "metadata.goog",
    "instance-data",
]


@pytest.mark.parametrize("host", METADATA_HOSTS)
def test_a_metadata_address_is_refused_however_it_is_written(host: str) -> None:
    [only] = problems(SINK_URL=f"http://{host}/latest/meta-data/")
    assert "refused: a link-local or metadata address" in only


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.1.2.3", "169.253.255.255", "169.255.0.0", "100.100.100.201", "[::1]", "[fd00::1]", "8.8"]
)
def test_other_addresses_are_not(host: str) -> None:
    load(SINK_URL=f"http://{host}/")


@given(st.integers(0xA9FE0000, 0xA9FEFFFF))
def test_no_link_local_address_is_missed_in_any_notation(number: int) -> None:
    for host in (
        str(number),
        hex(number),
        oct(number).replace("0o", "0"),
        f"[::ffff:{number >> 16:x}:{number & 0xFFFF:x}]",
    ):
        with pytest.raises(ValueError, match="refused"):
            read_url(f"http://{host}/")


@pytest.mark.parametrize("address", ["169.254.1.1", "fe80::1%2", "fe80::1", "::ffff:169.254.1.1"])
def test_addresses_are_judged_as_the_resolver_writes_them(address: str) -> None:
    assert is_refused(address)
    assert not is_refused("2001:db8::1")
    assert not is_refused("192.168.0.1")


# --- what goes together


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SINK_URL": ""}, "SINK=http needs SINK_URL"),
        ({"SINK": "log"}, "SINK_URL has no effect with SINK=log"),
        ({"SINK_HTTP_USERNAME": "a"}, "SINK_HTTP_USERNAME needs SINK_HTTP_PASSWORD"),
        ({"SINK_HTTP_PASSWORD": CANARY}, "SINK_HTTP_PASSWORD needs SINK_HTTP_USERNAME"),
        (
            {"SINK_HTTP_USERNAME": "a", "SINK_HTTP_PASSWORD": CANARY, "SINK_HTTP_BEARER_TOKEN": CANARY},
            "SINK_HTTP_USERNAME and SINK_HTTP_BEARER_TOKEN both authenticate",
        ),
        (
            {"SINK_HTTP_HEADERS": f'{{"AUTHORIZATION": "{CANARY}"}}', "SINK_HTTP_BEARER_TOKEN": CANARY},
            "SINK_HTTP_BEARER_TOKEN and Authorization in SINK_HTTP_HEADERS both authenticate",
        ),
        ({"SINK_HTTP_CA_LOCATION": "/nowhere.pem"}, "no certificates can be read there: No such file"),
        ({"SINK_HTTP_CA_LOCATION": "/dev/null"}, "no certificates can be read there"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(variables: dict[str, str], expected: str) -> None:
    [only] = problems(**variables)
    assert expected in only
    assert CANARY not in only


def test_authorities_without_encryption_are_refused(tmp_path: Path) -> None:
    [only] = problems(SINK_URL="http://localhost/", SINK_HTTP_CA_LOCATION=str(tmp_path))
    assert "SINK_HTTP_CA_LOCATION without effect" in only
    load(SINK_HTTP_CA_LOCATION=str(tmp_path))


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("SINK_HTTP_CONTENT_TYPE", "json", "not a media type"),
        ("SINK_HTTP_CONTENT_TYPE", "text/plain\r\nX: y", "not a media type"),
        ("SINK_HTTP_BEARER_TOKEN", "a b", "without spaces"),
        ("SINK_HTTP_BEARER_TOKEN", "a\r\nX:y", "without spaces"),
        ("SINK_HTTP_USERNAME", "a:b", "without a colon"),
        ("SINK_HTTP_SIGNING_SECRET", "whsec_no base64", "must be the key in base64"),
        ("SINK_HTTP_SIGNING_SECRET", "whsec_", "must be the key in base64"),
        ("SINK_HTTP_FORMAT", "structured", "must be 'raw' or 'cloudevents'"),
        ("SINK_HTTP_CONNECT_TIMEOUT_SECONDS", "0", "must be greater than 0"),
        ("SINK_HTTP_READ_TIMEOUT_SECONDS", "nan", "must be a finite number"),
        ("SINK_HTTP_TIMEOUT_SECONDS", "-1", "must be greater than 0"),
        ("SINK_HTTP_MAX_RESPONSE_BYTES", "-1", "could not parse value"),
        ("SINK_HTTP_HEADERS", "X-Api-Key: 1", "not JSON"),
        ("SINK_HTTP_HEADERS", '["X"]', "not a JSON object"),
        ("SINK_HTTP_HEADERS", '{"X Y": "1"}', "'X Y' is not the name of a header"),
        ("SINK_HTTP_HEADERS", '{"": "1"}', "is not the name of a header"),
        ("SINK_HTTP_HEADERS", '{"X": "a\\r\\nHost: b"}', "the value of X must be a string of printable"),
        ("SINK_HTTP_HEADERS", '{"X": "ü"}', "the value of X must be a string of printable"),
        ("SINK_HTTP_HEADERS", '{"X": 1}', "the value of X must be a string of printable"),
        ("SINK_HTTP_HEADERS", '{"X": "1", "X": "2"}', "named more than once: X"),
        ("SINK_HTTP_HEADERS", '{"X": "1", "x": "2"}', "named more than once: x"),
        ("SINK_HTTP_HEADERS", '{"content-type": "a/b"}', "given as SINK_HTTP_CONTENT_TYPE"),
        ("SINK_HTTP_HEADERS", "{" + ",".join(f'"X{number}": "1"' for number in range(31)) + "}", "at most 30"),
    ],
)
def test_a_bad_value_is_refused_with_the_reason(variable: str, value: str, reason: str) -> None:
    told = problems(**{variable: value})
    assert any(one.startswith(variable) and reason in one for one in told), told


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "content-length",
        "Transfer-Encoding",
        "CONNECTION",
        "te",
        "Upgrade",
        "Expect",
        "Proxy-Authorization",
        "Idempotency-Key",
        "X-Kafka-Offset",
        "x-kafka-header-a",
        "Webhook-Id",
        "ce-id",
    ],
)
def test_a_header_that_frames_the_request_or_is_ours_is_refused(name: str) -> None:
    [only] = problems(SINK_HTTP_HEADERS=f'{{"{name}": "{CANARY}"}}')
    assert "is set for each request or connection" in only
    assert CANARY not in only


# --- warnings


@pytest.mark.parametrize(
    ("variables", "what"),
    [
        ({}, "every record"),
        ({"SINK_HTTP_BEARER_TOKEN": CANARY}, "SINK_HTTP_BEARER_TOKEN and every record"),
        ({"SINK_HTTP_HEADERS": f'{{"X-Api-Key": "{CANARY}"}}'}, "SINK_HTTP_HEADERS and every record"),
        (
            {"SINK_HTTP_USERNAME": "a", "SINK_HTTP_PASSWORD": CANARY},
            "SINK_HTTP_USERNAME, SINK_HTTP_PASSWORD and every record",
        ),
    ],
)
def test_what_goes_unencrypted_to_another_machine_is_warned_of(variables: dict[str, str], what: str) -> None:
    [only] = load(SINK_URL=f"http://example.com/{CANARY}", **variables).warnings()
    assert only == f"SINK_URL: http sends {what} unencrypted to example.com:80; use https"


@pytest.mark.parametrize("url", ["https://example.com", "http://localhost:1/", "http://127.1.2.3/", "http://[::1]/"])
def test_encrypted_or_to_this_machine_is_no_warning(url: str) -> None:
    assert load(SINK_URL=url, SINK_HTTP_BEARER_TOKEN=CANARY).warnings() == []


# --- secrets

SECRETS = {
    "SINK_HTTP_BEARER_TOKEN": CANARY,
    "SINK_HTTP_PASSWORD": CANARY,
    "SINK_HTTP_SIGNING_SECRET": CANARY,
    "SINK_HTTP_HEADERS": f'{{"X-Api-Key": "{CANARY}"}}',
}


def shown(settings: Settings) -> str:
    outs = io.StringIO()
    for as_json in (True, False):
        check_config(settings, as_json=as_json, connect=False, out=outs)
    return outs.getvalue() + repr(settings) + str(settings) + "".join(settings.warnings())


@pytest.mark.parametrize("from_files", [False, True])
@pytest.mark.parametrize("variable", SECRETS)
def test_no_secret_is_shown_however_it_was_given(tmp_path: Path, variable: str, from_files: bool) -> None:
    given = {"SINK_HTTP_USERNAME": "someone"} if variable == "SINK_HTTP_PASSWORD" else {}
    given[variable] = SECRETS[variable]
    if from_files:
        path = tmp_path / "secret"
        path.write_text(given.pop(variable) + "\n")
        given[f"{variable}_FILE"] = str(path)
    settings = load(SINK_URL=f"http://example.com/?token={CANARY}&sig={CANARY}", **given)
    text = shown(settings)
    assert CANARY not in text
    assert variable in text
    assert "***" in text
    assert revealed(settings) == [CANARY]


def revealed(settings: Settings) -> list[str]:
    values: list[Any] = [getattr(settings, name.lower()) for name in SECRETS if name != "SINK_HTTP_HEADERS"]
    values += settings.sink_http_headers.values()
    return [value.get_secret_value() for value in values if value is not None]


@pytest.mark.parametrize(
    "variables",
    [
        {"SINK_HTTP_HEADERS": f'{{"X": "{CANARY}"'},
        {"SINK_HTTP_HEADERS": f'{{"X": "\u00fc{CANARY}"}}'},
        {"SINK_HTTP_HEADERS": f'"{CANARY}"'},
        {"SINK_HTTP_HEADER": f'{{"X": "{CANARY}"}}'},
        {"SINK_HTTP_BEARER_TOKEN": f"a b {CANARY}"},
        {"SINK_HTTP_SIGNING_SECRET": f"whsec_!{CANARY}"},
        {"SINK_HTTP_TOKEN": CANARY},
        {**SECRETS, "SINK_HTTP_FORMAT": "wrong"},
    ],
)
def test_no_secret_is_in_a_refusal(variables: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as raised:
        load(**variables)
    assert CANARY not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("headers", [{"X": CANARY}, {"X": [CANARY]}, {"X": f"{CANARY}\n"}, [CANARY], CANARY])
def test_no_secret_given_as_an_argument_is_shown(headers: Any) -> None:
    try:
        text = shown(Settings({**REQUIRED, **HTTP}, sink_http_headers=headers))
    except ConfigError as error:
        text = "".join(traceback.format_exception(error))
    assert CANARY not in text
