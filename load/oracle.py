"""Judges every record: what was written against what was delivered. Pure, and columns instead of objects,
so that some millions of records fit."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

Key = tuple[str, int]
"""Topic and partition."""

_FINDINGS_KEPT = 10


class Written:
    """The records of one partition in offset order; offsets may have gaps."""

    def __init__(self, records: Iterable[tuple[int, int]] = ()) -> None:
        self.offsets = array("q")
        self.timestamps_ms = array("q")
        for offset, timestamp_ms in records:
            self.add(offset, timestamp_ms)

    def __len__(self) -> int:
        return len(self.offsets)

    def add(self, offset: int, timestamp_ms: int) -> None:
        self.offsets.append(offset)
        self.timestamps_ms.append(timestamp_ms)

    def index(self, offset: int) -> int | None:
        at = bisect_left(self.offsets, offset)
        return at if at < len(self.offsets) and self.offsets[at] == offset else None

    def due_ms(self, delay_ms: int) -> array[int]:
        """When each is due: the running maximum of timestamp + delay."""
        return array("q", accumulate((timestamp + delay_ms for timestamp in self.timestamps_ms), max))


class Delivered:
    """The deliveries of one partition in the order they came.

    ``delivered_ms`` is the time the service wrote down, ``arrived_ms`` the time the reader had the record.
    """

    def __init__(self) -> None:
        self.offsets = array("q")
        self.due_ms = array("q")
        self.delivered_ms = array("d")
        self.arrived_ms = array("d")

    def __len__(self) -> int:
        return len(self.offsets)

    def add(self, offset: int, due_ms: int, delivered_ms: float, arrived_ms: float) -> None:
        self.offsets.append(offset)
        self.due_ms.append(due_ms)
        self.delivered_ms.append(delivered_ms)
        self.arrived_ms.append(arrived_ms)

    def rows(self) -> Iterable[tuple[int, int, float, float]]:
        return zip(self.offsets, self.due_ms, self.delivered_ms, self.arrived_ms, strict=False)


@dataclass
class Verdict:
    """Counts over all partitions. The columns have one entry for each record's first delivery."""

    expected: int = 0  # written, and due within the time watched
    delivered: int = 0  # repeats included
    early: int = 0  # before timestamp + delay, or before the due time it claims
    lost: int = 0
    duplicates: int = 0
    out_of_order: int = 0  # delivered for the first time after a higher offset of its partition
    wrong_due: int = 0  # `due_ms` is not the running maximum of timestamp + delay
    unknown: int = 0  # delivered but never written
    due_ms: array[int] = field(default_factory=lambda: array("q"))
    lateness_ms: array[float] = field(default_factory=lambda: array("d"))
    arrival_lateness_ms: array[float] = field(default_factory=lambda: array("d"))
    findings: list[str] = field(default_factory=list)  # the first few, in words

    @property
    def faults(self) -> int:
        """What no crash excuses: at-least-once may repeat, and nothing else."""
        return self.early + self.lost + self.out_of_order + self.wrong_due + self.unknown

    def found(self, what: str, key: Key, offset: int) -> None:
        if len(self.findings) < _FINDINGS_KEPT:
            self.findings.append(f"{what}: {key[0]}[{key[1]}] offset {offset}")


def judge(
    written: Mapping[Key, Written],
    delivered: Mapping[Key, Delivered],
    delay_ms: int,
    until_ms: float = float("inf"),
    restarted: bool = False,
) -> Verdict:
    """Judges all partitions.

    A record due after ``until_ms`` may be missing. ``restarted``: the running maximum of due times may have begun
    anew anywhere (a restart, a rebalance), so it is only an upper bound of ``due_ms``.
    """
    verdict = Verdict()
    for key, records in written.items():
        judged = _Partition(key, records, delay_ms, restarted, verdict)
        for row in delivered.get(key, Delivered()).rows():
            judged.take(*row)
        judged.close(until_ms)
    for key in delivered.keys() - written.keys():
        verdict.unknown += len(delivered[key])
        verdict.found("never written", key, delivered[key].offsets[0])
    return verdict


class _Partition:
    """One partition on its way through its deliveries."""

    def __init__(self, key: Key, written: Written, delay_ms: int, restarted: bool, verdict: Verdict) -> None:
        self._key = key
        self._written = written
        self._delay_ms = delay_ms
        self._restarted = restarted
        self._verdict = verdict
        self._due_ms = written.due_ms(delay_ms)
        self._seen = bytearray(len(written))
        self._furthest = -1

    def take(self, offset: int, due_ms: int, delivered_ms: float, arrived_ms: float) -> None:
        self._verdict.delivered += 1
        index = self._written.index(offset)
        if index is None:
            self._verdict.unknown += 1
            self._verdict.found("never written", self._key, offset)
            return
        self._check_times(index, due_ms, delivered_ms)
        if self._seen[index]:
            self._verdict.duplicates += 1
            self._verdict.found("duplicate", self._key, offset)
            return
        self._take_first(index, delivered_ms, arrived_ms)

    def close(self, until_ms: float) -> None:
        for index, due_ms in enumerate(self._due_ms):
            if due_ms > until_ms:
                break
            self._verdict.expected += 1
            if not self._seen[index]:
                self._verdict.lost += 1
                self._verdict.found("lost", self._key, self._written.offsets[index])

    def _check_times(self, index: int, due_ms: int, delivered_ms: float) -> None:
        own_due_ms = self._written.timestamps_ms[index] + self._delay_ms
        if delivered_ms < max(own_due_ms, due_ms):
            self._verdict.early += 1
            self._verdict.found("early", self._key, self._written.offsets[index])
        if not (own_due_ms if self._restarted else self._due_ms[index]) <= due_ms <= self._due_ms[index]:
            self._verdict.wrong_due += 1
            self._verdict.found(f"due_ms {due_ms} is wrong", self._key, self._written.offsets[index])

    def _take_first(self, index: int, delivered_ms: float, arrived_ms: float) -> None:
        self._seen[index] = 1
        if index < self._furthest:
            self._verdict.out_of_order += 1
            self._verdict.found("out of order", self._key, self._written.offsets[index])
        self._furthest = max(self._furthest, index)
        due_ms = self._due_ms[index]
        self._verdict.due_ms.append(due_ms)
        self._verdict.lateness_ms.append(delivered_ms - due_ms)
        self._verdict.arrival_lateness_ms.append(arrived_ms - due_ms)
