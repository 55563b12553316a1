"""ON_FUTURE_TIMESTAMP=dead-letter: refused records go around the sink."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from delayed_consumer.core.engine import InFlightLimit
from delayed_consumer.core.records import Partition, Run
from delayed_consumer.failures import Kind
from delayed_consumer.sinks import Outcome
from delayed_consumer.sinks.refusing import RefusingSink
from tests.sinks.handling import Taking
from tests.sinks.making import message, run_of

REASON = "its timestamp lies too far ahead"


class Sink:
    """Is done with a run at once."""

    in_flight_limit = InFlightLimit(runs=3, records_per_run=5)

    def __init__(self) -> None:
        self.delivered: list[Run] = []
        self._ended: list[Outcome] = []

    def deliver(self, run: Run, delivered_ms: float) -> None:
        self.delivered.append(run)
        self._ended.append(Outcome(run, len(run)))

    def outcomes(self) -> list[Outcome]:
        ended, self._ended = self._ended, []
        return ended

    def wind_up(self, partitions: Collection[Partition]) -> list[Run]:
        return self.forget(partitions)

    def forget(self, partitions: Collection[Partition]) -> list[Run]:
        return [run for run in self.delivered if run.partition in partitions]

    def close(self) -> None:
        """Nothing is kept."""


def test_a_refused_record_is_handed_to_the_fallback_and_to_nobody_else() -> None:
    sink, fallback = Sink(), Taking()
    refusing = RefusingSink(sink, fallback)
    before, behind = run_of(message(b"before")), run_of(message(b"behind"), first_offset=2)
    refused = replace(run_of(message(b"far"), first_offset=1), refused=REASON)
    for run in (before, refused, behind):
        refusing.deliver(run, 0)
    assert sink.delivered == [before, behind]
    [(offset, failure)] = fallback.taken
    assert (offset, failure.reason, failure.kind, failure.attempts) == (1, REASON, Kind.MESSAGE, 0)
    assert [outcome.run for outcome in refusing.outcomes()] == [before, behind], "it is not done yet"
    fallback.resolve(1)
    assert refusing.outcomes() == [Outcome(refused, 1, diverted=(0,))]
    assert refusing.outcomes() == []
    assert refusing.in_flight_limit == sink.in_flight_limit
    assert refusing.forget([refused.partition]) == [before, behind]
