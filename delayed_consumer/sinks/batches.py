"""How much goes into one batch: a broker takes it or refuses it as a whole, the good records with the bad one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from delayed_consumer.errors import ConfigError

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

    After a refusal records go alone: all that may have been in that batch, and on until `ALONE_RECORDS` in a row were
    taken. If none was refused meanwhile, and the refusal was for the size, it was the batch that was too large, as
    where a topic's limit was lowered: from then on they have a quarter of its size.

    Attributes:
        alone: each record has a batch of its own.
    """

    def __init__(self, properties: Mapping[str, Any], alone: Mapping[str, Any] | None = None) -> None:
        """``properties``: of the producer. ``alone``: what else it needs for single records. Raises ConfigError."""
        self._properties = properties
        self._alone = {**_ALONE, **(alone or {})}
        self._bytes = _batch_bytes(properties)
        self._left = 0
        self._too_large = False
        self.alone = False

    @property
    def properties(self) -> dict[str, Any]:
        """Of a producer that makes such batches."""
        return {**self._properties, **(self._alone if self.alone else {"batch.size": self._bytes})}

    @property
    def room(self) -> int:
        """How many records may go next; 0: there may be batches again."""
        return min(self._left, ALONE_RECORDS) if self.alone else sys.maxsize

    def separate(self, suspects: int, too_large: bool) -> None:
        """A batch was refused, which had some of so many records. ``too_large``: for its size."""
        self.alone, self._left, self._too_large = True, max(ALONE_RECORDS, suspects), too_large

    def went(self, records: int) -> None:
        self._left -= records

    def refused(self) -> None:
        """A record was, alone."""
        self._left, self._too_large = max(ALONE_RECORDS, self._left), False

    def prolong(self) -> None:
        """Batches are put off, as the last answers do not come."""
        self._left = ALONE_RECORDS

    def unite(self) -> bool:
        """There are batches again. Returns whether they are smaller than before."""
        self.alone = False
        if self._too_large:
            self._bytes = max(1, self._bytes // 4)
        return self._too_large


def _batch_bytes(properties: Mapping[str, Any]) -> int:
    given = properties.get("batch.size", _DEFAULT_BYTES)
    try:
        return int(given)
    except ValueError:
        raise ConfigError([f"KAFKA_CONF_BATCH_SIZE: {given!r} is not a number of bytes, such as 65536"]) from None
