"""A record of the dead-letter topic, and what it says of where it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from delayed_consumer.origin import PREFIX, Header, Origin, read_origin
from delayed_consumer.setting_values import check_topic_name
from delayed_consumer.sinks.log import text_or_base64

_ERROR = PREFIX + "error"


class LetterId(NamedTuple):
    """Where a dead letter is in its topic."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record of the dead-letter topic.

    Attributes:
        timestamp_ms: when it was dead-lettered.
        headers: all of them; None: the client cannot read them.
        origin: None: it is somebody else's record, not a dead letter of this service.
    """

    id: LetterId
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header] | None
    origin: Origin | None

    @classmethod
    def of(cls, message: Any) -> DeadLetter:
        """``message``: as the client has it. Called once for each: see `_headers`."""
        headers = _headers(message)
        return cls(
            LetterId(message.partition(), message.offset()),
            message.timestamp()[1],
            message.key(),
            message.value(),
            headers,
            _origin(headers or []),
        )

    @property
    def error(self) -> str | None:
        """Why it was given up; None for somebody else's record."""
        if self.origin is None or not self.headers:
            return None
        return next((value or b"" for name, value in reversed(self.headers) if name == _ERROR), b"").decode(
            errors="replace"
        )

    @property
    def own_headers(self) -> Sequence[Header] | None:
        """Those that it had before it became a dead letter."""
        return self.headers if self.origin is None else self.origin.headers

    @property
    def size_bytes(self) -> int:
        """Of its key, value and headers, ours included."""
        headers = sum(len(name) + len(value or b"") for name, value in self.headers or ())
        return len(self.key or b"") + len(self.value or b"") + headers

    def as_document(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        origin, headers = self.origin, self.own_headers
        return {
            "id": str(self.id),
            "partition": self.id.partition,
            "offset": self.id.offset,
            "timestamp_ms": self.timestamp_ms,
            "origin": None
            if origin is None
            else {
                "topic": origin.topic,
                "partition": origin.partition,
                "offset": origin.offset,
                "timestamp_ms": origin.timestamp_ms,
            },
            "attempts": None if origin is None else origin.attempts,
            "error": self.error,
            "key": text_or_base64(self.key),
            "value": text_or_base64(self.value),
            "headers": None if headers is None else [(name, text_or_base64(value)) for name, value in headers],
            "size_bytes": self.size_bytes,
        }


def _headers(message: Any) -> Sequence[Header] | None:
    try:
        return message.headers() or []
    except (
        SystemError
    ):  # a name that is not UTF-8; to look at them again would crash the process (confluent-kafka 2.16)
        return None


def _origin(headers: Sequence[Header]) -> Origin | None:
    """What the service wrote. Headers that only look like it could name no topic."""
    origin = read_origin(headers)
    if origin is None:
        return None
    try:
        check_topic_name(origin.topic)
    except ValueError:
        return None
    return origin
