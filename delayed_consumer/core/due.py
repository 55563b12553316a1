"""When a record is due: timestamp + delay, as a running maximum over its partition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

NO_TIMESTAMP = -1


@dataclass(frozen=True, slots=True)
class FuturePolicy:
    """What to do with a timestamp more than ``max_future_ms`` ahead of the clock.

    ``wait``: its due time stands. ``cap``: it is due the delay after it was read. ``dead-letter``: it is refused,
    at once.
    """

    max_future_ms: float
    action: Literal["wait", "cap", "dead-letter"]


@dataclass(frozen=True, slots=True)
class DueTimes:
    """The due times of consecutive records, ascending, and how many timestamps were unusual.

    ``refused``: the indices of those that must not be delivered.
    """

    due_ms: list[int]
    future: int = 0
    missing: int = 0
    refused: Sequence[int] = ()


class DueRule:
    """Gives the records of one partition their due times, in offset order.

    Timestamps may step back; records are delivered in offset order all the same, so a due time is the
    running maximum of (timestamp + delay): never early, never out of order.
    A record without a timestamp (NO_TIMESTAMP, or any negative one) is due the delay after it was read:
    the only moment known to lie after its creation.
    """

    def __init__(self, delay_ms: int, future: FuturePolicy) -> None:
        self._delay_ms = delay_ms
        self._future = future
        self._latest_due_ms = 0

    def due_times(self, timestamps_ms: Sequence[int], now_ms: float) -> DueTimes:
        """``timestamps_ms``: at least one."""
        ascending_ms = sorted(timestamps_ms)  # cheaper than to look for both ends: mostly they ascend already
        if ascending_ms[0] >= 0 and ascending_ms[-1] <= now_ms + self._future.max_future_ms:
            return DueTimes(self._running_maximum(timestamps_ms, ascend=ascending_ms == timestamps_ms))
        missing = 0
        future = []
        usable = []
        read_ms = int(now_ms) + 1  # rounded up: an early clock reading would make a record early
        for index, timestamp_ms in enumerate(timestamps_ms):
            if timestamp_ms < 0:
                missing += 1
                usable.append(read_ms)
            elif timestamp_ms > now_ms + self._future.max_future_ms:
                future.append(index)
                usable.append(self._instead(timestamp_ms, read_ms))
            else:
                usable.append(timestamp_ms)
        refused = future if self._future.action == "dead-letter" else ()
        return DueTimes(self._running_maximum(usable, ascend=False), len(future), missing, refused)

    def _instead(self, timestamp_ms: int, read_ms: int) -> int:
        """What a timestamp too far ahead counts as."""
        return {"wait": timestamp_ms, "cap": read_ms, "dead-letter": read_ms - self._delay_ms}[self._future.action]

    def _running_maximum(self, timestamps_ms: Sequence[int], *, ascend: bool) -> list[int]:
        delay_ms = self._delay_ms
        due_ms = [timestamp_ms + delay_ms for timestamp_ms in timestamps_ms]
        if not ascend or due_ms[0] < self._latest_due_ms:
            due_ms[0] = max(due_ms[0], self._latest_due_ms)
            due_ms = list(accumulate(due_ms, max))
        self._latest_due_ms = due_ms[-1]
        return due_ms
