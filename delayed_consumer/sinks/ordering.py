"""ORDERING: which records of a run must stay in order, and so share a lane."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Literal

from delayed_consumer.core.records import Run

Ordering = Literal["partition", "key", "none"]
_Lanes = Iterable[tuple[Hashable, Sequence[int]]]  # each lane's name, and the indices of its records


def _by_partition(run: Run) -> _Lanes:
    return [(run.partition, range(len(run)))]


def _by_key(run: Run) -> _Lanes:
    """Records without a key have no order among them."""
    lanes: dict[Hashable, list[int]] = {}
    for index, message in enumerate(run.messages):
        key = message.key()
        lanes.setdefault((run, index) if key is None else (run.partition, key), []).append(index)
    return lanes.items()


def _by_record(run: Run) -> _Lanes:
    return [((run, index), range(index, index + 1)) for index in range(len(run))]


LANES: Mapping[Ordering, Callable[[Run], _Lanes]] = {"partition": _by_partition, "key": _by_key, "none": _by_record}
