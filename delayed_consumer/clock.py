"""The wall clock, and waiting that another thread or a signal can end. Nothing else asks the time."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Protocol

GIVE_WAY_SECONDS = 0.00002  # most of what it takes is the waking up


class Clock(Protocol):
    """What the loop needs of time; the tests have one that they move by hand."""

    def now_ms(self) -> float:
        """Wall clock, milliseconds since the epoch with microseconds."""

    def steady_ms(self) -> float:
        """A clock that never steps, for durations."""

    def wait_ms(self, duration_ms: float) -> None:
        """Returns after ``duration_ms`` or as soon as somebody calls `wake`."""

    def wake(self) -> None:
        """Ends the wait, from any thread or signal handler."""

    def give_way(self) -> None:
        """Lets threads that were just woken up have the interpreter, for an instant that nobody cuts short."""


class SystemClock:
    """The machine's clock."""

    def __init__(self) -> None:
        # Free when somebody has called `wake`. Not an Event: a signal handler that sets it while the thread that it
        # interrupts is about to wait for it takes a lock that this thread has, and never returns.
        self._woken = threading.Lock()
        self._woken.acquire()

    def now_ms(self) -> float:
        # Cut to whole microseconds before it becomes a float: dividing nanoseconds may round up,
        # and a record would be early by that.
        return time.time_ns() // 1000 / 1000

    def steady_ms(self) -> float:
        return time.monotonic_ns() / 1e6

    def wait_ms(self, duration_ms: float) -> None:
        self._woken.acquire(timeout=max(0.0, duration_ms) / 1000)

    def wake(self) -> None:
        with suppress(RuntimeError):  # nobody has waited since the last call
            self._woken.release()

    def give_way(self) -> None:
        time.sleep(GIVE_WAY_SECONDS)


class StepDetector:
    """Notices that the wall clock was set: it moved by another amount than the steady clock."""

    def __init__(self, clock: Clock, tolerance_ms: float = 1000.0) -> None:
        self._clock = clock
        self._tolerance_ms = tolerance_ms
        self._offset_ms = clock.now_ms() - clock.steady_ms()

    def step_ms(self) -> float:
        """By how much the wall clock was set since the last call; 0 within the tolerance, as when it is slewed."""
        before_ms, self._offset_ms = self._offset_ms, self._clock.now_ms() - self._clock.steady_ms()
        step_ms = self._offset_ms - before_ms
        return step_ms if abs(step_ms) >= self._tolerance_ms else 0.0
