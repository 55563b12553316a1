"""What the measurements compare the service with must itself be right."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest

from load.limits import bare
from load.limits.http_server import http_server

POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def test_every_post_of_the_library_alone_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_server() as url:
        monkeypatch.setenv("SINK_URL", url)
        assert bare.posts(100, 1) > 0


def test_the_server_answers_each_request_once_however_it_comes_in() -> None:
    with http_server() as url, socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), 10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in (POST[:10], POST[10:-2], POST[-2:] + POST + POST[:-1], POST[-1:]):
            connection.sendall(part)
        answers = b""
        while len(answers) < 3 * len(ANSWER):
            answers += connection.recv(1000)
        assert answers == 3 * ANSWER
        connection.settimeout(0.05)
        with pytest.raises(TimeoutError):
            connection.recv(1)
