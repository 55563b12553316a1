"""Short ways to make what the core works on."""

from __future__ import annotations

from collections.abc import Sequence

from delayed_consumer.core.due import DueRule, FuturePolicy
from delayed_consumer.core.engine import Engine, InFlightLimit
from delayed_consumer.core.flow import Limits
from delayed_consumer.core.records import Partition, Run
from delayed_consumer.core.window import Assignment

DELAY_MS = 900_000
LOOKAHEAD_MS = 4_000.0
LIMITS = Limits(LOOKAHEAD_MS, max_records=10_000, max_bytes=10_000_000)
ANY_FUTURE = FuturePolicy(float("inf"), "wait")
ONE_RUN = InFlightLimit(runs=1, records_per_run=1_000_000)
RECORD_BYTES = 100


def partition(number: int) -> Partition:
    return Partition("orders", number)


def run_of(
    due_ms: Sequence[int], *, first_offset: int = 0, number: int = 0, generation: int = 1, size: int = RECORD_BYTES
) -> Run:
    """A run of records that are due at these moments, at consecutive offsets; each one's message is its offset."""
    offsets = range(first_offset, first_offset + len(due_ms))
    columns = list(offsets), list(offsets), list(due_ms), list(due_ms), [size] * len(due_ms)
    return Run(partition(number), generation, *columns)


def assignment(number: int = 0, *, delay_ms: int = DELAY_MS) -> Assignment:
    return Assignment(partition(number), 1, DueRule(delay_ms, ANY_FUTURE), delay_ms)


def holding(*due_ms: int, number: int = 0, delay_ms: int = DELAY_MS) -> Assignment:
    """A partition that was read up to and with records due at these moments."""
    one = assignment(number, delay_ms=delay_ms)
    one.hold(run_of(due_ms, number=number))
    return one


def engine_of(
    delay_ms: int = DELAY_MS,
    *,
    future: FuturePolicy = ANY_FUTURE,
    limits: Limits = LIMITS,
    in_flight: InFlightLimit = ONE_RUN,
) -> Engine:
    return Engine(lambda _: delay_ms, future, limits, in_flight)


def read(
    engine: Engine,
    number: int,
    timestamps_ms: Sequence[int],
    *,
    first_offset: int = 0,
    now_ms: float = 0.0,
    size: int = RECORD_BYTES,
) -> None:
    """Hands the engine records at consecutive offsets; each one's message is its offset."""
    offsets = range(first_offset, first_offset + len(timestamps_ms))
    engine.hold(partition(number), list(offsets), list(offsets), timestamps_ms, [size] * len(offsets), now_ms)
