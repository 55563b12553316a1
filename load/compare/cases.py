"""What the contenders are compared in, as data."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, isinf

from load.scenarios import Slot

MIDDLE_RATE = 1000.0
"""Other numbers of partitions, and an empty one, are tried at this rate."""

RATES = (4.0, 100.0, MIDDLE_RATE, 10_000.0)
PARTITIONS = (4, 64)
SIZES_BYTES = (200, 1000)

_CATCH_UP_RECORDS = 1_000_000
_FEWEST_RECORDS = 20  # at low rates the run is longer
_TAIL_SECONDS = 6.0  # of later records at least: more than any contender reads ahead on purpose
_TAIL_BYTES = 2 * 1024 * 1024  # in each partition, more than one fetch: who has read to the end waits for new records
_LONGEST_TAIL_SECONDS = 900.0  # no more can lie ahead of a consumer that is so far behind
_WARM_UP_SECONDS = 1.5  # compilers, caches, first fetches: the JVM's most of all
_LINGER_SECONDS = 0.02  # a live producer's
_BACKLOG_BATCH_RECORDS = 100  # about the 16 KB of a Java producer with its defaults


@dataclass(frozen=True)
class Case:
    """A topic. Either its records fall due at ``rate``, those of ``seconds`` are measured, and others lie before and
    behind them; or all are due (``rate`` is infinite) and measured."""

    name: str
    partitions: int
    size_bytes: int
    records: int  # all of them
    rate: float = inf  # a second, over all partitions
    warm_up_seconds: float = 0.0  # before what is measured
    seconds: float = 0.0  # how long is measured
    empty_partitions: int = 0  # of ``partitions``, the last ones
    batch_records: int = _BACKLOG_BATCH_RECORDS  # up to the end of what is measured
    codec: str = "none"

    @property
    def is_catch_up(self) -> bool:
        return isinf(self.rate)

    @property
    def records_until_the_end(self) -> int:
        """Of what is measured."""
        return self.records if self.is_catch_up else round(self.rate * (self.warm_up_seconds + self.seconds))

    def slots(self) -> Iterator[Slot]:
        """All records, in the order of their due times."""
        filled = self.partitions - self.empty_partitions
        for index in range(self.records):
            yield Slot(index * 1000 / self.rate, index % filled)


def chosen_cases(options: argparse.Namespace) -> list[Case]:
    """What the options of the command say. Who names rates wants no catch-up, unless it is named too."""
    rates = RATES if options.rates is None else options.rates
    first, *others = options.partitions
    cases = [_steady(options, rate, first) for rate in rates]
    if MIDDLE_RATE in rates:
        cases += [_steady(options, MIDDLE_RATE, first, empty=1)] if first > 1 else []
        cases += [_steady(options, MIDDLE_RATE, partitions) for partitions in others]
    catch_up = options.catch_up or (_CATCH_UP_RECORDS if options.rates is None else 0)
    if catch_up:
        cases += [_catch_up(options, catch_up, size_bytes) for size_bytes in options.sizes]
    return cases


def _steady(options: argparse.Namespace, rate: float, partitions: int, empty: int = 0) -> Case:
    seconds = max(options.seconds, _FEWEST_RECORDS / rate)
    of_a_live_producer = max(1, round(rate / (partitions - empty) * _LINGER_SECONDS))
    measured_and_before = round(rate * (_WARM_UP_SECONDS + seconds))
    return Case(
        name=f"{rate:,.0f}/s, {partitions} partitions{f', {empty} empty' if empty else ''}",
        partitions=partitions,
        size_bytes=options.sizes[0],
        records=measured_and_before + _tail_records(rate, partitions - empty, options.sizes[0]),
        rate=rate,
        warm_up_seconds=_WARM_UP_SECONDS,
        seconds=seconds,
        empty_partitions=empty,
        batch_records=options.batch_records or of_a_live_producer,
        codec=options.codec,
    )


def _tail_records(rate: float, partitions: int, size_bytes: int) -> int:
    least = max(rate * _TAIL_SECONDS, partitions * _TAIL_BYTES / size_bytes)
    return round(min(least, rate * _LONGEST_TAIL_SECONDS))


def _catch_up(options: argparse.Namespace, records: int, size_bytes: int) -> Case:
    return Case(
        name=f"catch-up of {records:,} records of {size_bytes:,} B",
        partitions=options.partitions[0],
        size_bytes=size_bytes,
        records=records,
        batch_records=options.batch_records or _BACKLOG_BATCH_RECORDS,
        codec=options.codec,
    )
