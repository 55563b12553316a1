"""Where a record came from first, in headers that travel with it through relays, retry topics and dead letters."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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


class Relayed(NamedTuple):
    """Records as they are written to another topic, column by column.

    ``partitions`` and ``timestamps_ms`` are those that each had at first, ``headers`` its own and its origin.
    """

    partitions: Sequence[int]
    timestamps_ms: Sequence[int]
    headers: list[list[Header]]


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

    def relayed(self, run: Run, first: int, end: int) -> Relayed:
        """Of the records of ``run`` from index ``first`` up to ``end``. Without an `Origin` for each, which would cost
        as much as producing it."""
        if self.may_be_elsewhere(run.partition.topic):
            found = [self.of(run, index) for index in range(first, end)]
            written = [[*one.headers, *one.as_headers()] for one in found]
            return Relayed([one.partition for one in found], [one.timestamp_ms for one in found], written)
        messages, timestamps_ms = run.messages[first:end], run.timestamps_ms[first:end]
        topic, partition, offset, timestamp = _ORIGIN
        same = (topic, run.partition.topic.encode()), (partition, b"%d" % run.partition.number)
        own = list(map(type(messages[0]).headers, messages))
        ours = zip(run.offsets[first:end], timestamps_ms, strict=True)
        headers: list[list[Header]] = [
            [same[0], same[1], (offset, b"%d" % at), (timestamp, b"%d" % timestamp_ms)] for at, timestamp_ms in ours
        ]
        if any(own):
            headers = [[*(former or ()), *added] for former, added in zip(own, headers, strict=True)]
        return Relayed([run.partition.number] * len(messages), timestamps_ms, headers)


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
