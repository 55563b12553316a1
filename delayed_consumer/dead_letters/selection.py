"""Which dead letters are meant, and which part of the topic has to be read to find them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from delayed_consumer.dead_letters.letters import DeadLetter, LetterId

_NEAR = 10_000  # offsets that are read over rather than fetching anew behind them


class Span(NamedTuple):
    """Offsets of one partition of the dead-letter topic, the last one exclusive."""

    partition: int
    first: int
    end: int

    def __len__(self) -> int:
        return max(0, self.end - self.first)


@dataclass(frozen=True, slots=True)
class Selection:
    """What all of these take; one that is not given takes everything.

    Attributes:
        topic: that they came from.
        since_ms, until_ms: when they were dead-lettered, ``until_ms`` exclusive.
        error: a part of the error, in capitals or not.
        ids: these, not passed by ``after``.
        after: the last offset of each partition that is passed over.
    """

    topic: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    error: str | None = None
    ids: frozenset[LetterId] = frozenset()
    after: Mapping[int, int] = field(default_factory=dict)

    def takes(self, letter: DeadLetter) -> bool:
        return (
            (not self.ids or letter.id in self.ids)
            and (self.topic is None or (letter.origin is not None and letter.origin.topic == self.topic))
            and (self.since_ms is None or letter.timestamp_ms >= self.since_ms)
            and (self.until_ms is None or letter.timestamp_ms < self.until_ms)
            and (self.error is None or self.error.casefold() in (letter.error or "").casefold())
            and letter.id.offset > self.after.get(letter.id.partition, -1)
        )

    def spans(self, ranges: Mapping[int, tuple[int, int]]) -> list[Span]:
        """What to read of partitions with these first offsets and ends."""
        whole = (
            Span(partition, max(first, self.after.get(partition, -1) + 1), end)
            for partition, (first, end) in sorted(ranges.items())
        )
        spans = [part for span in whole for part in (self._around_ids(span) if self.ids else [span])]
        return [span for span in spans if len(span)]

    def _around_ids(self, span: Span) -> Iterator[Span]:
        offsets = sorted(
            one.offset for one in self.ids if one.partition == span.partition and span.first <= one.offset < span.end
        )
        for near in _near_each_other(offsets):
            yield Span(span.partition, near[0], near[-1] + 1)


def selection_of(options: argparse.Namespace, now_ms: float) -> Selection:
    """As the command line says; ages are counted from ``now_ms``."""
    return Selection(
        topic=options.topic,
        since_ms=None if options.since is None else options.since.at_ms(now_ms),
        until_ms=None if options.until is None else options.until.at_ms(now_ms),
        error=options.error,
        ids=frozenset(LetterId(*one) for one in getattr(options, "ids", ())),
        after=getattr(options, "after", {}),
    )


def _near_each_other(offsets: Sequence[int]) -> Iterator[Sequence[int]]:
    """Ascending offsets in groups without a wide gap."""
    cuts = [index for index in range(1, len(offsets)) if offsets[index] - offsets[index - 1] > _NEAR]
    for start, end in zip([0, *cuts], [*cuts, len(offsets)], strict=True):
        if start < end:
            yield offsets[start:end]
