from __future__ import annotations

import json
import re
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from delayed_consumer import server as server_module
from delayed_consumer.errors import ConfigError
from delayed_consumer.healthcheck import healthcheck
from delayed_consumer.metrics import Metrics
from delayed_consumer.server import MAX_CONNECTIONS, StatusServer
from delayed_consumer.settings import Settings
from delayed_consumer.status import PartitionStatus, ServiceStatus, StatusBoard

PATHS = ["/", "/livez", "/readyz", "/metrics", "/status"]
PARTITION = PartitionStatus(
    topic="orders",
    partition=0,
    state="paused",
    paused=True,
    position=120,
    committed=100,
    end=150,
    held=15,
    held_bytes=6_000,
    in_flight=5,
    next_due_ms=1_795_000_900_000,
    paused_until_ms=1_795_000_895_000,
    waiting=40,
    overdue=10,
    oldest_overdue_seconds=1.5,
)
READY = ServiceStatus(
    ready=True,
    stopping=False,
    idle_member=False,
    member_id="m-1",
    last_poll_ms=1_795_000_000_000.0,
    partitions=(PARTITION,),
)


class Instance:
    """A server, and the thread that answers its board as the loop does while `turning` is set."""

    def __init__(self) -> None:
        self.status = READY
        self.alive: Callable[[], bool] = lambda: True
        self.errors: list[Exception] = []
        self.board = StatusBoard()
        self.metrics = Metrics(self.board, lambda _: 900_000, {"version": "1.2.3"})
        self.settings: dict[str, object] = {"delay_seconds": 900.0}
        self.turning = threading.Event()
        self._stopped = threading.Event()
        self._loop = threading.Thread(target=self._turn)
        self.turning.set()
        self._loop.start()
        self.server = self.another("127.0.0.1", 0)
        self.server.start()

    def another(self, host: str, port: int) -> StatusServer:
        return StatusServer(
            host, port, self.board, self.metrics, self.settings, lambda: self.alive(), self.errors.append
        )

    def close(self) -> None:
        self.server.close()
        self._stopped.set()
        self._loop.join()

    def _turn(self) -> None:
        while not self._stopped.wait(0.001):
            if self.turning.is_set() and self.board.asked:
                self.board.publish(self.status)

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def json(self, path: str) -> tuple[int, Any]:
        response, body = self.ask(path)
        assert response.headers["Content-Type"] == "application/json"
        return response.status, json.loads(body)


@pytest.fixture
def instance() -> Iterator[Instance]:
    made = Instance()
    yield made
    made.close()
    assert made.errors == []


# /livez and /readyz


def test_a_loop_that_turns_is_alive_without_being_asked(instance: Instance) -> None:
    instance.turning.clear()
    assert instance.json("/livez") == (200, {"alive": True})
    assert not instance.board.asked


def test_a_loop_that_hangs_is_not_alive(instance: Instance) -> None:
    instance.alive = lambda: False
    code, answer = instance.json("/livez")
    assert code == 503
    assert "loop" in answer["reason"]


def test_brokers_and_membership_do_not_matter_to_livez(instance: Instance) -> None:
    instance.status = replace(READY, ready=False, partitions=())
    assert instance.json("/livez")[0] == 200


def test_a_member_of_the_group_is_ready(instance: Instance) -> None:
    assert instance.json("/readyz") == (200, {"ready": True})


@pytest.mark.parametrize(
    ("status", "alive", "reason"),
    [
        (replace(READY, ready=False), True, "not a member"),
        (replace(READY, ready=False, stopping=True), True, "stopping"),
        (READY, False, "loop has not turned"),
    ],
)
def test_who_is_not_ready_says_why_in_one_line(
    instance: Instance, status: ServiceStatus, alive: bool, reason: str
) -> None:
    instance.status = status
    instance.alive = lambda: alive
    response, body = instance.ask("/readyz")
    assert response.status == 503
    assert reason in json.loads(body)["reason"]
    assert body.count(b"\n") == 1


def test_a_service_whose_loop_never_answered_is_not_ready(instance: Instance) -> None:
    instance.turning.clear()
    assert instance.json("/readyz")[0] == 503


# /metrics


def test_metrics_are_in_the_plain_text_format(instance: Instance) -> None:
    response, body = instance.ask("/metrics")
    assert (response.status, response.headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    names = {family.name for family in text_string_to_metric_families(body.decode())}
    assert {"delayed_consumer_lateness_seconds", "delayed_consumer_waiting_messages"} <= names


def test_prometheus_may_ask_for_openmetrics(instance: Instance) -> None:
    response, body = instance.ask("/metrics", Accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")


# /status


def test_status_has_what_the_interface_names(instance: Instance) -> None:
    code, answer = instance.json("/status")
    assert code == 200
    assert answer["partitions"] == [
        {
            "topic": "orders",
            "partition": 0,
            "state": "paused",
            "paused": True,
            "position": 120,
            "committed": 100,
            "end": 150,
            "held": 15,
            "held_bytes": 6_000,
            "in_flight": 5,
            "next_due_ms": 1_795_000_900_000,
            "paused_until_ms": 1_795_000_895_000,
            "waiting": 40,
            "overdue": 10,
            "oldest_overdue_seconds": 1.5,
        }
    ]
    assert answer["service"] == {
        "ready": True,
        "reason": None,
        "alive": True,
        "stopping": False,
        "idle_member": False,
        "note": None,
        "last_poll_ms": 1_795_000_000_000.0,
    }
    assert answer["settings"] == {"delay_seconds": 900.0}


def test_partitions_are_in_order(instance: Instance) -> None:
    instance.status = replace(READY, partitions=tuple(replace(PARTITION, partition=number) for number in (10, 2, 1)))
    assert [one["partition"] for one in instance.json("/status")[1]["partitions"]] == [1, 2, 10]


def test_what_is_not_known_is_null(instance: Instance) -> None:
    instance.status = replace(READY, partitions=(replace(PARTITION, waiting=None, end=None),))
    partition = instance.json("/status")[1]["partitions"][0]
    assert (partition["waiting"], partition["end"]) == (None, None)


def test_lateness_is_null_before_the_first_delivery_and_then_in_milliseconds(instance: Instance) -> None:
    names = ["p50", "p90", "p99", "p999", "max"]
    assert instance.json("/status")[1]["lateness_ms"] == dict.fromkeys(names)

    instance.metrics.lateness.observe([1_000], 1_250.0)

    lateness_ms = instance.json("/status")[1]["lateness_ms"]
    assert list(lateness_ms) == names
    assert lateness_ms["max"] == 250.0
    assert 225 <= lateness_ms["p50"] <= 250


def test_totals_are_the_counters(instance: Instance) -> None:
    instance.metrics.delivered.inc(3)
    totals = instance.json("/status")[1]["totals"]
    assert (totals["delivered"], totals["failed"], totals["early"]) == (3, 0, 0)


def test_an_idle_member_is_told_that_there_are_more_instances_than_partitions(instance: Instance) -> None:
    instance.status = replace(READY, idle_member=True, partitions=())
    assert "more instances than partitions" in instance.json("/status")[1]["service"]["note"]


def test_no_path_shows_a_secret(instance: Instance) -> None:
    settings = Settings(
        kafka_bootstrap_servers="broker:9092",
        kafka_topics=["orders"],
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_mechanism="PLAIN",
        kafka_sasl_username="user",
        kafka_sasl_password="hunter2-hunter2",
    )
    instance.settings.update(settings.masked())
    assert b"kafka_sasl_password" in instance.ask("/status")[1]
    for path in [*PATHS, "/nothing"]:
        assert b"hunter2" not in instance.ask(path)[1]


# The page


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str | None] = []
        self.inline: dict[str, str] = {}
        self._tag = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        self.addresses += [value for name, value in attrs if name in {"src", "href", "action"}]

    def handle_data(self, data: str) -> None:
        if self._tag in {"style", "script"} and data.strip():
            self.inline[self._tag] = data


def test_the_page_needs_nothing_but_this_server(instance: Instance) -> None:
    response, body = instance.ask("/")
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert set(Page(body.decode()).addresses) == {"data:,", "/status"}
    assert re.findall(rb"https?:|@import|url\(", body) == []


def test_the_policy_permits_the_style_and_script_of_the_page_and_no_other(instance: Instance) -> None:
    response, body = instance.ask("/")
    policy = response.headers["Content-Security-Policy"]
    inline = Page(body.decode()).inline
    assert set(inline) == {"style", "script"}
    for kind, text in inline.items():
        assert f"{kind}-src 'sha256-{b64encode(sha256(text.encode()).digest()).decode()}';" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_the_page_reads_only_what_status_has(instance: Instance) -> None:
    answer = instance.json("/status")[1]
    script = Page(instance.ask("/")[1].decode()).inline["script"]
    assert set(re.findall(r"\bstatus\.(?!ok\b)(\w+)", script)) <= set(answer)
    assert set(re.findall(r"\bone\.(\w+)", script)) <= set(answer["partitions"][0])
    assert set(re.findall(r"\bservice\.(\w+)", script)) <= set(answer["service"])


# HTTP


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_only_get_and_head_are_allowed(instance: Instance, method: str) -> None:
    response, _ = instance.ask("/status", method)
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


def test_an_unknown_method_is_refused(instance: Instance) -> None:
    assert instance.ask("/", "BREW")[0].status == 501


@pytest.mark.parametrize("path", PATHS)
def test_head_has_the_headers_of_get(instance: Instance, path: str) -> None:
    head, _ = instance.ask(path, "HEAD")
    get, _ = instance.ask(path)
    assert (head.status, head.headers["Content-Type"]) == (200, get.headers["Content-Type"])
    assert int(head.headers["Content-Length"]) > 0


def test_head_sends_no_body(instance: Instance) -> None:
    with socket.create_connection(("127.0.0.1", instance.server.port), timeout=10) as client:
        client.sendall(b"HEAD /livez HTTP/1.0\r\n\r\n")
        assert client.makefile("rb").read().endswith(b"\r\n\r\n")


def test_an_unknown_path_lists_the_known_ones(instance: Instance) -> None:
    code, answer = instance.json("/healthz")
    assert (code, answer["paths"]) == (404, PATHS)


def test_a_query_does_not_hide_a_path(instance: Instance) -> None:
    assert instance.json("/livez?verbose=1")[0] == 200


@pytest.mark.parametrize("path", [*PATHS, "/nothing", "/" + "x" * 70_000])
def test_no_response_is_stored_or_sniffed(instance: Instance, path: str) -> None:
    headers = instance.ask(path)[0].headers
    assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
    assert headers["Server"] == "delayed-consumer"


def test_a_request_line_without_end_is_refused(instance: Instance) -> None:
    assert instance.ask("/" + "x" * 70_000)[0].status == 414


def test_nothing_is_written_to_the_terminal(instance: Instance, capfd: pytest.CaptureFixture[str]) -> None:
    instance.ask("/status")
    instance.ask("/nothing")
    with socket.create_connection(("127.0.0.1", instance.server.port)) as rude:
        rude.sendall(b"\0\r\n\r\n")
        rude.recv(1000)
    assert capfd.readouterr() == ("", "")


def test_a_bug_in_an_answer_is_a_500_and_is_reported(instance: Instance, capfd: pytest.CaptureFixture[str]) -> None:
    def broken() -> bool:
        raise RuntimeError("planted")

    instance.alive = broken
    code, answer = instance.json("/livez")
    assert (code, answer) == (500, {"error": "internal error"})
    assert [str(instance.errors.pop())] == ["planted"]
    assert capfd.readouterr() == ("", "")


def test_a_slow_client_is_dropped(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    assert server_module._Handler.timeout is not None
    monkeypatch.setattr(server_module._Handler, "timeout", 0.1)
    with socket.create_connection(("127.0.0.1", instance.server.port), timeout=10) as slow:
        slow.sendall(b"GET /livez HT")
        assert slow.recv(1000) == b""


def test_a_slow_client_does_not_keep_others_waiting(instance: Instance) -> None:
    with socket.create_connection(("127.0.0.1", instance.server.port)) as slow:
        slow.sendall(b"GET /livez HT")
        assert instance.json("/livez")[0] == 200


def test_connections_are_bounded_and_free_again_afterwards(instance: Instance) -> None:
    address = ("127.0.0.1", instance.server.port)
    idle = [socket.create_connection(address, timeout=10) for _ in range(MAX_CONNECTIONS)]
    with socket.create_connection(address, timeout=10) as one_too_many:
        assert one_too_many.recv(1000) == b""
    for connection in idle:
        connection.close()
    wait_until(lambda: answers(instance))


def answers(instance: Instance) -> bool:
    try:
        return instance.json("/livez")[0] == 200
    except ConnectionError:
        return False


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "the condition was not met in time"
        time.sleep(0.01)


# Start and close


def test_a_port_in_use_is_a_problem_of_the_settings(instance: Instance) -> None:
    with pytest.raises(ConfigError, match=f"HTTP_PORT={instance.server.port}.*in use"):
        instance.another("127.0.0.1", instance.server.port).start()


def test_a_host_that_is_not_ours_is_a_problem_of_the_settings(instance: Instance) -> None:
    with pytest.raises(ConfigError, match=r"HTTP_HOST=192\.0\.2\.1"):
        instance.another("192.0.2.1", 0).start()


def test_start_and_close_may_be_repeated(instance: Instance) -> None:
    port = instance.server.port
    instance.server.start()
    assert instance.server.port == port
    instance.server.close()
    instance.server.close()
    with pytest.raises(ConnectionError):
        instance.json("/livez")


def test_a_closed_server_leaves_its_port(instance: Instance) -> None:
    port = instance.server.port
    instance.server.close()
    other = instance.another("127.0.0.1", port)
    other.start()
    other.close()


def test_a_close_does_not_wait_for_a_slow_client(instance: Instance) -> None:
    with socket.create_connection(("127.0.0.1", instance.server.port)) as slow:
        slow.sendall(b"GET /livez HT")
        instance.json("/livez")  # so that the slow one was accepted too
        before = time.monotonic()
        instance.server.close()
        assert time.monotonic() - before < server_module.SLOW_CLIENT_TIMEOUT_S / 2


def ipv6_is_here() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not ipv6_is_here(), reason="no IPv6 on this machine")
def test_the_ipv6_wildcard_answers_ipv4_and_ipv6(instance: Instance) -> None:
    server = instance.another("::", 0)
    server.start()
    try:
        assert healthcheck("::", server.port) == 0
        assert healthcheck("127.0.0.1", server.port) == 0
    finally:
        server.close()


# healthcheck


def test_healthcheck_is_0_where_the_path_answers_200(instance: Instance, capfd: pytest.CaptureFixture[str]) -> None:
    assert healthcheck("127.0.0.1", instance.server.port) == 0
    assert healthcheck("0.0.0.0", instance.server.port, "/livez") == 0
    assert capfd.readouterr() == ("", "")


def test_healthcheck_is_1_with_the_reason_in_one_line(instance: Instance, capfd: pytest.CaptureFixture[str]) -> None:
    instance.status = replace(READY, stopping=True)
    assert healthcheck("127.0.0.1", instance.server.port) == 1
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert '503 {"ready": false, "reason": "stopping"}' in err


def test_healthcheck_asks_the_path_it_was_given(instance: Instance) -> None:
    instance.status = replace(READY, ready=False)
    assert healthcheck("127.0.0.1", instance.server.port, "/livez") == 0
    assert healthcheck("127.0.0.1", instance.server.port, "/readyz") == 1


def test_healthcheck_is_1_where_nobody_listens(instance: Instance, capfd: pytest.CaptureFixture[str]) -> None:
    port = instance.server.port
    instance.server.close()
    assert healthcheck("127.0.0.1", port) == 1
    assert re.fullmatch(rf"127\.0\.0\.1:{port}/readyz: no answer: .*refused\n", capfd.readouterr().err)


def test_healthcheck_does_not_wait_for_ever(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        assert healthcheck("127.0.0.1", mute.getsockname()[1], timeout_s=0.1) == 1
    assert "timed out" in capfd.readouterr().err
