"""How far one run has come on its way into another topic."""

from __future__ import annotations

from collections.abc import Iterable

from delayed_consumer.core.records import Run
from delayed_consumer.sinks import Outcome


class Relay:
    """One run: what of it is still to be handed to the client, what that has, and what became of the rest.

    Attributes:
        pending: what is to be handed over, from one index up to another, in order.
        begun: something was.
        sent: how many records the client has, without having told what became of them.
        diverting: how many the fallback has, without having resolved them.
        failure: why the service must stop at the first record that is not done.
    """

    __slots__ = (
        "_diverted",
        "_end",
        "_given_up",
        "_taken_back",
        "begun",
        "delivered_ms",
        "diverting",
        "failure",
        "pending",
        "run",
        "sent",
    )

    def __init__(self, run: Run, delivered_ms: float) -> None:
        self.run = run
        self.delivered_ms = delivered_ms
        self.pending = [(0, len(run))]
        self.begun = False
        self.sent = 0
        self.diverting = 0
        self.failure: str | None = None
        self._end = len(run)  # nothing from there on is handed over
        self._given_up = False
        self._taken_back: list[int] = []
        self._diverted: list[int] = []

    @property
    def ended(self) -> bool:
        return not (self.sent or self.pending or self.diverting or self._taken_back)

    @property
    def taken_back(self) -> int:
        """How many records were taken back and are not pending again."""
        return len(self._taken_back)

    def hand_over(self, end: int) -> None:
        """The client has what was pending up to index ``end``."""
        first, _ = self.pending[0]
        if end > first:
            self.begun = True
            self.sent += end - first
            self._pass(end)

    def leave_out(self) -> None:
        """The next pending one is not for the client."""
        self.begun = True
        self._pass(self.pending[0][0] + 1)

    def take_back(self, index: int) -> None:
        """The client has given this record back, as not written for all it knows, without it being to blame."""
        self.sent -= 1
        if index < self._end:
            self._taken_back.append(index)
        if self._given_up:
            self.give_up()

    def repeat(self) -> None:
        """What was taken back is pending again, before all else."""
        self.pending = [*_ranges(sorted(self._taken_back)), *self.pending]
        self._taken_back = []

    def divert(self, index: int) -> None:
        """The fallback has seen to this record."""
        self.diverting -= 1
        self._diverted.append(index)

    def fail(self, index: int, reason: str) -> None:
        """The fallback says that the service must stop at this record."""
        self.diverting -= 1
        if index < self._end:
            self.failure = reason
            self._end_at(index)

    def give_up(self) -> None:
        """Nothing more is handed over, and what was not is not done."""
        self._given_up = True
        self._end_at(min([self._end, *self._taken_back, *(first for first, _ in self.pending)]))

    def outcome(self) -> Outcome:
        diverted = [index for index in self._diverted if index < self._end]
        return Outcome(self.run, self._end, self.failure, diverted=diverted)

    def _pass(self, end: int) -> None:
        _, last = self.pending[0]
        if end < last:
            self.pending[0] = (end, last)
        else:
            del self.pending[0]

    def _end_at(self, end: int) -> None:
        self._end = end
        self.pending = [(first, min(last, end)) for first, last in self.pending if first < end]
        self._taken_back = [index for index in self._taken_back if index < end]


def _ranges(indices: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending indices, each with those that follow it closely: from one up to another."""
    ranges: list[tuple[int, int]] = []
    for index in indices:
        if ranges and ranges[-1][1] == index:
            ranges[-1] = (ranges[-1][0], index + 1)
        else:
            ranges.append((index, index + 1))
    return ranges
