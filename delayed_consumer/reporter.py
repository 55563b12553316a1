"""Answers what the service is doing, on the loop's thread, from the engine and what the brokers last said."""

from __future__ import annotations

from collections.abc import Mapping

from delayed_consumer.clock import Clock
from delayed_consumer.core.engine import Engine
from delayed_consumer.core.flow import Limits
from delayed_consumer.core.records import Partition
from delayed_consumer.events import Events
from delayed_consumer.loop import Loop
from delayed_consumer.snapshot import LogEnd, partition_status
from delayed_consumer.status import ServiceStatus, StatusBoard


class Reporter:
    """Looks at a loop between its steps."""

    def __init__(
        self, loop: Loop, engine: Engine, limits: Limits, clock: Clock, board: StatusBoard, events: Events
    ) -> None:
        self._loop = loop
        self._engine = engine
        self._limits = limits
        self._clock = clock
        self._board = board
        self._events = events
        self._said_idle = False
        self._log_ends: Mapping[Partition, LogEnd] = {}
        self._unread_note: Mapping[Partition, LogEnd] | None = None
        self._unread_topic_ids: Mapping[str, str] | None = None
        self._is_member = False

    def note_member(self) -> None:
        """From any thread: the brokers list us as a member of the group."""
        self._is_member = True

    def note(self, log_ends: Mapping[Partition, LogEnd]) -> None:
        """From any thread: what the brokers say now."""
        self._unread_note = log_ends

    def note_topics(self, topic_ids: Mapping[str, str]) -> None:
        """From any thread: the brokers' own names of the topics."""
        self._unread_topic_ids = topic_ids

    def look(self) -> None:
        """Reads the notes and answers who asks."""
        note, self._unread_note = self._unread_note, None
        if note is not None:
            self._log_ends = note
            now_ms = self._clock.now_ms()
            for partition, log_end in note.items():
                self._engine.expect(partition, log_end.due_end, now_ms)
        topic_ids, self._unread_topic_ids = self._unread_topic_ids, None
        if topic_ids is not None:
            self._loop.hear_of_topics(topic_ids)
        if self._is_member and not self._loop.membership.joined:
            self._loop.membership.has(0)
        self._is_member = False
        if self._board.asked:
            self._board.publish(self.status())
        if self._loop.membership.idle != self._said_idle:
            self._said_idle = self._loop.membership.idle
            if self._said_idle:
                self._events.idle_member()

    def status(self) -> ServiceStatus:
        now_ms = self._clock.now_ms()
        membership = self._loop.membership
        partitions = (
            partition_status(
                one,
                self._limits,
                self._log_ends.get(one.partition),
                self._loop.source.known_end(one.partition),
                self._loop.committed_offsets.get(one.partition),
                now_ms,
            )
            for one in self._engine.assignments
        )
        return ServiceStatus(
            ready=membership.joined and not self._loop.stopping,
            stopping=self._loop.stopping,
            idle_member=membership.idle,
            member_id=self._loop.source.member_id(),
            last_poll_ms=now_ms,
            partitions=tuple(sorted(partitions, key=lambda one: (one.topic, one.partition))),
        )
