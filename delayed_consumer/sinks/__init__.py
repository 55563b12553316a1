"""Where due records go. A sink is one file here and one line in `app`'s table of sinks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from delayed_consumer.core.engine import InFlightLimit
from delayed_consumer.core.records import Partition, Run


class Outcome(NamedTuple):
    """How far a run has come. A tuple: a frozen dataclass costs five times as much, thousands of times a second.

    Attributes:
        run: as it was handed over.
        done: its first ``done`` records are done, those of earlier outcomes included.
        failure: why a record is not, and the service must stop. None: nothing is wrong.
        goes_on: more will come of this run.
        diverted: which of its records, by index, are done since the last outcome without having been delivered: they
            are to be tried later, dead-lettered or skipped.
        begun_ms: when the delivery of each record that is done since the last outcome began, by the wall clock; None:
            when the run was handed over.
        failed: the index of the record that failed, where it is not the next one.
    """

    run: Run
    done: int
    failure: str | None = None
    goes_on: bool = False
    diverted: Collection[int] = ()
    begun_ms: Sequence[float] | None = None
    failed: int | None = None


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
        """What has come of runs since the last call."""

    def wind_up(self, partitions: Collection[Partition]) -> list[Run]:
        """These partitions are given up soon: as `forget`, but what lies before something that was begun is delivered.

        Or that would be delivered again by whoever goes on at the first record that is not done.
        """

    def forget(self, partitions: Collection[Partition]) -> list[Run]:
        """These partitions are given up: begins nothing more of them.

        Returns their runs of which nothing was begun: no outcome comes of these. What was begun may still end, and
        the last outcome of its run counts only that as done.
        """

    def close(self) -> None:
        """Lets go of what it holds; what has not ended by now is given up."""
