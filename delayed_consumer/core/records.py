"""The units of work: a partition, and a run of consecutive records of it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.number}]"


@dataclass(slots=True, eq=False)
class Run:
    """Consecutive records of one partition, column by column, in offset order. Never changed; to say so with
    ``frozen`` would make one five times as expensive, thousands of times a second.

    A class per record would cost more than fetching it. ``messages`` are the client's objects, which
    the core never looks into. ``due_ms`` ascends (see `due`). ``generation`` names the
    assignment that the records were read under: what comes back late from a former one matches nothing.
    ``refused`` says why these records must not be delivered though they are due.
    Offsets may have gaps (compaction, control records), so the run ends where its last record ends.
    """

    partition: Partition
    generation: int
    messages: Sequence[Any]
    offsets: Sequence[int]
    timestamps_ms: Sequence[int]  # negative for a record without one
    due_ms: Sequence[int]
    sizes: Sequence[int]  # bytes of memory, per record
    refused: str | None = None
    size_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.size_bytes = sum(self.sizes)

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def first_offset(self) -> int:
        return self.offsets[0]

    @property
    def next_offset(self) -> int:
        """What a consumer that has finished this run reads next. The only "+ 1" of the code base."""
        return self.offsets[-1] + 1

    def due_count(self, now_ms: float) -> int:
        """How many records, from the first, are due."""
        return bisect_right(self.due_ms, now_ms)

    def part(self, first: int, end: int) -> Run:
        """The records from index ``first`` up to ``end``."""
        if first == 0 and end == len(self):
            return self
        part = slice(first, end)
        return Run(
            self.partition,
            self.generation,
            self.messages[part],
            self.offsets[part],
            self.timestamps_ms[part],
            self.due_ms[part],
            self.sizes[part],
            self.refused,
        )
