"""Lateness of every delivered record, counted a run at a time."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from operator import sub

_EXPORTED_MS = (
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0),
    *(250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 30_000.0, 60_000.0, 120_000.0, 300_000.0),
)
EXPORTED_BOUNDS_SECONDS = tuple(bound / 1000 for bound in _EXPORTED_MS)

_FINEST_MS, _COARSEST_MS = 0.05, 1_000_000.0
_GROWTH = 1.08  # so a quantile is at most 8% off


def _geometric(first: float, last: float) -> Iterator[float]:
    """From ``first``, growing by at most ``_GROWTH`` each, to before ``last``."""
    steps = math.ceil(math.log(last / first, _GROWTH))
    return (first * (last / first) ** (step / steps) for step in range(steps))


def _bounds_ms() -> tuple[float, ...]:
    """Upper bounds, inclusive as in Prometheus; the exported ones are among them."""
    corners = (_FINEST_MS, *_EXPORTED_MS, _COARSEST_MS)
    return (*(bound for first, last in pairwise(corners) for bound in _geometric(first, last)), _COARSEST_MS)


_BOUNDS_MS = _bounds_ms()
_ABOVE_MS = (-math.inf, *_BOUNDS_MS)  # the records of a bucket are later than this
_EXPORTED = tuple(map(_BOUNDS_MS.index, _EXPORTED_MS))


class LatenessHistogram:
    """Delivery time minus due time: fine buckets for quantiles, and the coarse ones that Prometheus gets.

    One thread observes and any may read, without a lock: a reader copies the bucket counts in one step, which no other
    thread can interrupt, and derives the number of records from the copy. So quantiles and counts always agree with
    each other; the sum and the maximum may be a run ahead of or behind them.
    """

    def __init__(self) -> None:
        self._counts = [0] * (len(_BOUNDS_MS) + 1)
        self._sum_ms = 0.0
        self._max_ms = 0.0
        self._early = 0

    def observe(self, due_ms: Sequence[int], delivered_ms: float | Sequence[float]) -> None:
        """Counts one run, whose ``due_ms`` ascend, delivered at once or each at its own moment."""
        if isinstance(delivered_ms, float | int):
            self._observe_at_once(due_ms, delivered_ms)
        elif delivered_ms and delivered_ms.count(delivered_ms[0]) == len(delivered_ms):  # in a list, with one call
            self._observe_at_once(due_ms, delivered_ms[0])
        else:
            self._observe_each(sorted(map(sub, delivered_ms, due_ms)))

    def _observe_at_once(self, due_ms: Sequence[int], delivered_ms: float) -> None:
        """Costs a search per bucket that is hit, not per record."""
        if due_ms and due_ms[-1] > delivered_ms:
            due_ms = self._without_early(due_ms, delivered_ms)
        if not due_ms:
            return
        records, latest_ms = len(due_ms), delivered_ms - due_ms[0]
        # Relative to the first, or a float would lose microseconds among digits of the epoch.
        self._sum_ms += records * latest_ms - (sum(due_ms) - records * due_ms[0])
        if latest_ms > self._max_ms:
            self._max_ms = latest_ms
        start = 0
        while start < records:
            bucket = bisect_left(_BOUNDS_MS, delivered_ms - due_ms[start])
            # From start + 1: the difference is rounded, and the loop must end all the same.
            end = bisect_left(due_ms, delivered_ms - _ABOVE_MS[bucket], start + 1)
            self._counts[bucket] += end - start
            start = end

    def _observe_each(self, late_ms: Sequence[float]) -> None:
        """``late_ms`` ascend. A search per bucket too: the records cost no more than to be sorted."""
        start, records = bisect_left(late_ms, 0.0), len(late_ms)
        self._early += start
        if start < records:
            self._sum_ms += sum(late_ms[start:])
            self._max_ms = max(self._max_ms, late_ms[-1])
        while start < records:
            bucket = bisect_left(_BOUNDS_MS, late_ms[start])
            end = bisect_right(late_ms, _BOUNDS_MS[bucket], start) if bucket < len(_BOUNDS_MS) else records
            self._counts[bucket] += end - start
            start = end

    @property
    def count(self) -> int:
        """Records observed; early ones are not."""
        return sum(self._counts.copy())

    @property
    def early(self) -> int:
        """Records delivered before they were due. Not 0: a promise was broken."""
        return self._early

    @property
    def sum_seconds(self) -> float:
        return self._sum_ms / 1000

    @property
    def max_seconds(self) -> float:
        return self._max_ms / 1000

    def quantile(self, q: float) -> float | None:
        """Seconds that the share ``q`` of all records was late by at most; None before the first record."""
        counts = self._counts.copy()
        rank = q * sum(counts)
        below = 0
        for bucket, count in enumerate(counts):
            if count and below + count >= rank:
                return self._within(bucket, (rank - below) / count)
            below += count
        return None

    def cumulative(self) -> list[tuple[float, int]]:
        """For each of `EXPORTED_BOUNDS_SECONDS` and infinity: how many records were late by at most that. Exact."""
        sums = list(accumulate(self._counts.copy()))
        bounded = [sums[index] for index in _EXPORTED]
        return list(zip((*EXPORTED_BOUNDS_SECONDS, math.inf), (*bounded, sums[-1]), strict=True))

    def _within(self, bucket: int, share: float) -> float:
        """The lateness at this share of a bucket, in seconds, as if its records lay evenly."""
        low_ms = max(0.0, _ABOVE_MS[bucket])
        high_ms = min(self._max_ms, _BOUNDS_MS[bucket]) if bucket < len(_BOUNDS_MS) else self._max_ms
        return (low_ms + share * max(0.0, high_ms - low_ms)) / 1000

    def _without_early(self, due_ms: Sequence[int], delivered_ms: float) -> Sequence[int]:
        on_time = bisect_right(due_ms, delivered_ms)
        self._early += len(due_ms) - on_time
        return due_ms[:on_time]
