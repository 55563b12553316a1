"""Asks the status server of this machine whether the service is well: the container's HEALTHCHECK."""

from __future__ import annotations

import sys
from http.client import HTTPConnection, HTTPException

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104, a wildcard cannot be connected to
_LONGEST_REASON = 300


def healthcheck(host: str, port: int, path: str = "/readyz", timeout_s: float = 2.0) -> int:
    """0 when ``path`` answers 200; otherwise 1, and one line on stderr says why."""
    host = _LOOPBACK.get(host, host)
    asked = f"{f'[{host}]' if ':' in host else host}:{port}{path}"
    try:
        code, body = _get(host, port, path, timeout_s)
    except (OSError, HTTPException) as error:
        return _unhealthy(f"{asked}: no answer: {error or type(error).__name__}")
    if code != 200:
        return _unhealthy(f"{asked}: {code} {body}")
    return 0


def _get(host: str, port: int, path: str, timeout_s: float) -> tuple[int, str]:
    connection = HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read(_LONGEST_REASON).decode("utf-8", "replace")
        return response.status, " ".join(body.split())
    finally:
        connection.close()


def _unhealthy(reason: str) -> int:
    sys.stderr.write(f"{reason}\n")
    return 1
