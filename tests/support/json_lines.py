"""Reads a stream of JSON objects, one a line, as they come."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import orjson

ARRIVED_MS = "arrived_ms"
_CHUNK_BYTES = 1024 * 1024


class JsonLines(threading.Thread):
    """``objects`` grows while the stream is open; each has the wall time at which it was there.

    A last line without its end was not written: whoever wrote it was killed.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(name="json-lines", daemon=True)
        self._descriptor = descriptor
        self.objects: list[dict[str, Any]] = []
        self.others: list[str] = []  # lines that are not a JSON object

    def run(self) -> None:
        rest = b""
        while chunk := os.read(self._descriptor, _CHUNK_BYTES):
            arrived_ms = time.time() * 1000
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._take(line, arrived_ms)

    def _take(self, line: bytes, arrived_ms: float) -> None:
        try:
            self.objects.append({**orjson.loads(line), ARRIVED_MS: arrived_ms})
        except (ValueError, TypeError):
            self.others.append(line.decode(errors="replace"))
