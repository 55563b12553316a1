"""One partition while it is ours: what is held of it, what is in flight, how far it was read."""

from __future__ import annotations

from collections import deque

from delayed_consumer.core.due import DueRule
from delayed_consumer.core.offsets import InFlight
from delayed_consumer.core.records import Partition, Run

CUT_BYTES = 16_384


class Assignment:
    """The state of one partition from assign to revoke; dropped then, never reset.

    Attributes:
        position: the next offset to be read; None until something was read.
        at_end: the log was read to its end and nothing has come since.
        hungry: it holds less than it should (hysteresis between half and a whole look-ahead).
        reading: it is hungry and the hold has room for it.
        paused: what the client was last told.
        awaited_since_ms: since when nothing was heard of it though it was resumed.
        last_start_ms: when records of it last went to the sink.
        last_progress_ms: since when the first record in flight is the first one.
        stored: the last offset that was given to the client to commit.
    """

    def __init__(self, partition: Partition, generation: int, due: DueRule, delay_ms: int) -> None:
        self.partition = partition
        self.generation = generation
        self.due = due
        self.delay_ms = delay_ms
        self.in_flight = InFlight()
        self.position: int | None = None
        self.at_end = False
        self.hungry = True
        self.reading = True
        self.paused = False
        self.awaited_since_ms: float | None = None
        self.last_start_ms = 0.0
        self.last_progress_ms = 0.0
        self.stored: int | None = None
        self._held: deque[Run] = deque()
        self._started = 0  # how many records of the first held run have gone to the sink
        self._started_bytes = 0
        self.held_records = 0
        self.held_bytes = 0

    @property
    def records(self) -> int:
        """Records in memory, in flight included."""
        return self.held_records + self.in_flight.records

    @property
    def bytes(self) -> int:
        return self.held_bytes + self.in_flight.bytes

    @property
    def next_due_ms(self) -> int | None:
        """When the first held record is due."""
        return self._held[0].due_ms[self._started] if self._held else None

    @property
    def furthest_due_ms(self) -> int | None:
        """When the last held record is due. Whatever is read next is due then or later."""
        return self._held[-1].due_ms[-1] if self._held else None

    @property
    def oldest_unfinished_due_ms(self) -> int | None:
        first_ms = self.in_flight.first_unfinished_due_ms
        return first_ms if first_ms is not None else self.next_due_ms

    def due_records(self, now_ms: float) -> int:
        """Records that are due and not done."""
        due = self.in_flight.records - self._started
        for run in self._held:
            count = run.due_count(now_ms)
            due += count
            if count < len(run):
                break
        return due

    @property
    def committable(self) -> int | None:
        """The first offset not done: in flight, else held, else the position. None: nothing was read yet.

        This one line is at-least-once.
        """
        first = self.in_flight.first_unfinished_offset
        if first is None and self._held:
            first = self._held[0].offsets[self._started]
        return first if first is not None else self.position

    def hold(self, run: Run) -> None:
        self._held.append(run)
        self.held_records += len(run)
        self.held_bytes += run.size_bytes
        self.position = run.next_offset
        self.at_end = False
        self.awaited_since_ms = None

    def reached_end(self, offset: int) -> None:
        """The log ended at ``offset``: control records behind the last record are passed over."""
        self.awaited_since_ms = None
        if self.position is None or offset >= self.position:
            self.at_end = True
            self.position = offset

    def set_reading(self, reading: bool, now_ms: float) -> None:
        """While it does not read nothing may be taken from the client, so its silence begins when it does again."""
        if reading and not self.reading and self.awaited_since_ms is not None:
            self.awaited_since_ms = now_ms
        self.reading = reading

    def was_paused(self) -> None:
        self.paused = True

    def was_resumed(self, now_ms: float) -> None:
        """The end of the log may have moved meanwhile, so it has to be found again."""
        self.paused = False
        self.at_end = False
        self.awaited_since_ms = now_ms

    def start_due(self, now_ms: float, max_records: int) -> Run | None:
        """Moves the first run's due records, at most ``max_records``, from held to in flight."""
        if not self._held:
            return None
        read, first = self._held[0], self._started
        end = min(read.due_count(now_ms), first + max_records)
        if end <= first:
            return None
        run = read.part(first, end)
        self._cut_off(read, end, run.size_bytes)
        self.held_records -= len(run)
        self.held_bytes -= run.size_bytes
        if not self.in_flight:
            self.last_progress_ms = now_ms
        self.in_flight.start(run)
        self.last_start_ms = now_ms
        return run

    def _cut_off(self, read: Run, end: int, started_bytes: int) -> None:
        """``read`` has started up to index ``end``. To copy the rest of it each millisecond would cost more than all
        else, so what has started stays in memory until it is `CUT_BYTES`."""
        self._started, self._started_bytes = end, self._started_bytes + started_bytes
        if end == len(read):
            self._held.popleft()
        elif self._started_bytes >= CUT_BYTES:
            self._held[0] = read.part(end, len(read))
        else:
            return
        self._started = self._started_bytes = 0

    def finish(self, run: Run, done: int, now_ms: float) -> None:
        """The first ``done`` records of a run in flight are done."""
        first = self.in_flight.first_unfinished_offset
        self.in_flight.finish(run, done)
        if self.in_flight.first_unfinished_offset != first:
            self.last_progress_ms = now_ms
