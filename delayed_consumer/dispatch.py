"""Hands runs to the sink, and gives back what came of them and how long it took."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from delayed_consumer.clock import Clock
from delayed_consumer.core.records import Partition, Run
from delayed_consumer.sinks import Outcome, Sink


class Progress(NamedTuple):
    """An outcome, and what is new in it."""

    outcome: Outcome
    done_before: int
    begun_ms: float | Sequence[float]  # of all that is newly done, or of each
    took_seconds: float  # from hand-over to now

    @property
    def newly_done(self) -> int:
        return self.outcome.done - self.done_before


@dataclass(slots=True)
class _HandedOver:
    delivered_ms: float
    steady_ms: float
    done: int = 0


class Dispatcher:
    """The loop's side of a sink."""

    def __init__(self, sink: Sink, clock: Clock) -> None:
        self._sink = sink
        self._clock = clock
        self._handed_over: dict[Run, _HandedOver] = {}

    @property
    def busy(self) -> bool:
        """Whether something is in flight."""
        return bool(self._handed_over)

    def in_flight(self, partitions: Collection[Partition]) -> int:
        """How many records of these partitions are in flight."""
        return sum(len(run) - one.done for run, one in self._handed_over.items() if run.partition in partitions)

    def hand_over(self, run: Run, delivered_ms: float) -> None:
        self._handed_over[run] = _HandedOver(delivered_ms, self._clock.steady_ms())
        self._sink.deliver(run, delivered_ms)

    def wind_up(self, partitions: Collection[Partition]) -> None:
        """These partitions are given up soon: begins only what would else leave something done to be repeated."""
        self._drop(self._sink.wind_up(partitions))

    def forget(self, partitions: Collection[Partition]) -> None:
        """These partitions are given up, and so is what was not begun of them."""
        self._drop(self._sink.forget(partitions))

    def collect(self) -> list[Progress]:
        """What has come of runs since the last call. Never blocks."""
        outcomes = self._sink.outcomes()
        steady_ms = self._clock.steady_ms()
        return [self._progress(one, steady_ms) for one in outcomes]

    def close(self) -> None:
        self._sink.close()

    def _drop(self, runs: Iterable[Run]) -> None:
        for run in runs:
            del self._handed_over[run]

    def _progress(self, outcome: Outcome, steady_ms: float) -> Progress:
        handed_over = self._handed_over[outcome.run]
        done_before, handed_over.done = handed_over.done, outcome.done
        if not outcome.goes_on:
            del self._handed_over[outcome.run]
        begun_ms = handed_over.delivered_ms if outcome.begun_ms is None else outcome.begun_ms
        return Progress(outcome, done_before, begun_ms, (steady_ms - handed_over.steady_ms) / 1000)
