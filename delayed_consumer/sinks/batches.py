"""How much goes into one batch: a broker takes it or refuses it as a whole, the good records with the bad one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

ALONE_RECORDS = 1_000
ONE_IN_FLIGHT = {"max.in.flight.requests.per.connection": 1}
_DEFAULT_BYTES = 1_000_000  # librdkafka's
_ALONE = {
    "batch.size": 1,  # reached by the first record
    "retry.backoff.ms": 1,  # the client waits that long behind every record that is refused
    "retry.backoff.max.ms": 10,
}


class Batches:
    """librdkafka does not split a batch that was refused, so that is for us to do: only a record that was refused in a
    batch of its own is known to be wrong.

    After a refusal records go alone until `ALONE_RECORDS` in a row were taken. If none was refused meanwhile, it was
    the batch that was too large, as where a topic's limit was lowered: from then on they have a quarter of its size.

    Attributes:
        alone: each record has a batch of its own.
    """

    def __init__(self, properties: Mapping[str, Any], alone: Mapping[str, Any] | None = None) -> None:
        """``properties``: of the producer. ``alone``: what else it needs for single records."""
        self._properties = properties
        self._alone = {**_ALONE, **(alone or {})}
        self._bytes = int(properties.get("batch.size", _DEFAULT_BYTES))
        self._left = 0
        self._found = False
        self.alone = False

    @property
    def properties(self) -> dict[str, Any]:
        """Of a producer that makes such batches."""
        return {**self._properties, **(self._alone if self.alone else {"batch.size": self._bytes})}

    @property
    def room(self) -> int:
        """How many records may go before there are batches again."""
        return self._left if self.alone else sys.maxsize

    def separate(self) -> None:
        """A batch was refused."""
        self.alone, self._left, self._found = True, ALONE_RECORDS, False

    def went(self, records: int) -> None:
        self._left -= records

    def refused(self) -> None:
        """A record was, alone."""
        self._left, self._found = ALONE_RECORDS, True

    def unite(self) -> bool:
        """There are batches again. Returns whether they are smaller than before."""
        self.alone = False
        if not self._found:
            self._bytes = max(1, self._bytes // 4)
        return not self._found
