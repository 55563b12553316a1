"""Where due records go. A sink is one file here and one line in `app`'s table of sinks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from delayed_consumer.core.engine import InFlightLimit
from delayed_consumer.core.records import Partition, Run


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: its first ``done`` records are done; ``failure`` says why the next one is not.

    None: all are done.
    """

    run: Run
    done: int
    failure: str | None = None


class Sink(Protocol):
    """Takes runs of due records and says later which of them are done.

    All methods are called on the loop's thread and none may block: what cannot be done at once is kept
    and carried on in `outcomes`, or on a thread of the sink's own.
    """

    @property
    def in_flight_limit(self) -> InFlightLimit:
        """How much of one partition it takes at once without losing the partition's order."""

    def deliver(self, run: Run, delivered_ms: float) -> None:
        """Begins to deliver ``run``; its outcome comes from `outcomes`, also when that is at once."""

    def outcomes(self) -> list[Outcome]:
        """What has ended since the last call."""

    def forget(self, partitions: Collection[Partition]) -> list[Run]:
        """These partitions are no longer ours: drops the runs of them that it has not begun, and returns those.

        What it has begun may still end, with an outcome.
        """

    def close(self) -> None:
        """Lets go of what it holds; what has not ended by now is given up."""
