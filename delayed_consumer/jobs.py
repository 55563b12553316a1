"""The periodic jobs: ask the brokers what waits, guard the retention, say how things are."""

from __future__ import annotations

from collections.abc import Mapping

from delayed_consumer.clock import Clock
from delayed_consumer.core.records import Partition
from delayed_consumer.errors import ServiceError, UnreachableError
from delayed_consumer.events import Events
from delayed_consumer.probe import Probe
from delayed_consumer.reporter import Reporter
from delayed_consumer.schedule import Schedule
from delayed_consumer.settings import Settings
from delayed_consumer.snapshot import LogEnd
from delayed_consumer.status import StatusBoard

PROBE_EVERY_SECONDS = 15.0  # of 1,000 partitions it takes 60 ms of CPU
FIRST_PROBE_SECONDS = 3.0  # by then the group has mostly given us partitions
STATUS_EVERY_SECONDS = 15.0
RETENTION_EVERY_SECONDS = 300.0
RETENTION_MARGIN_MS = 3_600_000  # an outage of an hour must not cost records
ASK_TIMEOUT_SECONDS = 1.0


class Jobs:
    """Run on the scheduler's thread; they ask the loop through the board and leave it a note."""

    def __init__(
        self, settings: Settings, probe: Probe, reporter: Reporter, board: StatusBoard, clock: Clock, events: Events
    ) -> None:
        self._settings = settings
        self._probe = probe
        self._reporter = reporter
        self._board = board
        self._clock = clock
        self._events = events
        self._committed_before: dict[Partition, int | None] = {}

    def put_on(self, schedule: Schedule) -> None:
        schedule.every(PROBE_EVERY_SECONDS, self.ask_what_waits, first_after_seconds=FIRST_PROBE_SECONDS)
        schedule.every(RETENTION_EVERY_SECONDS, self.guard_retention, first_after_seconds=0)
        schedule.every(STATUS_EVERY_SECONDS, self.say_status, first_after_seconds=STATUS_EVERY_SECONDS)

    def ask_what_waits(self) -> None:
        """Which logs there are, their ends, and up to where their records are due; without partitions, whether we are
        a member."""
        status = self._board.ask(ASK_TIMEOUT_SECONDS)
        assigned = [Partition(one.topic, one.partition) for one in status.partitions]
        try:
            if assigned:
                self._reporter.note_topics(self._probe.topic_ids({one.topic for one in assigned}))
                self._reporter.note(self._log_ends(assigned))
            elif not status.ready and self._probe.has_member(self._settings.kafka_group_id, status.member_id):
                # The new group protocol calls nobody back when there is no partition for a member (librdkafka 2.16).
                self._reporter.note_member()
        except ServiceError as error:
            self._failed(error)

    def guard_retention(self) -> None:
        """A topic that deletes its records before they are due would lose them silently."""
        try:
            retention_ms = self._probe.retention_ms(self._probe.topics(self._settings.subscriptions))
        except ServiceError as error:
            self._failed(error)
            return
        for topic, kept_ms in retention_ms.items():
            if kept_ms is not None:
                self._events.retention(topic, kept_ms, self._settings.delay_ms(topic), RETENTION_MARGIN_MS)

    def say_status(self) -> None:
        self._events.status(self._board.ask(ASK_TIMEOUT_SECONDS))

    def _failed(self, error: ServiceError) -> None:
        self._events.probe_failed(str(error), self._clock.steady_ms())
        if isinstance(error, UnreachableError):
            self._probe.reconnect()

    def _log_ends(self, partitions: list[Partition]) -> Mapping[Partition, LogEnd]:
        lags = self._probe.measure(dict.fromkeys(partitions), self._settings.delay_ms, self._clock.now_ms())
        committed = self._committed(partitions)
        return {
            lag.partition: LogEnd(lag.end, lag.border, committed.get(lag.partition))
            for lag in lags
            if lag.end is not None and lag.border is not None
        }

    def _committed(self, partitions: list[Partition]) -> Mapping[Partition, int | None]:
        """Asked once, for what was committed before us; after that we hear of our own commits."""
        new = [one for one in partitions if one not in self._committed_before]
        asked = self._probe.committed(self._settings.kafka_group_id, new)
        self._committed_before = {
            one: offset for one, offset in (self._committed_before | asked).items() if one in partitions
        }
        return self._committed_before
