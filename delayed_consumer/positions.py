"""Where to read a partition for which the client knows no offset: a new group, or a log that has lost it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from delayed_consumer.core.records import Partition
from delayed_consumer.errors import DataLossError, UnreachableError

START_TIMEOUT_S = 5.0
RUNNING_TIMEOUT_S = 1.0  # the loop stands meanwhile, and other partitions have records due


class Offsets(Protocol):
    """What is asked of the consumer; the source is one.

    What a leader that is away would have to say is left out. Raises UnreachableError when there is no answer at all.
    """

    def committed(self, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, int | None]: ...

    def log_ranges(self, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, tuple[int, int]]: ...

    def commit_before_joining(self, offsets: Mapping[Partition, int]) -> None: ...


@dataclass(frozen=True, slots=True)
class Start:
    """Read on at ``offset``; None: at the start of the log.

    ``lost``: how many offsets that were to be read are no longer in the log. ``another_log``: it is not the log that
    was read before, so the offset committed for that one has to be taken back.
    """

    offset: int | None
    lost: int | None = None
    another_log: bool = False


class Positions:
    """ON_DATA_LOSS. The client runs with ``auto.offset.reset=error``, so it asks here instead of skipping silently."""

    def __init__(self, offsets: Offsets, on_data_loss: Literal["stop", "continue"]) -> None:
        self._offsets = offsets
        self._on_data_loss = on_data_loss

    def starts(self, positions: Mapping[Partition, int | None]) -> dict[Partition, Start]:
        """Where to read these partitions, of which everything before the position was read (None: nothing yet).

        A partition without a commit is read from its start. One whose leader does not answer is left out.

        Raises:
            DataLossError: an offset is no longer in the log and ON_DATA_LOSS is stop.
            UnreachableError: the brokers did not answer.
        """
        wanted = {partition: position for partition, position in positions.items() if position is not None}
        unread = positions.keys() - wanted.keys()
        committed = self._offsets.committed(unread, RUNNING_TIMEOUT_S) if unread else {}
        starts = {partition: Start(None) for partition, offset in committed.items() if offset is None}
        wanted |= {partition: offset for partition, offset in committed.items() if offset is not None}
        if wanted:
            ranges = self._offsets.log_ranges(wanted, RUNNING_TIMEOUT_S)
            starts |= {partition: self._start(partition, wanted[partition], log) for partition, log in ranges.items()}
        return starts

    def of_new_logs(self, partitions: Collection[Partition]) -> dict[Partition, Start]:
        """The starts of logs of which nothing was read yet. Raises UnreachableError as `starts`."""
        ranges = self._offsets.log_ranges(partitions, RUNNING_TIMEOUT_S)
        return {partition: Start(first, another_log=True) for partition, (first, _) in ranges.items()}

    def _start(self, partition: Partition, wanted: int, log: tuple[int, int]) -> Start:
        first, end = log
        if first <= wanted <= end:
            return Start(wanted)
        if self._on_data_loss == "stop":
            raise DataLossError(
                f"{partition}: offset {wanted} is no longer in the log, which goes from {first} to {end}. "
                "Lengthen the topic's retention; ON_DATA_LOSS=continue goes on at the earliest record"
            )
        return Start(first, lost=first - wanted if wanted < first else wanted - end, another_log=wanted > end)


def anchor_new_group(offsets: Offsets, partitions: Collection[Partition]) -> dict[Partition, int]:
    """START_FROM=latest: commits the ends of all logs if the group has committed nothing yet. Returns what it did.

    Before joining and in one request, so that it is done wholly or not at all, and a crash before the first delivery
    cannot start at a later "latest". A partition without a commit was then added later, and is read from its start:
    nobody has seen its first records.

    Raises:
        UnreachableError: no answer.
    """
    committed = offsets.committed(partitions, START_TIMEOUT_S)
    anchors: dict[Partition, int] = {}
    if all(offset is None for offset in committed.values()):
        ranges = offsets.log_ranges(partitions, START_TIMEOUT_S)
        if len(ranges) < len(partitions):
            raise UnreachableError("not every partition's leader says where its log ends")
        anchors = {partition: end for partition, (_, end) in ranges.items()}
        offsets.commit_before_joining(anchors)
    return anchors
