"""Hands runs to the sink, and gives back what ended and how long it took."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from delayed_consumer.clock import Clock
from delayed_consumer.core.records import Partition, Run
from delayed_consumer.sinks import Outcome, Sink


@dataclass(frozen=True, slots=True)
class Ended:
    """An outcome, and the time from hand-over to it."""

    outcome: Outcome
    took_seconds: float


class Dispatcher:
    """The loop's side of a sink."""

    def __init__(self, sink: Sink, clock: Clock) -> None:
        self._sink = sink
        self._clock = clock
        self._handed_ms: dict[Run, float] = {}

    @property
    def busy(self) -> bool:
        """Whether something is in flight."""
        return bool(self._handed_ms)

    def in_flight(self, partitions: Collection[Partition]) -> bool:
        """Whether something of these partitions is in flight."""
        return any(run.partition in partitions for run in self._handed_ms)

    def hand_over(self, run: Run, delivered_ms: float) -> None:
        self._handed_ms[run] = self._clock.steady_ms()
        self._sink.deliver(run, delivered_ms)

    def forget(self, partitions: Collection[Partition]) -> None:
        """These partitions are no longer ours, and so is what was not begun of them."""
        for run in self._sink.forget(partitions):
            del self._handed_ms[run]

    def collect(self) -> list[Ended]:
        """What has ended since the last call. Never blocks."""
        outcomes = self._sink.outcomes()
        steady_ms = self._clock.steady_ms()
        return [Ended(one, (steady_ms - self._handed_ms.pop(one.run)) / 1000) for one in outcomes]

    def close(self) -> None:
        self._sink.close()
