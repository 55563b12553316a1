"""Keeps records that must not be delivered from a sink: ON_FUTURE_TIMESTAMP=dead-letter."""

from __future__ import annotations

from collections.abc import Collection

from delayed_consumer.core.engine import InFlightLimit
from delayed_consumer.core.records import Partition, Run
from delayed_consumer.failures import Failure, Fallback, Kind
from delayed_consumer.sinks import Outcome, Sink


class RefusingSink:
    """Hands refused runs to the fallback and all others to the sink that it wraps."""

    def __init__(self, sink: Sink, fallback: Fallback) -> None:
        self._sink = sink
        self._fallback = fallback
        self._ended: list[Outcome] = []

    @property
    def in_flight_limit(self) -> InFlightLimit:
        return self._sink.in_flight_limit

    def deliver(self, run: Run, delivered_ms: float) -> None:
        """A refused run has one record."""
        if run.refused is None:
            self._sink.deliver(run, delivered_ms)
            return
        failure = Failure(run.refused, Kind.MESSAGE, attempts=0)
        stop = self._fallback.take(run, 0, failure, lambda: self._ended.append(Outcome(run, 1, diverted=(0,))))
        if stop is not None:
            self._ended.append(Outcome(run, 0, stop))

    def outcomes(self) -> list[Outcome]:
        self._fallback.serve()
        outcomes = self._sink.outcomes()
        ended, self._ended = self._ended, []
        return [*ended, *outcomes]

    def wind_up(self, partitions: Collection[Partition]) -> list[Run]:
        return self._sink.wind_up(partitions)

    def forget(self, partitions: Collection[Partition]) -> list[Run]:
        return self._sink.forget(partitions)

    def close(self) -> None:
        self._sink.close()
        self._fallback.close()
