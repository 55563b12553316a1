"""Where a record came from first, in headers that travel with it through relays, retry topics and dead letters."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from delayed_consumer.core.records import Run
from delayed_consumer.failures import Failure

Header = tuple[str, bytes | None]

PREFIX = "delayed-consumer."
_ORIGIN = tuple(PREFIX + name for name in ("topic", "partition", "offset", "timestamp"))
_FAILURE = tuple(PREFIX + name for name in ("error", "attempts"))
_LONGEST_ERROR_BYTES = 1_000


@dataclass(frozen=True, slots=True)
class Origin:
    """A record as it was first read: its coordinates there, its own headers, and the attempts made since.

    ``timestamp_ms`` is negative for a record without one.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    headers: Sequence[Header]
    attempts: int = 0

    def as_headers(self) -> list[Header]:
        """Decimal text in UTF-8."""
        values = (self.topic, self.partition, self.offset, self.timestamp_ms)
        return [(name, str(value).encode()) for name, value in zip(_ORIGIN, values, strict=True)]

    def after(self, failure: Failure) -> list[Header]:
        """All headers of this record's retry or dead letter: its own, its coordinates, the error, attempts in all."""
        error = failure.reason.encode(errors="replace")[:_LONGEST_ERROR_BYTES]
        error = error.decode(errors="ignore").encode()  # the cut may have gone through a character
        values = (error, b"%d" % (self.attempts + failure.attempts))
        return [*self.headers, *self.as_headers(), *zip(_FAILURE, values, strict=True)]


class Origins:
    """Finds them: a record that was read from a retry topic has its origin in its last headers."""

    def __init__(self, retry_topics: Collection[str] = ()) -> None:
        self._retry_topics = frozenset(retry_topics)

    def may_be_elsewhere(self, topic: str) -> bool:
        """Whether records that are read from ``topic`` may have been read from another one first."""
        return topic in self._retry_topics

    def of(self, run: Run, index: int) -> Origin:
        message = run.messages[index]
        headers = message.headers() or []
        if self.may_be_elsewhere(run.partition.topic) and (origin := read_origin(headers)) is not None:
            return origin
        return Origin(*run.partition, run.offsets[index], run.timestamps_ms[index], headers)

    def relayed(self, run: Run, first: int) -> Iterator[tuple[int, int, list[Header]]]:
        """Of the records of ``run`` from index ``first`` on: the partition and timestamp that each had at first, and
        its own headers and its origin. Without an `Origin` for each, which would cost as much as producing it."""
        if run.partition.topic in self._retry_topics:
            for index in range(first, len(run)):
                origin = self.of(run, index)
                yield origin.partition, origin.timestamp_ms, [*origin.headers, *origin.as_headers()]
            return
        topic, partition, offset, timestamp = _ORIGIN
        number = run.partition.number
        same = (topic, run.partition.topic.encode()), (partition, b"%d" % number)
        columns = zip(run.messages[first:], run.offsets[first:], run.timestamps_ms[first:], strict=True)
        for message, at, timestamp_ms in columns:
            own = message.headers() or ()
            yield number, timestamp_ms, [*own, *same, (offset, b"%d" % at), (timestamp, b"%d" % timestamp_ms)]


def read_origin(headers: Sequence[Header]) -> Origin | None:
    """What `Origin.after` wrote behind a record's own headers; None: these were not written by it."""
    count = len(_ORIGIN) + len(_FAILURE)
    own, ours = headers[:-count], headers[-count:]
    if tuple(name for name, _ in ours) != _ORIGIN + _FAILURE:
        return None
    topic, partition, offset, timestamp, _, attempts = (value or b"" for _, value in ours)
    try:
        return Origin(topic.decode(), int(partition), int(offset), int(timestamp), list(own), int(attempts))
    except ValueError:
        return None
