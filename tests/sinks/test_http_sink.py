"""What each kind of answer means for SINK=http, and none at all; against a real server."""

from __future__ import annotations

import socket
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delayed_consumer.errors import FatalError, MessageError, RetryableError
from delayed_consumer.sinks import http_connection
from delayed_consumer.sinks.http import retry_after_seconds
from tests.sinks.posting import CANARY, Handle, record, sent
from tests.support.http_server import (
    Answer,
    HttpTarget,
    cut_off,
    dripping,
    endless,
    hang_up,
    in_the_end,
    reset,
    silent,
    status,
)

NOW_MS = 1_795_000_000_000.0

# --- what answers mean


@pytest.mark.parametrize("code", [200, 201, 202, 204, 206, 299])
def test_2xx_is_done(target: HttpTarget, handler: Handle, code: int) -> None:
    target.script.append(status(code))
    handler(target.url)(record())


@pytest.mark.parametrize("code", [100, 102, 103])
def test_an_interim_answer_is_passed_over_and_never_leaves_the_real_one_to_the_next_record(
    target: HttpTarget, handler: Handle, code: int
) -> None:
    handle = handler(target.url)
    target.script.append(in_the_end(status(503), interim=code))
    target.script.append(in_the_end(status(204), interim=code))
    with pytest.raises(RetryableError, match=r" answered 503$"):
        handle(record())
    handle(record())
    assert target.connections == 1


@pytest.mark.parametrize("code", [408, 425, 429, 500, 501, 503, 599])
def test_what_may_work_later_is_retryable(target: HttpTarget, handler: Handle, code: int) -> None:
    target.script.append(status(code, body=CANARY.encode()))
    with pytest.raises(RetryableError) as raised:
        handler(f"{target.url}/?token={CANARY}")(record())
    assert str(raised.value) == f"{target.url.removeprefix('http://')} answered {code}"
    assert raised.value.after_seconds is None


@pytest.mark.parametrize("code", [400, 401, 403, 404, 409, 410, 413, 422, 431, 499])
def test_any_other_4xx_fails_at_once(target: HttpTarget, handler: Handle, code: int) -> None:
    target.script.append(status(code, {"Retry-After": "1"}, CANARY.encode()))
    with pytest.raises(MessageError, match=f" answered {code}$"):
        handler(target.url)(record())
    assert len(target.requests) == 1


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_fails_at_once(target: HttpTarget, handler: Handle, code: int) -> None:
    with HttpTarget() as elsewhere:
        target.script.append(status(code, {"Location": f"{elsewhere.url}/{CANARY}"}))
        with pytest.raises(MessageError, match=f" answered {code}$"):
            handler(target.url)(record())
        assert not elsewhere.requests
    assert len(target.requests) == 1


def test_a_cookie_is_not_sent_back(target: HttpTarget, handler: Handle) -> None:
    handle = handler(target.url)
    target.script.append(status(200, {"Set-Cookie": "a=b"}))
    handle(record())
    assert sent(target, handle, record()).headers["Cookie"] is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("7", 7.0),
        ("0", 0.0),
        ("86400", 300.0),
        ("9" * 5000, 300.0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        (format_datetime(datetime.fromtimestamp(NOW_MS / 1000 + 9, UTC), usegmt=True), 9.0),
        (format_datetime(datetime.fromtimestamp(NOW_MS / 1000 - 9, UTC), usegmt=True), 0.0),
        (format_datetime(datetime.fromtimestamp(NOW_MS / 1000, UTC) + timedelta(days=9), usegmt=True), 300.0),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_bounded(text: str | None, expected: float | None) -> None:
    assert retry_after_seconds(text, NOW_MS) == expected


@given(st.text() | st.from_regex(r"\w{3}, \d+ \w{3} \d+ \d+:\d+:\d+ [+-]?\w*"))
def test_any_retry_after_is_understood_or_passed_over(text: str) -> None:
    seconds = retry_after_seconds(text, NOW_MS)
    assert seconds is None or 0 <= seconds <= 300


def test_retry_after_goes_with_the_failure(target: HttpTarget, handler: Handle) -> None:
    target.script.append(status(429, {"Retry-After": "12"}))
    with pytest.raises(RetryableError) as raised:
        handler(target.url)(record())
    assert raised.value.after_seconds == 12


# --- where there is no answer, or too much of one


@pytest.mark.parametrize(
    "answer", [reset, hang_up, cut_off(200), lambda exchange: exchange.wfile.write(b"nonsense\r\n")]
)
def test_a_connection_that_breaks_is_retryable_and_the_next_record_gets_a_new_one(
    target: HttpTarget, handler: Handle, answer: Answer
) -> None:
    handle = handler(target.url)
    target.script.append(answer)
    with pytest.raises(RetryableError, match="no whole answer: "):
        handle(record())
    assert sent(target, handle, record()).connection == 2


def test_a_refused_connection_is_retryable(handler: Handle) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        with pytest.raises(RetryableError, match="Connection refused"):
            handler(f"http://127.0.0.1:{unused.getsockname()[1]}/")(record())


def test_a_name_that_does_not_resolve_is_retryable(handler: Handle) -> None:
    with pytest.raises(RetryableError, match=r"nowhere\.invalid:80: its name cannot be resolved"):
        handler("http://nowhere.invalid/")(record())


def test_a_target_that_does_not_accept_ends_with_the_connect_timeout(handler: Handle) -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        begun = time.monotonic()
        with pytest.raises(RetryableError, match="in time"):
            handler(f"http://127.0.0.1:{full.getsockname()[1]}/", SINK_HTTP_CONNECT_TIMEOUT_SECONDS=0.3)(record())
        assert 0.25 < time.monotonic() - begun < 10


def test_a_silent_target_ends_with_the_read_timeout(target: HttpTarget, handler: Handle, over: threading.Event) -> None:
    target.script.append(silent(over))
    begun = time.monotonic()
    with pytest.raises(RetryableError, match="no whole answer in time"):
        handler(target.url, SINK_HTTP_READ_TIMEOUT_SECONDS=0.3)(record())
    assert 0.25 < time.monotonic() - begun < 10


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
@pytest.mark.parametrize("limit", ["SINK_HTTP_TIMEOUT_SECONDS", "SINK_TIMEOUT_SECONDS"])
def test_an_answer_that_drips_ends_with_the_total_timeout(
    target: HttpTarget, handler: Handle, over: threading.Event, first: bytes, limit: str
) -> None:
    handle = handler(target.url, **{limit: 0.5})
    handle(record())  # the connection is used again, and its time begins anew
    target.script.append(dripping(first, over))
    begun = time.monotonic()
    with pytest.raises(RetryableError, match="no whole answer in time"):
        handle(record())
    assert 0.4 < time.monotonic() - begun < 10


def test_a_silent_target_ends_with_the_total_timeout_where_that_is_shorter(
    target: HttpTarget, handler: Handle, over: threading.Event
) -> None:
    target.script.append(silent(over))
    begun = time.monotonic()
    with pytest.raises(RetryableError, match="no whole answer in time"):
        handler(target.url, SINK_HTTP_TIMEOUT_SECONDS=0.5)(record())
    assert 0.4 < time.monotonic() - begun < 10


def test_a_target_that_does_not_read_ends_with_the_total_timeout(handler: Handle) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        begun = time.monotonic()
        with pytest.raises(RetryableError, match="in time"):
            handler(f"http://127.0.0.1:{listener.getsockname()[1]}/", SINK_HTTP_TIMEOUT_SECONDS=0.5)(
                record(b"x" * 20_000_000)
            )
        assert 0.4 < time.monotonic() - begun < 10


def test_a_large_value_may_take_longer_than_connecting_and_a_wait(handler: Handle) -> None:
    """The time-outs of single waits are not those of sending."""
    value = b"x" * 20_000_000
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def slow() -> int:
            connection, _ = listener.accept()
            with connection:
                time.sleep(0.6)
                got = 0
                while got < len(value):
                    got += len(connection.recv(2**20))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                return got

        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(slow)
            waits = {"SINK_HTTP_CONNECT_TIMEOUT_SECONDS": 0.2, "SINK_HTTP_READ_TIMEOUT_SECONDS": 5}
            handler(f"http://127.0.0.1:{listener.getsockname()[1]}/", **waits)(record(value))
            assert reading.result(20) >= len(value)


@pytest.mark.parametrize(("code", "error"), [(200, None), (400, MessageError), (503, RetryableError)])
def test_an_answer_too_long_is_cut_off_and_its_status_decides(
    target: HttpTarget, handler: Handle, code: int, error: type[Exception] | None
) -> None:
    handle = handler(target.url, SINK_HTTP_MAX_RESPONSE_BYTES=1000)
    target.script.append(endless(code))
    if error is None:
        handle(record())
    else:
        with pytest.raises(error, match=f" answered {code}$"):
            handle(record())
    assert sent(target, handle, record()).connection == 2


def test_nothing_is_asked_over_a_connection_on_which_more_of_an_answer_is_to_come(
    target: HttpTarget, handler: Handle, over: threading.Event
) -> None:
    handle = handler(target.url, SINK_HTTP_MAX_RESPONSE_BYTES=1000)
    begin = b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 1001
    target.script.append(dripping(begin, over, every_seconds=60))
    handle(record())
    assert sent(target, handle, record()).connection == 2


@pytest.mark.parametrize(("code", "error"), [(400, MessageError), (503, RetryableError)])
def test_a_refusal_counts_though_its_body_is_cut_off(
    target: HttpTarget, handler: Handle, code: int, error: type[Exception]
) -> None:
    target.script.append(cut_off(code))
    with pytest.raises(error, match=f" answered {code}$"):
        handler(target.url)(record())


# --- connections


def test_connections_are_used_again_also_after_a_refusal_and_an_answer_as_long_as_permitted(
    target: HttpTarget, handler: Handle
) -> None:
    handle = handler(target.url, SINK_HTTP_MAX_RESPONSE_BYTES=1000)
    target.script += [status(200, body=b"x" * 1000), status(503, body=b"later"), status(404), status(302), status(204)]
    for _ in range(5):
        try:
            handle(record())
        except (MessageError, RetryableError):
            continue
    assert {request.connection for request in target.requests} == {1}


def test_many_threads_share_as_many_connections_as_there_are_workers(target: HttpTarget, handler: Handle) -> None:
    handle = handler(target.url, SINK_CONCURRENCY=4)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda offset: handle(record(b"%d" % offset, offset=offset)), range(200)))
    assert sorted(target.offsets()) == list(range(200))
    assert all(int(request.body) == request.offset for request in target.requests)
    assert target.connections <= 4


def test_a_connection_that_the_target_closed_meanwhile_costs_no_attempt(target: HttpTarget, handler: Handle) -> None:
    handle = handler(target.url)

    def answer_and_close(exchange: Any) -> None:
        status(200)(exchange)
        exchange.close_connection = True

    target.script.append(answer_and_close)
    handle(record())
    time.sleep(0.2)
    handle(record())
    assert target.connections == 2


def test_no_proxy_is_taken_from_the_environment(
    target: HttpTarget, handler: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    handler(target.url)(record())
    assert len(target.requests) == 1


# --- where nothing may go


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "fd00:ec2::254"])
def test_a_name_that_means_a_metadata_address_is_refused_before_anything_is_sent(
    handler: Handle, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = [(family, socket.SOCK_STREAM, 6, "", (address, 80))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: found)
    connected: list[object] = []
    monkeypatch.setattr(http_connection.TimedSocket, "connect", lambda *arguments: connected.append(arguments))
    with pytest.raises(FatalError, match=r"innocent\.example is a link-local or metadata address"):
        handler("http://innocent.example/")(record())
    assert not connected


def test_of_several_addresses_only_those_that_are_permitted_are_tried(
    target: HttpTarget, handler: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = target.server_port
    addresses = [("169.254.169.254", port), ("127.0.0.1", 1), ("127.0.0.1", port)]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: found)
    handler(f"http://several.example:{port}/")(record())
    assert target.requests[0].headers["Host"] == f"several.example:{port}"


# --- secrets


@pytest.mark.parametrize("answer", [status(401, body=CANARY.encode()), status(503), reset, hang_up, cut_off(200)])
def test_no_secret_and_nothing_of_a_body_is_in_an_error(target: HttpTarget, handler: Handle, answer: Answer) -> None:
    secrets = {
        "SINK_HTTP_BEARER_TOKEN": CANARY,
        "SINK_HTTP_SIGNING_SECRET": CANARY,
        "SINK_HTTP_HEADERS": f'{{"X-Api-Key": "{CANARY}"}}',
    }
    target.script.append(answer)
    with pytest.raises((RetryableError, MessageError)) as raised:
        handler(f"{target.url}/{CANARY}?token={CANARY}", **secrets)(record(CANARY.encode(), key=CANARY.encode()))
    assert CANARY not in "".join(traceback.format_exception(raised.value))
