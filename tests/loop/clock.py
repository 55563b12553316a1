"""A clock that the tests move by hand, and that moves by itself while the loop waits."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

START_MS = 1_795_000_000_000


class ManualClock:
    """Time passes only in `advance`, so every moment is exact. What was planned happens on the way."""

    def __init__(self) -> None:
        self._wall_ms = float(START_MS)
        self._steady_ms = 0.0
        self._woken = False
        self.gave_way = 0
        self._plans: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def now_ms(self) -> float:
        return self._wall_ms

    def steady_ms(self) -> float:
        return self._steady_ms

    def wait_ms(self, duration_ms: float) -> None:
        self.advance(duration_ms, until=lambda: self._woken)
        self._woken = False

    def wake(self) -> None:
        self._woken = True

    def give_way(self) -> None:
        self.gave_way += 1

    def set_by(self, step_ms: float) -> None:
        """Somebody sets the wall clock."""
        self._wall_ms += step_ms

    def after(self, duration_ms: float, action: Callable[[], None]) -> None:
        """Plans ``action``."""
        heapq.heappush(self._plans, (self._steady_ms + duration_ms, next(self._order), action))

    def advance(self, duration_ms: float, *, until: Callable[[], bool] = lambda: False) -> None:
        """Lets time pass, less when a planned action makes ``until`` true."""
        end_ms = self._steady_ms + duration_ms
        while not until() and self._plans and self._plans[0][0] <= end_ms:
            at_ms, _, action = heapq.heappop(self._plans)
            self._pass(at_ms - self._steady_ms)
            action()
        if not until():
            self._pass(end_ms - self._steady_ms)

    def _pass(self, duration_ms: float) -> None:
        self._steady_ms += max(0.0, duration_ms)
        self._wall_ms += max(0.0, duration_ms)
