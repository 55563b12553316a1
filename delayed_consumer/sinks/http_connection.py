"""The connections of SINK=http: pooled by urllib3, never to a refused address, and each request ends in time."""

from __future__ import annotations

import math
import socket
import ssl
from contextlib import suppress
from http.client import HTTPResponse
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Retry, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection

from delayed_consumer.clock import Clock
from delayed_consumer.sinks.http_address import Target, resolve
from delayed_consumer.sinks.http_authorities import tls_context

NO_RETRIES = Retry(False)  # the attempts are counted elsewhere, and a redirect is an answer like any other


class Deadline:
    """When the request that is under way must have ended."""

    def __init__(self, clock: Clock, total_seconds: float) -> None:
        self._clock = clock
        self._total_ms = total_seconds * 1000
        self._ends_ms = math.inf

    def begin(self) -> None:
        self._ends_ms = self._clock.steady_ms() + self._total_ms

    def left_seconds(self) -> float:
        """Raises TimeoutError when nothing is left."""
        left_ms = self._ends_ms - self._clock.steady_ms()
        if left_ms <= 0:
            raise TimeoutError("the request took too long")
        return left_ms / 1000


class TimedSocket(socket.socket):
    """A socket whose operations end with the deadline.

    The library's own time-outs are of single operations: an answer that comes a byte at a time would never end.
    """

    deadline: Deadline | None = None
    _each_seconds: float | None = None

    def settimeout(self, value: float | None) -> None:
        self._each_seconds = value
        super().settimeout(value)

    def recv_into(self, *arguments: Any) -> int:
        self._limit(self._each_seconds)
        return super().recv_into(*arguments)

    def send(self, *arguments: Any) -> int:
        self._limit(None)
        return super().send(*arguments)

    def sendall(self, *arguments: Any) -> None:
        self._limit(None)  # a large value may take longer than the time-out of an answer
        super().sendall(*arguments)

    def _limit(self, seconds: float | None) -> None:
        if self.deadline is not None:
            left_seconds = self.deadline.left_seconds()
            super().settimeout(left_seconds if seconds is None else min(seconds, left_seconds))


class TimedTlsSocket(TimedSocket, ssl.SSLSocket):
    """The same, encrypted; made by a context, and so is its handshake."""


class _FinalAnswer(HTTPResponse):
    """Passes over interim answers such as 102 and 103, of which the library knows only 100.

    Taken for the answer, one would leave the real one in the connection, as that to the next record.
    """

    def begin(self) -> None:
        super().begin()
        while 100 <= self.status < 200:
            self.headers = None  # type: ignore[assignment]  # or it would not begin again
            super().begin()


class _Connection(HTTPConnection):
    response_class = _FinalAnswer

    def __init__(self, *arguments: Any, deadline: tuple[Clock, float], **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.deadline = Deadline(*deadline)

    def connect(self) -> None:
        super().connect()
        assert isinstance(self.sock, TimedSocket)
        self.sock.deadline = self.deadline

    def _new_conn(self) -> socket.socket:
        """A socket that is connected. Resolves the name and looks at what it means, so that nothing comes between."""
        *others, last = resolve(self._dns_host, self.port)
        for family, address in others:
            with suppress(OSError):
                return self._connected(family, address)
        return self._connected(*last)

    def _connected(self, family: int, address: Any) -> socket.socket:
        connecting = TimedSocket(family, socket.SOCK_STREAM)
        try:
            left_seconds = self.deadline.left_seconds()
            connecting.settimeout(left_seconds if self.timeout is None else min(self.timeout, left_seconds))
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connecting.connect(address)
        except OSError:
            connecting.close()
            raise
        return connecting


class _TlsConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection

    def _get_conn(self, timeout: float | None = None) -> Any:
        """The connection of the next request, whose time begins."""
        connection = super()._get_conn(timeout)
        assert isinstance(connection, _Connection)
        connection.deadline.begin()
        return connection


class _TlsPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def connect_to(
    target: Target,
    connections: int,
    timeout: Timeout,
    deadline: tuple[Clock, float],
    ca_location: str | None,
) -> HTTPConnectionPool:
    """A pool of at most that many connections, made when they are needed; connecting to nothing yet.

    ``timeout`` is of making a connection and of each wait for an answer; ``deadline`` the clock and how many seconds
    a request may take in all. Raises OSError for unusable authorities.
    """
    common: dict[str, Any] = {"maxsize": connections, "block": True, "timeout": timeout, "deadline": deadline}
    if target.scheme == "http":
        return _Pool(target.host, target.port, **common)
    context = tls_context(ca_location)
    context.sslsocket_class = TimedTlsSocket
    return _TlsPool(target.host, target.port, ssl_context=context, **common)
