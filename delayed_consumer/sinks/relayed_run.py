"""How far one run has come in the transactions it goes through."""

from __future__ import annotations

from bisect import bisect_left

from delayed_consumer.core.records import Run
from delayed_consumer.failures import Failure, Fate, Forward, Stop


class RelayedRun:
    """One run: its first ``done`` records are committed, those up to ``sent`` are in the open transaction.

    ``failed``: the records that cannot be relayed, by index, and what becomes of each. ``stuck``: those of them that
    were not taken where they were to be forwarded.
    """

    def __init__(self, run: Run, delivered_ms: float) -> None:
        self.run = run
        self.delivered_ms = delivered_ms
        self.done = 0
        self.sent = 0
        self.given_up = False
        self.failed: dict[int, tuple[Failure, Fate]] = {}
        self.stuck: set[int] = set()

    @property
    def in_transaction(self) -> bool:
        return self.sent > self.done

    @property
    def next_offset(self) -> int:
        """Of the first record that is not sent."""
        return self.run.next_offset if self.sent == len(self.run) else self.run.offsets[self.sent]

    @property
    def stop(self) -> str | None:
        """Why the service must stop at the first record that is not sent."""
        failure, fate = self.failed.get(self.sent, (None, None))
        return failure.reason if failure is not None and isinstance(fate, Stop) and not self.given_up else None

    @property
    def ended(self) -> bool:
        """By what is committed."""
        return self.done == len(self.run) or self.given_up or self.stop is not None

    def is_forwarded(self, index: int) -> bool:
        return index in self.failed and isinstance(self.failed[index][1], Forward)

    def next_failed(self, index: int) -> int:
        """The first record from ``index`` on that cannot be relayed; the run's length: there is none."""
        return min((one for one in self.failed if one >= index), default=len(self.run))

    def end_of_part(self, may_try_stuck: bool) -> int:
        """Up to where the next transaction may go: what is before a record that has to wait goes without it."""
        stops = (index for index, (_, fate) in self.failed.items() if isinstance(fate, Stop))
        stuck = (index for index in self.stuck if index > self.sent or (index == self.sent and not may_try_stuck))
        return min((*stops, *stuck), default=len(self.run))

    def committed_below(self, offset: int | None) -> int:
        """How many of the records that were sent the group has committed, by the offset that the brokers tell."""
        return max(self.done, min(self.sent, bisect_left(self.run.offsets, offset or 0)))

    def advance(self, done: int) -> list[int]:
        """The transaction has ended with ``done`` records committed. Returns which of the new ones were diverted."""
        diverted = [index for index in self.failed if self.done <= index < done]
        self.done = self.sent = done
        return diverted


Part = tuple[RelayedRun, int, int]  # from one index up to another
