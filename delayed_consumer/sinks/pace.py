"""How much the next transaction takes on, by what became of those before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from delayed_consumer.sinks.batches import Batches
from delayed_consumer.sinks.relaying import is_said_of_a_batch

# A transaction costs some 5 round trips whatever is in it. In catch-up this many records, a fifth of a second, make
# that a small part; more would gain little, and what falls due meanwhile waits.
MOST_RECORDS = 20000


class Pace:
    """Less after an abort, twice as much after a commit."""

    def __init__(self, batches: Batches) -> None:
        """``batches``: of the producer."""
        self._batches = batches
        self._most_records = MOST_RECORDS
        self._careful = False  # the last transaction was aborted: which records are refused?

    @property
    def most_records(self) -> int:
        return min(self._most_records, self._batches.room)

    @property
    def with_reports(self) -> bool:
        return self._careful or self._batches.alone

    @property
    def alone(self) -> bool:
        return self._batches.alone

    def blames(self, error: Exception) -> bool:
        """Whether a record that a broker refused with this error is to blame for it itself."""
        return self._batches.alone or not is_said_of_a_batch(error)

    def committed(self, records: int) -> Mapping[str, Any] | None:
        """So many were. Returns the properties of another producer, where there are to be batches again."""
        self._careful = False
        self._most_records = min(2 * self._most_records, MOST_RECORDS)
        if not self._batches.alone:
            return None
        self._batches.went(records)
        if self._batches.room > 0:
            return None
        self._batches.unite()
        return self._batches.properties

    def aborted(self) -> None:
        self._careful = True

    def take_less(self) -> None:
        """Perhaps there was too much in it for its time, or for the client's queue."""
        self._most_records = max(1, self.most_records // 4)

    def refused_alone(self) -> None:
        """A record was: that costs an abort, and all that went before it in its transaction goes again."""
        self._batches.refused()
        self.take_less()

    def separate(self, suspects: int, too_large: bool) -> Mapping[str, Any]:
        """A batch was refused (see `Batches.separate`). Returns the properties of a producer by which each record goes
        alone."""
        self._batches.separate(suspects, too_large)
        return self._batches.properties
