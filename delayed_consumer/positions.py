"""Where to read a partition for which the client knows no offset: a new group, or a log that has lost it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from delayed_consumer.core.records import Partition
from delayed_consumer.errors import DataLossError

_TIMEOUT_S = 5.0


class Offsets(Protocol):
    """What is asked of the consumer; the source is one. Raises UnreachableError when there is no answer."""

    def committed(self, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, int | None]: ...

    def log_ranges(self, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, tuple[int, int]]: ...

    def commit_now(self, partition: Partition, offset: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Start:
    """Read on at ``offset``; None: at the start of the log.

    ``lost``: how many offsets between what was to be read and that are no longer in the log.
    """

    offset: int | None
    lost: int | None = None


class Positions:
    """START_FROM and ON_DATA_LOSS.

    The client runs with ``auto.offset.reset=error``, so it asks here instead of skipping silently.
    """

    def __init__(
        self, offsets: Offsets, from_latest: Collection[Partition], on_data_loss: Literal["stop", "continue"]
    ) -> None:
        """``from_latest``: the partitions of `new_to_the_group`. Any other without a commit was added later and is
        read from its start: nobody has seen its first records."""
        self._offsets = offsets
        self._from_latest = set(from_latest)
        self._on_data_loss = on_data_loss

    def starts(self, positions: Mapping[Partition, int | None]) -> dict[Partition, Start]:
        """Where to read these partitions, of which everything before the position was read (None: nothing yet).

        Raises:
            DataLossError: an offset is no longer in the log and ON_DATA_LOSS is stop.
            UnreachableError: the brokers did not answer.
        """
        unread = [partition for partition, position in positions.items() if position is None]
        wanted = dict(positions)
        if unread:
            wanted |= self._offsets.committed(unread, _TIMEOUT_S)
        starts = {partition: Start(None) for partition in wanted}
        known = [one for one, offset in wanted.items() if offset is not None or one in self._from_latest]
        if known:
            ranges = self._offsets.log_ranges(known, _TIMEOUT_S)
            starts |= {partition: self._start(partition, wanted[partition], ranges[partition]) for partition in known}
        return starts

    def _start(self, partition: Partition, wanted: int | None, log: tuple[int, int]) -> Start:
        first, end = log
        if wanted is None:
            # Committed at once: a crash before the first delivery must not start at a later "latest".
            self._offsets.commit_now(partition, end)
            self._from_latest.discard(partition)
            return Start(end)
        if first <= wanted <= end:
            return Start(wanted)
        if self._on_data_loss == "stop":
            raise DataLossError(
                f"{partition}: offset {wanted} is no longer in the log, which goes from {first} to {end}. "
                "Lengthen the topic's retention; ON_DATA_LOSS=continue goes on at the earliest record"
            )
        return Start(first, lost=max(0, first - wanted))


def new_to_the_group(offsets: Offsets, partitions: Collection[Partition]) -> Collection[Partition]:
    """For START_FROM=latest: all ``partitions`` if the group has committed none of them yet, else none.

    Asked before joining: whoever joined earlier has committed where it starts, and so speaks for the group.

    Raises:
        UnreachableError: no answer.
    """
    committed = offsets.committed(partitions, _TIMEOUT_S)
    return partitions if all(offset is None for offset in committed.values()) else ()
