"""A real HTTP server that answers by a script and keeps what it got."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

Answer = Callable[["Exchange"], None]


@dataclass(frozen=True)
class Request:
    """``connection`` tells connections apart; header names are compared without their case."""

    method: str
    path: str
    headers: Message
    body: bytes
    connection: int

    @property
    def offset(self) -> int:
        return int(self.headers["X-Kafka-Offset"])


class Exchange(BaseHTTPRequestHandler):
    """One connection of a client; an `Answer` writes to ``wfile`` or does something else to it."""

    protocol_version = "HTTP/1.1"
    server: HttpTarget

    def setup(self) -> None:
        super().setup()
        self.number = self.server.number_of_next_connection()

    def do_POST(self) -> None:
        with suppress(ConnectionError):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = Request(self.command, self.path, self.headers, body, self.number)
            self.server.answer_to(request)(self)

    def log_message(self, *_: object) -> None:
        """The tests look at the requests instead."""


class HttpTarget(ThreadingHTTPServer):
    """Listens on ``url`` from the start to the end of a with statement.

    Answers are taken from ``script`` in turn; where that is used up, they are what ``usual`` says to a request.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *script: Answer, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", port), Exchange)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.requests: list[Request] = []
        self.script = deque(script)
        self.usual: Callable[[Request], Answer] = lambda _: status(204)
        self.connections = 0
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server_port}"
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="http-target", daemon=True)

    def number_of_next_connection(self) -> int:
        with self._lock:
            self.connections += 1
            return self.connections

    def answer_to(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            return self.script.popleft() if self.script else self.usual(request)

    def offsets(self) -> list[int]:
        """Of the records that came, in the order they came."""
        return [request.offset for request in list(self.requests)]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away, or does not trust us, is part of the tests."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


def status(code: int, headers: Mapping[str, str] = {}, body: bytes = b"") -> Answer:
    def answer(exchange: Exchange) -> None:
        exchange.send_response_only(code)
        for name, value in headers.items():
            exchange.send_header(name, value)
        exchange.send_header("Content-Length", str(len(body)))
        exchange.end_headers()
        exchange.wfile.write(body)

    return answer


def in_the_end(last: Answer, interim: int) -> Answer:
    """An interim answer comes first, and the last one a little later."""

    def answer(exchange: Exchange) -> None:
        exchange.wfile.write(b"HTTP/1.1 %d Interim\r\nLink: </style.css>\r\n\r\n" % interim)
        time.sleep(0.05)
        last(exchange)

    return answer


def reset(exchange: Exchange) -> None:
    """Instead of an answer."""
    exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    exchange.close_connection = True
    exchange.connection.close()


def hang_up(exchange: Exchange) -> None:
    """Closes the connection without an answer."""
    exchange.close_connection = True


def silent(until: threading.Event) -> Answer:
    """Answers when it is too late."""

    def answer(exchange: Exchange) -> None:
        until.wait(60)
        exchange.close_connection = True

    return answer


def dripping(first: bytes, until: threading.Event, every_seconds: float = 0.05) -> Answer:
    """Writes ``first``, then a byte at a time for as long as the client is there."""

    def answer(exchange: Exchange) -> None:
        exchange.wfile.write(first)
        while not until.wait(every_seconds):
            exchange.wfile.write(b"x")
        exchange.close_connection = True

    return answer


def endless(code: int) -> Answer:
    """Writes for as long as the client reads."""

    def answer(exchange: Exchange) -> None:
        exchange.send_response_only(code)
        exchange.send_header("Content-Length", str(2**40))
        exchange.end_headers()
        exchange.close_connection = True
        while True:
            exchange.wfile.write(b"x" * 65_536)

    return answer


def cut_off(code: int) -> Answer:
    """Says that there is more than it writes."""

    def answer(exchange: Exchange) -> None:
        exchange.send_response_only(code)
        exchange.send_header("Content-Length", "100")
        exchange.end_headers()
        exchange.wfile.write(b"x")
        exchange.close_connection = True

    return answer
