"""What is measured, as data: how many records, when each falls due and in which partition."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

SHORTEST_GAP_SECONDS = 1.0
LONGEST_GAP_SECONDS = 60.0
_MEAN_GAP_SECONDS = (LONGEST_GAP_SECONDS - SHORTEST_GAP_SECONDS) / math.log(LONGEST_GAP_SECONDS / SHORTEST_GAP_SECONDS)
_SPARSE_TAIL_RECORDS = 8


class Slot(NamedTuple):
    """One record: when it falls due, counted from the first moment of the measurement, and where it is."""

    due_after_ms: float
    partition: int


@dataclass(frozen=True)
class Scenario:
    """A topic's traffic. Records due in the first ``seconds`` are measured; a tail of later ones lies behind them
    in the log, because the log ahead of a delayed consumer is never empty."""

    name: str
    rate: float  # records a second, over all partitions
    seconds: float
    partitions: int
    delay_seconds: float = 900.0
    size_bytes: int = 200
    empty_partitions: int = 0  # of ``partitions``, the last ones
    single_partitions: int = 0  # of ``partitions``, before the empty ones: one record each
    random_gaps: bool = False
    tail_seconds: float = 6.0  # more than LOOKAHEAD_SECONDS
    tail_is_delivered: bool = True  # the run lasts until the tail is delivered too, so that all that was fetched counts
    seed: int = 1

    def __post_init__(self) -> None:
        if self.empty_partitions + self.single_partitions >= self.partitions:
            raise ValueError(
                f"{self.name}: {self.partitions} partitions are too few: {self.empty_partitions} stay empty and "
                f"{self.single_partitions} have one record"
            )

    @property
    def delay_ms(self) -> int:
        return round(self.delay_seconds * 1000)

    @property
    def rate_text(self) -> str:
        return f"{self.rate:,.0f} records/s" if self.rate >= 1 else f"{self.rate * 60:.1f} records a minute"

    @property
    def run_seconds(self) -> float:
        """From the first moment of the measurement until nothing more is waited for."""
        return self.seconds + (self.tail_seconds if self.tail_is_delivered else 0.0)

    def slots(self) -> Iterator[Slot]:
        """All records, the tail included, in the order of their due times."""
        return iter(self._random_slots()) if self.random_gaps else self._even_slots()

    def _even_slots(self) -> Iterator[Slot]:
        filled = self.partitions - self.empty_partitions
        for index in range(int((self.seconds + self.tail_seconds) * self.rate)):
            yield Slot(index * 1000 / self.rate, index % filled)

    def _random_slots(self) -> list[Slot]:
        """Gaps spread evenly over the orders of magnitude between the shortest and the longest; another ``rate`` than
        the natural one stretches them."""
        rng = random.Random(self.seed)
        moments = self._random_moments_ms(rng)
        regular = self.partitions - self.empty_partitions - self.single_partitions
        homes = [rng.randrange(regular) for _ in moments]
        measured = sum(moment <= self.seconds * 1000 for moment in moments)
        lone = rng.sample(range(measured), min(measured, self.single_partitions))
        for number, index in enumerate(lone):
            homes[index] = regular + number
        return [Slot(moment, home) for moment, home in zip(moments, homes, strict=True)]

    def _random_moments_ms(self, rng: random.Random) -> list[float]:
        stretch = 1 / (self.rate * _MEAN_GAP_SECONDS)
        moments: list[float] = []
        moment_ms = 0.0
        behind = 0
        while behind < _SPARSE_TAIL_RECORDS:
            gap = math.exp(rng.uniform(math.log(SHORTEST_GAP_SECONDS), math.log(LONGEST_GAP_SECONDS)))
            moment_ms += gap * stretch * 1000
            moments.append(moment_ms)
            behind += moment_ms > self.seconds * 1000
        return moments


SCENARIOS = {
    "high": Scenario("high", rate=10_000, seconds=30, partitions=4),
    "medium": Scenario("medium", rate=100, seconds=60, partitions=4),
    "sparse": Scenario(
        "sparse",
        rate=1 / _MEAN_GAP_SECONDS,  # about 4 a minute
        seconds=180,
        partitions=6,
        empty_partitions=1,
        single_partitions=2,
        random_gaps=True,
        tail_is_delivered=False,
    ),
}
