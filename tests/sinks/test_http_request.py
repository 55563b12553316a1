"""What SINK=http sends for a record."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delayed_consumer.clock import SystemClock
from delayed_consumer.errors import RetryableError
from delayed_consumer.settings import Settings
from delayed_consumer.sinks.http_request import Headers
from delayed_consumer.sinks.http_signature import signature, signing_key
from tests.sinks.posting import REQUIRED, Handle, record, sent
from tests.support.http_server import (
    HttpTarget,
    status,
)

# --- what is sent


def test_a_record_is_posted_with_its_value_as_it_is_and_where_it_came_from(target: HttpTarget, handler: Handle) -> None:
    value = b"\xff\x00\r\n\x80"
    request = sent(target, handler(f"{target.url}/hook?a=b%20c"), record(value, key=b"k 1/\xff\r\n"))
    assert (request.method, request.path, request.body) == ("POST", "/hook?a=b%20c", value)
    headers = dict(request.headers)
    assert headers.pop("User-Agent").startswith("delayed-consumer/")
    assert headers == {
        "Host": target.url.removeprefix("http://"),
        "Accept-Encoding": "identity",
        "Content-Length": "5",
        "Content-Type": "application/octet-stream",
        "X-Kafka-Topic": "orders.v1",
        "X-Kafka-Partition": "3",
        "X-Kafka-Offset": "42",
        "X-Kafka-Timestamp": "1795000000123",
        "X-Kafka-Key": "k%201%2F%FF%0D%0A",
        "Idempotency-Key": "orders.v1/3/42",
    }


def test_null_and_empty_are_told_apart(target: HttpTarget, handler: Handle) -> None:
    handle = handler(target.url)
    nothing, empty = sent(target, handle, record(None, key=None)), sent(target, handle, record(b"", key=b""))
    assert (nothing.body, empty.body) == (b"", b"")
    assert (nothing.headers["Content-Length"], empty.headers["Content-Length"]) == ("0", "0")
    assert (nothing.headers["X-Kafka-Tombstone"], empty.headers["X-Kafka-Tombstone"]) == ("true", None)
    assert (nothing.headers["X-Kafka-Key"], empty.headers["X-Kafka-Key"]) == (None, "")


def test_five_megabytes_arrive_whole(target: HttpTarget, handler: Handle) -> None:
    value = bytes(range(256)) * (5 * 4096)
    assert sent(target, handler(target.url), record(value)).body == value


def test_headers_of_a_record_are_sent_encoded_under_a_name_that_is_not_theirs(
    target: HttpTarget, handler: Handle
) -> None:
    headers = [("trace id", b"a,\xff"), ("Host", b"evil"), ("trace id", None), ("X\r\nAuthorization: x", b"\r\nY: z")]
    request = sent(target, handler(target.url), record(headers=headers))
    assert request.headers["X-Kafka-Header-trace%20id"] == "a%2C%FF,"
    assert request.headers["X-Kafka-Header-Host"] == "evil"
    assert request.headers["X-Kafka-Header-X%0D%0AAuthorization%3A%20x"] == "%0D%0AY%3A%20z"
    assert request.headers["Host"] == target.url.removeprefix("http://")
    assert request.headers["Authorization"] is None
    assert request.headers["Y"] is None


@pytest.mark.parametrize(
    ("headers", "arrive"),
    [
        ([(f"h{number}", b"v") for number in range(1000)], 50),
        ([("big", b"v" * 1_000_000), ("h", b"v")], 0),
        ([("h", b"v" * 1000), ("i", b"\xff" * 1030), ("j", b"v" * 1000)], 1),
        ([("h", b"v")] * 50, 50),
    ],
)
def test_more_headers_than_a_request_bears_are_left_out_and_counted(
    target: HttpTarget, handler: Handle, headers: list[tuple[str, bytes]], arrive: int
) -> None:
    request = sent(target, handler(target.url), record(headers=headers))
    ours = [value for name, value in request.headers.items() if name.startswith("X-Kafka-Header-")]
    assert sum(len(value.split(",")) for value in ours) == arrive
    left_out = len(headers) - arrive
    assert request.headers["X-Kafka-Headers-Omitted"] == (str(left_out) if left_out else None)


names = st.text(max_size=8) | st.sampled_from(["Host", "Content-Length", "\r\n", "ü", ""])


@given(
    topic=st.text(min_size=1, max_size=8),
    key=st.none() | st.binary(max_size=20),
    headers=st.lists(st.tuples(names, st.none() | st.binary(max_size=20)), max_size=60),
    timestamp_ms=st.integers(-1, 2**63 - 1),
    cloudevents=st.booleans(),
)
def test_whatever_a_record_holds_the_headers_are_harmless_and_the_key_can_be_read_back(
    topic: str, key: bytes | None, headers: list[Any], timestamp_ms: int, cloudevents: bool
) -> None:
    variables = {**REQUIRED, "SINK_URL": "http://host/", "SINK_HTTP_FORMAT": "cloudevents" if cloudevents else "raw"}
    one = record(topic=topic, key=key, headers=headers, timestamp_ms=timestamp_ms)
    made = Headers(Settings(variables), SystemClock()).of(one)
    for name, value in made.items():
        assert value.isascii(), name
        assert (name + value).isprintable(), name
        assert name.isascii(), name
        assert not set(name) & set(' ":;,()<>@[]{}\\/?='), name
    lower = [name.lower() for name in made]
    assert not {"host", "content-length", "transfer-encoding", "authorization"} & set(lower)
    assert (None if key is None else unquote_to_bytes(made["X-Kafka-Key"])) == key


def test_settings_choose_the_content_type_and_further_headers(target: HttpTarget, handler: Handle) -> None:
    settings = {
        "SINK_HTTP_CONTENT_TYPE": "application/json",
        "SINK_HTTP_HEADERS": '{"x-api-key": "a b", "user-agent": "us"}',
    }
    request = sent(target, handler(target.url, **settings), record())
    assert request.headers.get_all("Content-Type") == ["application/json"]
    assert request.headers["X-Api-Key"] == "a b"
    assert request.headers.get_all("User-Agent") == ["us"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"SINK_HTTP_BEARER_TOKEN": "abc.def"}, "Bearer abc.def"),
        (
            {"SINK_HTTP_USERNAME": "usér", "SINK_HTTP_PASSWORD": "a:b c"},
            "Basic " + base64.b64encode("usér:a:b c".encode()).decode(),
        ),
        ({"SINK_HTTP_HEADERS": '{"authorization": "ApiKey 1"}'}, "ApiKey 1"),
    ],
)
def test_each_way_to_authenticate_is_sent_with_each_request(
    target: HttpTarget, handler: Handle, settings: dict[str, str], expected: str
) -> None:
    assert sent(target, handler(target.url, **settings), record()).headers.get_all("Authorization") == [expected]


# --- the signature


def test_the_signature_is_that_of_the_published_example_of_standard_webhooks() -> None:
    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}') == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_every_attempt_is_signed_under_the_same_id(target: HttpTarget, handler: Handle) -> None:
    target.script.append(status(500))
    handle = handler(target.url, SINK_HTTP_SIGNING_SECRET="plain secret")
    with pytest.raises(RetryableError):
        handle(record(b"body"))
    handle(record(b"body", attempt=2))
    for request in target.requests:
        name, seconds = request.headers["webhook-id"], request.headers["webhook-timestamp"]
        digest = hmac.new(b"plain secret", f"{name}.{seconds}.body".encode(), hashlib.sha256).digest()
        assert request.headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
        assert abs(int(seconds) - time.time()) < 60
    assert [one.headers["webhook-id"] for one in target.requests] == ["orders.v1/3/42"] * 2


# --- CloudEvents


def test_a_cloudevent_has_the_value_as_its_body_and_its_attributes_as_headers(
    target: HttpTarget, handler: Handle
) -> None:
    settings = {"SINK_HTTP_FORMAT": "cloudevents", "SINK_HTTP_CONTENT_TYPE": "text/plain"}
    request = sent(target, handler(target.url, **settings), record(key='Euro € "%'.encode()))
    assert request.body == b"v"
    assert request.headers["Content-Type"] == "text/plain"
    assert {name: value for name, value in request.headers.items() if name.startswith("ce-")} == {
        "ce-specversion": "1.0",
        "ce-id": "orders.v1/3/42",
        "ce-source": "/kafka/orders.v1",
        "ce-type": "delayed-consumer.record",
        "ce-time": "2026-11-18T11:06:40.123Z",
        "ce-partitionkey": "Euro%20%E2%82%AC%20%22%25",
    }
    assert request.headers["X-Kafka-Offset"] == "42"


@pytest.mark.parametrize("key", [None, b"", b"\xff", b"a\nb"])
@pytest.mark.parametrize("timestamp_ms", [-1, 2**63 - 1, 253_402_300_800_000])
def test_an_attribute_that_would_not_be_valid_is_left_out(
    target: HttpTarget, handler: Handle, key: bytes | None, timestamp_ms: int
) -> None:
    settings = {
        "SINK_HTTP_FORMAT": "cloudevents",
        "SINK_HTTP_CLOUDEVENTS_TYPE": "com.example.order",
        "SINK_HTTP_CLOUDEVENTS_SOURCE": "https://example.com/orders",
    }
    request = sent(target, handler(target.url, **settings), record(key=key, timestamp_ms=timestamp_ms))
    assert {name: value for name, value in request.headers.items() if name.startswith("ce-")} == {
        "ce-specversion": "1.0",
        "ce-id": "orders.v1/3/42",
        "ce-source": "https://example.com/orders",
        "ce-type": "com.example.order",
    }
