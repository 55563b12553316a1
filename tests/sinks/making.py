"""Short ways to make what sinks get."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import TIMESTAMP_CREATE_TIME, Message

from delayed_consumer.core.records import Partition, Run
from delayed_consumer.sinks import Outcome, Sink
from tests.support.wait import wait_until

ORDERS = Partition("orders", 3)
TIMESTAMP_MS = 1_795_000_000_123
Headers = list[tuple[str, bytes | None]]


class Into(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, said: list[logging.LogRecord]) -> None:
        super().__init__()
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(record)


def message(
    value: bytes | None = b"v",
    key: bytes | None = None,
    headers: Headers | None = None,
    *,
    offset: int = 0,
    partition: Partition = ORDERS,
    timestamp_ms: int = TIMESTAMP_MS,
) -> Message:
    where: dict[str, Any] = {"topic": partition.topic, "partition": partition.number, "offset": offset}
    timestamp = (TIMESTAMP_CREATE_TIME, timestamp_ms)
    where |= {"headers": headers}
    return Message(**where, value=value, key=key, timestamp=timestamp)


def run_of(*messages: Message, first_offset: int = 0, partition: Partition = ORDERS) -> Run:
    """A run of these messages at consecutive offsets, each due at its timestamp."""
    offsets = range(first_offset, first_offset + len(messages))
    timestamps_ms = [one.timestamp()[1] for one in messages]
    return Run(partition, 1, messages, offsets, timestamps_ms, timestamps_ms, [1] * len(messages))


def ended(sink: Sink, enough: Callable[[list[Outcome]], bool] = bool) -> list[Outcome]:
    """What has ended when there is enough of it."""
    outcomes: list[Outcome] = []

    def look() -> bool:
        outcomes.extend(sink.outcomes())
        return enough(outcomes)

    wait_until(look, 10, "an outcome")
    return outcomes


def results(outcomes: Sequence[Outcome]) -> list[tuple[int, str | None]]:
    return [(one.done, one.failure) for one in outcomes]
