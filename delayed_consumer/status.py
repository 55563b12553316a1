"""What a user may see of the running service: one immutable snapshot, made by the loop when it is asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

PartitionState = Literal["reading", "waiting", "paused", "delivering", "blocked"]


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One assigned partition.

    ``waiting`` and ``overdue`` count offsets (gaps of compaction and control records included);
    they and ``end`` are None until the first probe of the brokers.
    """

    topic: str
    partition: int
    state: PartitionState
    paused: bool  # fetching is paused; held records are delivered all the same
    position: int | None  # the next offset to be read; None: nothing was read yet
    committed: int | None  # the next offset a restart would deliver
    end: int | None  # the end of the log
    held: int  # records in memory, in flight not included
    held_bytes: int  # with what is in flight
    in_flight: int
    next_due_ms: int | None
    paused_until_ms: int | None
    waiting: int | None
    overdue: int | None
    oldest_overdue_seconds: float


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """The whole instance. ``ready``: joined the group, membership not lost, not stopping."""

    ready: bool
    stopping: bool
    idle_member: bool  # joined, and there are more instances than partitions
    member_id: str  # the group's name for this instance; empty before it joins
    last_poll_ms: float
    partitions: tuple[PartitionStatus, ...]


class StatusBoard:
    """Where other threads ask for a snapshot and the loop, which alone may look, answers."""

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        """``wake`` ends the loop's wait, so that it answers at once; it may be busy reading for a moment."""
        self._wake = wake
        self._answered = threading.Condition()
        self._latest = ServiceStatus(
            ready=False, stopping=False, idle_member=False, member_id="", last_poll_ms=0.0, partitions=()
        )
        self._version = 0
        self._asked = 0

    @property
    def asked(self) -> bool:
        """Whether somebody waits for a snapshot newer than the last one."""
        return self._asked > self._version

    @property
    def latest(self) -> ServiceStatus:
        return self._latest

    def ask(self, timeout_s: float) -> ServiceStatus:
        """A fresh snapshot; after ``timeout_s`` without one (the loop hangs) the last one."""
        with self._answered:
            wanted = self._asked = self._version + 1
            self._wake()
            self._answered.wait_for(lambda: self._version >= wanted, timeout_s)
            return self._latest

    def publish(self, status: ServiceStatus) -> None:
        with self._answered:
            self._latest = status
            self._version += 1
            self._answered.notify_all()
