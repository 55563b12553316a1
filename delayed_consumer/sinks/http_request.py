"""What SINK=http sends for a record besides its value."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, quote_from_bytes

from delayed_consumer import __version__
from delayed_consumer.clock import Clock
from delayed_consumer.origin import Header
from delayed_consumer.record import Record
from delayed_consumer.settings import Settings
from delayed_consumer.sinks.http_signature import signature, signing_key

RECORD_HEADER = "X-Kafka-Header-"
# Servers refuse a request with more than about 100 headers, or 8 KiB of them.
_MOST_RECORD_HEADERS = 50
_MOST_RECORD_HEADER_BYTES = 4096
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLOUDEVENTS_SAFE = "!#$&'()*+,/:;<=>?@[\\]^`{|}"  # all that is printed but the quote, the percent sign and the space


class Headers:
    """Makes the headers of each request. What a record brings is percent-encoded, under names that begin with ours."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._clock = clock
        self._same_for_all = _same_for_all(settings)
        secret = settings.sink_http_signing_secret
        self._signing_key = None if secret is None else signing_key(secret.get_secret_value())
        self._event = CloudEvent.of(settings) if settings.sink_http_format == "cloudevents" else None

    def of(self, record: Record) -> dict[str, str]:
        topic = quote(record.topic, safe="")
        name = f"{topic}/{record.partition}/{record.offset}"
        headers = {
            **self._same_for_all,
            "X-Kafka-Topic": topic,
            "X-Kafka-Partition": str(record.partition),
            "X-Kafka-Offset": str(record.offset),
            "X-Kafka-Timestamp": str(record.timestamp_ms),
            "Idempotency-Key": name,
        }
        if record.key is not None:
            headers["X-Kafka-Key"] = quote_from_bytes(record.key, safe="")
        if record.value is None:
            headers["X-Kafka-Tombstone"] = "true"
        if record.headers:
            headers |= record_headers(record.headers)
        if self._event is not None:
            headers |= self._event.headers(record, name)
        if self._signing_key is not None:
            headers |= signature(self._signing_key, name, int(self._clock.now_ms() / 1000), record.value or b"")
        return headers


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """A record as an event of CloudEvents 1.0, in the binary mode of its HTTP binding: the value stays the body."""

    kind: str
    source: str | None

    @classmethod
    def of(cls, settings: Settings) -> CloudEvent:
        return cls(settings.sink_http_cloudevents_type, settings.sink_http_cloudevents_source)

    def headers(self, record: Record, name: str) -> dict[str, str]:
        """``name`` is the record's coordinates. An attribute that would not be valid is left out."""
        attributes = {
            "specversion": "1.0",
            "id": name,
            "source": self.source or f"/kafka/{quote(record.topic, safe='')}",
            "type": self.kind,
            "time": _rfc3339(record.timestamp_ms),
            "partitionkey": _printable(record.key),
        }
        return {f"ce-{name}": quote(value, safe=_CLOUDEVENTS_SAFE) for name, value in attributes.items() if value}


def record_headers(headers: Sequence[Header]) -> dict[str, str]:
    """The headers of a record, as many as fit, and how many were left out.

    Values of the same name are joined with a comma, which none of them can hold. One that is null is sent empty.
    """
    sent: dict[str, str] = {}
    room_bytes = _MOST_RECORD_HEADER_BYTES
    for count, (name, value) in enumerate(headers):
        encoded = _encoded(name, value or b"", room_bytes)
        if encoded is None or count == _MOST_RECORD_HEADERS:
            return {**sent, "X-Kafka-Headers-Omitted": str(len(headers) - count)}
        key, text = encoded
        room_bytes -= len(key) + len(text)
        sent[key] = f"{sent[key]},{text}" if key in sent else text
    return sent


def _same_for_all(settings: Settings) -> dict[str, str]:
    given = {name: value.get_secret_value() for name, value in settings.sink_http_headers.items()}
    own = {"Content-Type": settings.sink_http_content_type, **dict(_authorization(settings)), **given}
    named = any(name.lower() == "user-agent" for name in given)
    return own if named else {"User-Agent": f"delayed-consumer/{__version__}", **own}


def _authorization(settings: Settings) -> Iterator[tuple[str, str]]:
    token, user, password = settings.sink_http_bearer_token, settings.sink_http_username, settings.sink_http_password
    if token is not None:
        yield "Authorization", f"Bearer {token.get_secret_value()}"
    elif user is not None and password is not None:
        login = f"{user}:{password.get_secret_value()}".encode()
        yield "Authorization", f"Basic {base64.b64encode(login).decode()}"


def _encoded(name: str, value: bytes, room_bytes: int) -> tuple[str, str] | None:
    """Name and value for a request; None when they need more room."""
    if len(name) + len(value) > room_bytes:
        return None  # not even encoded: it may be megabytes
    key, text = RECORD_HEADER + quote(name, safe=""), quote_from_bytes(value, safe="")
    return (key, text) if len(key) + len(text) <= room_bytes else None


def _rfc3339(timestamp_ms: int) -> str | None:
    """None for a record without a timestamp, and beyond the year 9999."""
    if timestamp_ms < 0:
        return None
    try:
        when = _EPOCH + timedelta(milliseconds=timestamp_ms)
    except OverflowError:
        return None
    return f"{when.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def _printable(key: bytes | None) -> str | None:
    """A key as text; None where it is none: then only X-Kafka-Key has it."""
    try:
        text = (key or b"").decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None
