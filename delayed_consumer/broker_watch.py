"""Notices that a client has forgotten all brokers, from which it never recovers by itself."""

from __future__ import annotations

import re

STATISTICS_INTERVAL_MS = 15_000  # of 100 partitions they are megabytes of JSON a minute already
FORGOTTEN_AFTER_MS = 5_000.0  # to go back to bootstrap.servers takes a client milliseconds

_WHEN = re.compile(r'"ts":\s*(\d+)')  # microseconds of a clock that never steps
_BROKER = re.compile(r'"source":\s*"(?:learned|configured)"')  # but for those that only stand for another one


class BrokerWatch:
    """Reads what a client says of itself every `STATISTICS_INTERVAL_MS`.

    A client drops the brokers that an answer about the cluster leaves out (librdkafka since 2.10). A broker that starts
    or stops may leave out all, itself included. Where the connection ends in the same moment, the client does not
    go back to ``bootstrap.servers`` either: it is silent for good (librdkafka issue 5301; with 2.16 one of 270
    consumers whose only broker was restarted).

    Attributes:
        lost: the client has known no broker for `FORGOTTEN_AFTER_MS`. It stays so.
    """

    def __init__(self) -> None:
        self.lost = False
        self._none_since_ms: float | None = None

    def look(self, statistics: str) -> None:
        """``statistics``: as JSON, which is not parsed, as it may be megabytes."""
        when = _WHEN.search(statistics)
        if when is None or _BROKER.search(statistics) is not None:
            self._none_since_ms = None
            return
        now_ms = int(when[1]) / 1000
        if self._none_since_ms is None:
            self._none_since_ms = now_ms
        self.lost = self.lost or now_ms - self._none_since_ms >= FORGOTTEN_AFTER_MS
