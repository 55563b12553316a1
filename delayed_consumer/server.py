"""The status server: /livez, /readyz, /metrics, /status and the page at /."""

from __future__ import annotations

import json
import re
import selectors
import socket
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from importlib.resources import files
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, ClassVar

from prometheus_client.exposition import choose_encoder

from delayed_consumer.errors import ConfigError
from delayed_consumer.metrics import ANSWER_TIMEOUT_S, Metrics
from delayed_consumer.status import ServiceStatus, StatusBoard

SLOW_CLIENT_TIMEOUT_S = 5.0
MAX_CONNECTIONS = 32  # a thread each; more are closed at once

IDLE_NOTE = "This instance stands by with nothing to do: there are more instances than partitions."
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


@dataclass(frozen=True, slots=True)
class Answer:
    body: bytes
    content_type: str
    code: int = 200


class Pages:
    """What each path answers. Nothing here needs the brokers; only /livez does not ask the loop either."""

    def __init__(
        self, board: StatusBoard, metrics: Metrics, settings: Mapping[str, object], alive: Callable[[], bool]
    ) -> None:
        self._board = board
        self._metrics = metrics
        self._settings = settings
        self._alive = alive
        self._html = files("delayed_consumer").joinpath("page.html").read_bytes()
        self.content_security_policy = _content_security_policy(self._html.decode())
        self._answers: dict[str, Callable[[str], Answer]] = {
            "/": lambda _: Answer(self._html, "text/html; charset=utf-8"),
            "/livez": lambda _: self._livez(),
            "/readyz": lambda _: self._readyz(),
            "/metrics": self._exposition,
            "/status": lambda _: self._status(),
        }

    def answer(self, path: str, accept: str) -> Answer:
        """The answer to a GET; ``accept`` is the header that chooses the format of /metrics."""
        found = self._answers.get(path)
        return _json({"error": "no such path", "paths": list(self._answers)}, 404) if found is None else found(accept)

    def _livez(self) -> Answer:
        if self._alive():
            return _json({"alive": True})
        return _json({"alive": False, "reason": "the loop has not turned for too long"}, 503)

    def _readyz(self) -> Answer:
        reason = self._not_ready(self._board.ask(ANSWER_TIMEOUT_S))
        return _json({"ready": True}) if reason is None else _json({"ready": False, "reason": reason}, 503)

    def _not_ready(self, status: ServiceStatus) -> str | None:
        if status.stopping:
            return "stopping"
        if not self._alive():  # so the snapshot is an old one
            return "the loop has not turned for too long"
        return None if status.ready else "not a member of the group: not joined yet, or membership lost"

    def _exposition(self, accept: str) -> Answer:
        encode, content_type = choose_encoder(accept)
        return Answer(encode(self._metrics.registry), content_type)

    def _status(self) -> Answer:
        status = self._board.ask(ANSWER_TIMEOUT_S)
        partitions = sorted(status.partitions, key=lambda one: (one.topic, one.partition))
        reason = self._not_ready(status)
        service = {
            "ready": reason is None,
            "reason": reason,
            "alive": self._alive(),
            "stopping": status.stopping,
            "idle_member": status.idle_member,
            "note": IDLE_NOTE if status.idle_member else None,
            "last_poll_ms": status.last_poll_ms,
        }
        return _json(
            {
                "service": service,
                "partitions": [asdict(one) for one in partitions],
                "lateness_ms": self._lateness_ms(),
                "totals": self._metrics.totals(),
                "settings": dict(self._settings),
            }
        )

    def _lateness_ms(self) -> dict[str, float | None]:
        """Since the start; None before the first delivery."""
        lateness = self._metrics.lateness
        quantiles = {name: lateness.quantile(q) for name, q in _QUANTILES.items()}
        seconds = {**quantiles, "max": lateness.max_seconds if lateness.count else None}
        return {name: None if one is None else round(one * 1000, 3) for name, one in seconds.items()}


class StatusServer:
    """Serves `Pages` on threads of its own. ``port`` 0 takes any free one.

    ``alive`` says whether the loop turned lately, without asking it. ``on_error`` gets what a page raised: a bug, which
    must not end up on stderr as a bare traceback among log lines.
    """

    def __init__(
        self,
        host: str,
        port: int,
        board: StatusBoard,
        metrics: Metrics,
        settings: Mapping[str, object],
        alive: Callable[[], bool],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._host = host
        self._port = port
        self._pages = Pages(board, metrics, settings, alive)
        self._on_error = on_error
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; before the start the one that was asked for."""
        return self._port if self._server is None else int(self._server.server_address[1])

    def start(self) -> None:
        """Raises ConfigError where the address cannot be listened on."""
        if self._server is not None:
            return
        try:
            self._server = _Server(self._host, self._port, self._pages, self._on_error)
        except OSError as error:
            raise ConfigError(
                [f"HTTP_HOST={self._host}, HTTP_PORT={self._port}: cannot listen there: {error.strerror}"]
            ) from error
        woken, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=_serve, args=(self._server, woken), name="status-server", daemon=True)
        self._thread.start()

    def close(self) -> None:
        if self._server is None or self._thread is None:
            return
        self._wake.close()
        self._thread.join()
        self._server.server_close()
        self._server = self._thread = None


def _serve(server: _Server, woken: socket.socket) -> None:
    """Until the other end of ``woken`` is closed. Not `serve_forever`: that one wakes up to look, however idle."""
    with woken, selectors.DefaultSelector() as selector:
        selector.register(server, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while all(key.fileobj is server for key, _ in selector.select()):
            server.handle_request()


class _Server(ThreadingMixIn, TCPServer):
    """Not http.server's: that one looks up its own name in the DNS while it binds, and newer ones share a port."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = MAX_CONNECTIONS
    timeout = 0  # a connection that is gone again is not waited for

    def __init__(self, host: str, port: int, pages: Pages, on_error: Callable[[Exception], None]) -> None:
        self.pages = pages
        self.on_error = on_error
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self.address_family = family
        super().__init__(address[:2], _Handler)  # type: ignore[arg-type]
        self.socket.setblocking(False)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # "::" is IPv4 as well, everywhere
        super().server_bind()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        error = sys.exception()
        if isinstance(error, Exception) and not isinstance(error, OSError):  # OSError: the client is gone
            self.on_error(error)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout: ClassVar[float] = SLOW_CLIENT_TIMEOUT_S

    def do_GET(self) -> None:
        answer = self._answer()
        self._send(answer)
        self.wfile.write(answer.body)

    def do_HEAD(self) -> None:
        self._send(self._answer())

    def _refuse(self) -> None:
        answer = _json({"error": "GET and HEAD only"}, 405)
        self._send(answer, ("Allow", "GET, HEAD"))
        self.wfile.write(answer.body)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _refuse  # noqa: N815

    def _answer(self) -> Answer:
        try:
            return self.server.pages.answer(self.path.partition("?")[0], self.headers.get("Accept", ""))
        except Exception as error:
            self.server.on_error(error)
            return _json({"error": "internal error"}, 500)

    def _send(self, answer: Answer, *headers: tuple[str, str]) -> None:
        self.send_response(answer.code)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()

    def end_headers(self) -> None:
        """Every response passes here, what http.server refuses by itself included."""
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", self.server.pages.content_security_policy)
        super().end_headers()

    def version_string(self) -> str:
        return "delayed-consumer"

    def log_message(self, *_: object) -> None:
        """Nothing: stderr carries the service's log lines only."""


def _json(value: object, code: int = 200) -> Answer:
    return Answer(f"{json.dumps(value, default=str)}\n".encode(), "application/json", code)


def _content_security_policy(html: str) -> str:
    """Permits the page's own style and script by their hashes, requests to this server, and nothing else."""
    sources = " ".join(
        f"{kind}-src '{_hash(text)}';" for kind, text in re.findall(r"(?s)<(style|script)>(.*?)</", html)
    )
    return (
        f"default-src 'none'; {sources} connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
