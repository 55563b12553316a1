"""Short ways to make what SINK=http gets, and what a target got."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from delayed_consumer.record import Record
from delayed_consumer.sinks.http import HttpHandler
from tests.support.http_server import (
    HttpTarget,
    Request,
)

REQUIRED = {"KAFKA_BOOTSTRAP_SERVERS": "localhost:9092", "KAFKA_TOPICS": "orders", "SINK": "http"}
CANARY = "c4n4ry"

Handle = Callable[..., HttpHandler]


def record(value: bytes | None = b"v", **fields: Any) -> Record:
    usual: dict[str, Any] = {"offset": 42, "key": None, "headers": [], "timestamp_ms": 1_795_000_000_123}
    usual |= {"topic": "orders.v1", "partition": 3, "due_ms": 0, "lateness_ms": 0.0, "attempt": 1}
    return Record(value=value, **(usual | fields))


def sent(target: HttpTarget, handle: HttpHandler, one: Record) -> Request:
    handle(one)
    return target.requests[-1]
