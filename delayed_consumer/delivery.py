"""What is committed when. A mode is one short class: the order of two calls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from delayed_consumer.core.records import Partition, Run
from delayed_consumer.dispatch import Dispatcher


class Offsets(Protocol):
    """Where a mode leaves the offsets; the source is one."""

    def store(self, offsets: Iterable[tuple[Partition, int]]) -> None:
        """Committed within the commit interval, at a revoke and at the end."""

    def commit_stored(self) -> None:
        """Commits now what is stored, without waiting."""


class Delivery(Protocol):
    """The guarantee."""

    def start(self, runs: Sequence[Run], delivered_ms: float) -> None:
        """Runs are due."""

    def done(self, records: int, committable: Sequence[tuple[Partition, int]]) -> None:
        """``records`` are done since the last call, and these are the first offsets that are not."""

    def committed(self) -> None:
        """The broker has answered a commit."""


class AtLeastOnce:
    """Deliver, then store: a crash between the two repeats and never loses."""

    def __init__(self, dispatcher: Dispatcher, offsets: Offsets, commit_every_records: int) -> None:
        """``commit_every_records``: commit at once when that many are done; 0 leaves it to the interval."""
        self._dispatcher = dispatcher
        self._offsets = offsets
        self._commit_every_records = commit_every_records
        self._uncommitted_records = 0
        self._committing = False

    def start(self, runs: Sequence[Run], delivered_ms: float) -> None:
        for run in runs:
            self._dispatcher.hand_over(run, delivered_ms)

    def done(self, records: int, committable: Sequence[tuple[Partition, int]]) -> None:
        if committable:
            self._offsets.store(committable)
        self._uncommitted_records += records
        self._commit_if_many()

    def committed(self) -> None:
        self._committing = False
        self._commit_if_many()

    def _commit_if_many(self) -> None:
        """One commit on its way at a time: the next takes with it all that was done meanwhile."""
        if self._committing or not 0 < self._commit_every_records <= self._uncommitted_records:
            return
        self._committing = True
        self._uncommitted_records = 0
        self._offsets.commit_stored()
