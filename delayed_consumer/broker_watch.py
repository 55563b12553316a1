"""Notices that a client has forgotten all brokers, from which it never recovers by itself."""

from __future__ import annotations

import re

STATISTICS_INTERVAL_MS = 15_000  # of 100 partitions they are megabytes of JSON a minute already

_BROKER = re.compile(r'"source":\s*"(?:learned|configured)"')  # but for those that only stand for another one


class BrokerWatch:
    """Reads what a client says of itself every `STATISTICS_INTERVAL_MS`.

    A client drops the brokers that an answer about the cluster leaves out (librdkafka since 2.10). A broker that starts
    or stops may leave out all, itself included. Where the connection ends in the same moment, the client does not
    go back to ``bootstrap.servers`` either: it is silent for good (librdkafka issue 5301; with 2.16 one of 300
    consumers whose only broker was restarted).
    """

    def __init__(self) -> None:
        self._knew_some = True
        self.lost = False

    def look(self, statistics: str) -> None:
        """``lost`` when there was no broker twice: once is seen while a client goes back to ``bootstrap.servers``."""
        knows_some = _BROKER.search(statistics) is not None
        self.lost = not (knows_some or self._knew_some)
        self._knew_some = knows_some
