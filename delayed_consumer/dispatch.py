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
    """The loop's side of a sink. What a sink raises becomes the failure of the run it was given."""

    def __init__(self, sink: Sink, clock: Clock) -> None:
        self._sink = sink
        self._clock = clock
        self._handed_ms: dict[Run, float] = {}
        self._refused: list[Outcome] = []

    @property
    def busy(self) -> bool:
        """Whether something is in flight."""
        return bool(self._handed_ms)

    def in_flight(self, partitions: Collection[Partition]) -> bool:
        """Whether something of these partitions is in flight."""
        return any(run.partition in partitions for run in self._handed_ms)

    def hand_over(self, run: Run, delivered_ms: float) -> None:
        self._handed_ms[run] = self._clock.steady_ms()
        try:
            self._sink.deliver(run, delivered_ms)
        except Exception as error:  # whatever a sink raises must not pass for a bug of the loop
            self._refused.append(Outcome(run, 0, f"{type(error).__name__}: {error}"))

    def collect(self) -> list[Ended]:
        """What has ended since the last call. Never blocks."""
        outcomes = [*self._refused, *self._sink.outcomes()]
        self._refused.clear()
        now_ms = self._clock.steady_ms()
        return [Ended(one, (now_ms - self._handed_ms.pop(one.run)) / 1000) for one in outcomes]

    def close(self) -> None:
        self._sink.close()
