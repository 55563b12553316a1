"""The loop: deliver, settle, steer, read. It owns the consumer and all state, on one thread."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

from delayed_consumer.clock import Clock, StepDetector
from delayed_consumer.core.engine import Engine
from delayed_consumer.core.records import Partition
from delayed_consumer.delivery import Delivery
from delayed_consumer.dispatch import Dispatcher, Progress
from delayed_consumer.errors import GaveUpError, ServiceError, UnreachableError
from delayed_consumer.events import Events
from delayed_consumer.membership import Membership
from delayed_consumer.positions import Positions, Start
from delayed_consumer.source import Reading, Source, memory_sizes, offsets_of, one_record, timestamps_ms

CALLBACKS_EVERY_MS = 500.0  # a rebalance or a commit's result is noticed within this
GROUP_EVERY_MS = 50.0  # and the steps of a rebalance that follow within this: others wait for them
LONGEST_READ_MS = 250.0  # a stop or a question while the client is waited for: nothing ends its wait
SINK_EVERY_MS = 5.0  # what the sink has ended is noticed within this
COMMIT_EVERY_MS = 1.0  # the answer to a commit that records wait for is noticed within this
REVOKE_GRACE_MS = 5_000.0  # what is in flight may end that long before its partition is given up
ASK_AGAIN_MS = 1_000.0
COMMIT_AGAIN_MS = 200.0
LAST_COMMIT_MS = 3_000.0  # a rebalance refuses commits for about as long as its slowest member takes
LEAVE_TIMEOUT_S = 7.0  # for leaving the group; milliseconds where the brokers answer


class Loop:
    """One consumer's life: `run` is steps until `stop`, and `step` is right whatever else runs or does not.

    It is the source's listener too (`source.GroupListener`): those methods are called during a read.
    """

    def __init__(
        self,
        engine: Engine,
        dispatcher: Dispatcher,
        clock: Clock,
        events: Events,
        *,
        source: Callable[[Loop], Source],
        delivery: Callable[[Source], Delivery],
        positions: Callable[[Source], Positions],
        grace_ms: float,
    ) -> None:
        """``grace_ms`` is what deliveries in flight get at a stop. The three factories get what they need of it:
        the source its listener, the others the source."""
        self._engine = engine
        self._dispatcher = dispatcher
        self._clock = clock
        self._events = events
        self._grace_ms = grace_ms
        self.source = source(self)
        self.delivery = delivery(self.source)
        self._positions = positions(self.source)
        self._clock_steps = StepDetector(clock)
        self._topic_ids: dict[str, str] = {}  # of those that are read, as they were first heard of
        self._without_offset: set[Partition] = set()
        self._asked: set[Partition] = set()
        self._ask_again_ms = 0.0
        self._callbacks_at_ms = 0.0
        self._failure: GaveUpError | None = None
        self._stopping = False
        self.membership = Membership(clock)
        self.committed_offsets: dict[Partition, int] = {}
        self.turned_ms = clock.steady_ms()

    def step(self) -> None:
        """One turn. A crash between delivery and the commit of its offset repeats; none loses."""
        self._deliver_due()
        self._settle()
        self._steer()
        self._read()
        if self.source.lost:
            self._join_anew()
        self._find_positions()
        self._keep_time()

    @property
    def stopping(self) -> bool:
        return self._stopping

    def stop(self) -> None:
        """From any thread or signal handler; what waits needs no draining, it is still in Kafka."""
        self._stopping = True
        self._clock.wake()

    def cut_short(self) -> None:
        """What is in flight gets no more time to end."""
        self._grace_ms = 0.0

    def hear_of_topics(self, topic_ids: Mapping[str, str]) -> None:
        """The brokers' own names of the topics, as they are now.

        The client reads by a topic's name, so that one which was deleted and made again, and has grown beyond the
        offset to be read next, passes for the former one. It is read from its start.
        """
        others = {topic for topic, id_ in topic_ids.items() if self._topic_ids.get(topic, id_) != id_}
        replaced = [one for one in self._assigned() if one.topic in others]
        if not replaced or self._read_anew(replaced):
            self._topic_ids |= topic_ids

    def close(self) -> int:
        """Lets what is in flight end, commits what is done and leaves the group.

        Returns how many records did not end in time: the next owner delivers them again.
        """
        self._stopping = True
        partitions = self._assigned()
        self.delivery.give_up(partitions)
        try:
            self._drain(partitions, self._grace_ms)
            self._commit_last()
        finally:  # also when a second Ctrl-C cuts the grace short in a program that uses us as a library
            abandoned = self._dispatcher.in_flight(partitions)
            self.cut_short()  # it is used up: the client calls `revoked` while it closes
            if not self.source.close(LEAVE_TIMEOUT_S):
                self._events.left_silently()
            self._dispatcher.close()
        return abandoned

    # What a step does

    def _deliver_due(self) -> None:
        now_ms = self._clock.now_ms()
        runs = self._engine.take_due(now_ms)
        if runs:
            self.delivery.start(runs, now_ms)
            self._events.handed_over(runs)

    def _settle(self) -> None:
        """Takes what the sink has ended and stores the offsets that follow from it.

        Raises GaveUpError for a record that failed, after what was done before it is stored.
        """
        self._collect()
        if self._failure is not None and not self._stopping:
            raise self._failure

    def _steer(self) -> None:
        change = self._engine.change_flow(self._clock.now_ms())
        if change is None:
            return
        if change.pause:
            self.source.pause(change.pause)
        if change.resume:
            self.source.resume(change.resume)
        self._events.flow_changed(change)

    def _read(self) -> None:
        """Takes records as they come; where none may be taken, waits beside the client and serves its callbacks."""
        steady_ms = self._clock.steady_ms()  # a wall clock that is set back must not put off the callbacks
        callbacks_every_ms = self._callbacks_every_ms()
        longest_ms = min(callbacks_every_ms, SINK_EVERY_MS) if self._dispatcher.busy else callbacks_every_ms
        wait_ms = min(max(0.0, self._engine.wake_ms() - self._clock.now_ms()), longest_ms)
        if self._engine.taking:
            # The client waits in whole milliseconds: rounded down here, the rest is waited for beside it.
            reading = self.source.read(self._engine.room_records, int(min(wait_ms, LONGEST_READ_MS)) / 1000)
            if reading:
                self._take(reading)
            elif wait_ms % 1:
                self._clock.wait_ms(wait_ms % 1)
        elif steady_ms >= self._callbacks_at_ms:
            self._callbacks_at_ms = steady_ms + callbacks_every_ms
            self._take(self.source.read(one_record, 0))
        else:
            self._callbacks_at_ms = min(self._callbacks_at_ms, steady_ms + callbacks_every_ms)
            self._clock.wait_ms(min(wait_ms, self._callbacks_at_ms - steady_ms))

    def _callbacks_every_ms(self) -> float:
        if self.delivery.awaits_commit:
            return COMMIT_EVERY_MS
        return CALLBACKS_EVERY_MS if self.membership.settled else GROUP_EVERY_MS

    def _find_positions(self) -> None:
        """Asks where to read the partitions for which the client knows no offset: new ones at once, for the client
        reports them one by one, and those that were not answered again after a while."""
        steady_ms = self._clock.steady_ms()
        if self._without_offset <= self._asked and (not self._without_offset or steady_ms < self._ask_again_ms):
            return
        self._ask_again_ms = steady_ms + ASK_AGAIN_MS
        self._asked = set(self._without_offset)
        positions = self._engine.positions()
        try:
            starts = self._positions.starts({one: positions[one] for one in self._without_offset})
            if starts:
                self._start_at(starts, positions)
        except UnreachableError as error:
            self._events.no_positions(self._without_offset, str(error), steady_ms)

    def _start_at(self, starts: Mapping[Partition, Start], positions: Mapping[Partition, int | None]) -> None:
        back = {one: start.offset for one, start in starts.items() if start.another_log and start.offset is not None}
        if back:
            # The periodic commit never goes back. First, so that it is tried again until it is taken: a restart would
            # skip what the new log has before the old offset. Stored too, or the old one would be committed again.
            self.source.store(back.items())
            self.source.commit_now(back)
        self.source.start_at({one: start.offset for one, start in starts.items()}, positions)
        self._without_offset -= starts.keys()
        self._engine.moved({one: start.offset for one, start in starts.items()})
        self._events.started_at(starts)

    def _read_anew(self, partitions: Sequence[Partition]) -> bool:
        """Drops what is held of a former log. Returns whether that was done, for all; else nothing was."""
        try:
            starts = self._positions.of_new_logs(partitions)
            if len(starts) < len(partitions):
                return False
            self.source.resume([(one, None) for one in starts])  # a pause survives what follows
            self._start_at(starts, self._engine.positions())
        except UnreachableError as error:
            self._events.no_positions(partitions, str(error), self._clock.steady_ms())
            return False
        self.delivery.forget(starts)
        self._events.topics_replaced({one.topic for one in starts})
        return True

    def _join_anew(self) -> None:
        """As after a time-out of the session: what was done and is not committed is done again."""
        self._events.brokers_forgotten("consumer")
        self._forget(self._assigned())
        self.membership.lost()
        self.source.join_anew()
        self.delivery.committed({}, "the client was replaced")  # nobody answers a commit that was on its way

    def _keep_time(self) -> None:
        self.turned_ms = self._clock.steady_ms()
        step_ms = self._clock_steps.step_ms()
        if step_ms:
            self._engine.clock_was_set(self._clock.now_ms())
            self._events.clock_stepped(step_ms)

    # What the parts above share

    def _take(self, reading: Reading) -> None:
        now_ms = self._clock.now_ms()
        for partition, messages in reading.batches.items():
            due = self._engine.hold(
                partition,
                messages,
                offsets_of(messages),
                timestamps_ms(messages),
                memory_sizes(messages),
                now_ms,
            )
            if due is not None:
                self._events.unusual_timestamps(partition, due, self._clock.steady_ms())
        for partition, offset in reading.ends.items():
            self._engine.reached_end(partition, offset)
        if reading.without_offset:
            self._without_offset |= self._engine.positions().keys() & set(reading.without_offset)

    def _collect(self) -> None:
        news = self._dispatcher.collect()
        if news:
            self._events.progressed(news)
        for progress in news:
            self._advance(progress)
        self.delivery.done(sum(progress.newly_done for progress in news), self._engine.take_committable())

    def _advance(self, progress: Progress) -> None:
        run, done, failure = progress.outcome.run, progress.outcome.done, progress.outcome.failure
        if not self._engine.owns(run):
            return
        self._engine.finish(run, done, self._clock.now_ms())
        if failure is not None and self._failure is None:
            failed = done if progress.outcome.failed is None else progress.outcome.failed
            self._failure = GaveUpError(f"{run.partition} offset {run.offsets[failed]}: {failure}")

    def _drain(self, partitions: Collection[Partition], grace_ms: float) -> None:
        """Waits until nothing of ``partitions`` is in flight, a record has failed, or the grace is over."""
        end_ms = self._clock.steady_ms() + grace_ms
        self._collect()
        while self._dispatcher.in_flight(partitions) and self._failure is None and self._clock.steady_ms() < end_ms:
            self._clock.wait_ms(SINK_EVERY_MS)
            self._collect()
            self.turned_ms = self._clock.steady_ms()

    def _commit_last(self) -> None:
        """Not left to the client's close alone, which tries once: in the middle of a rebalance that is refused."""
        end_ms = self._clock.steady_ms() + LAST_COMMIT_MS
        with suppress(ServiceError):  # what ends the service now has ended it already
            while (offsets := self.delivery.uncommitted()) and self._clock.steady_ms() < end_ms:
                self.source.commit(offsets)
                again_ms = self._clock.steady_ms() + COMMIT_AGAIN_MS
                while self.delivery.uncommitted() and self._clock.steady_ms() < again_ms:
                    self._take(self.source.read(one_record, SINK_EVERY_MS / 1000))

    def _assigned(self) -> list[Partition]:
        return [one.partition for one in self._engine.assignments]

    # What the source reports during a read

    def assigned(self, partitions: Sequence[Partition]) -> None:
        self._engine.assign(partitions)
        self.membership.has(len(self._assigned()))
        self._events.assigned(partitions)

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """What is done is stored before the partitions go: after that the client refuses it."""
        self.delivery.give_up(partitions)
        self._drain(partitions, min(self._grace_ms, REVOKE_GRACE_MS))
        abandoned = self._dispatcher.in_flight(partitions)
        self._forget(partitions)
        self.membership.gave_up(len(self._assigned()))
        self._events.revoked(partitions, abandoned)

    def lost(self, partitions: Sequence[Partition]) -> None:
        """Somebody else has them already: what is held is dropped and nothing may be stored."""
        self._forget(partitions)
        self.membership.lost()
        self._events.lost(partitions)

    def committed(self, offsets: Mapping[Partition, int], error: str | None) -> None:
        self.committed_offsets.update(offsets)
        self.delivery.committed(offsets, error)
        if offsets or error is not None:
            self._events.committed(offsets, error)

    def client_error(self, reason: str) -> None:
        self._engine.excuse_silence(self._clock.now_ms())
        self._events.client_error(reason, self._clock.steady_ms())

    def received_bytes(self, total: int) -> None:
        self._events.received_bytes(total)

    def _forget(self, partitions: Collection[Partition]) -> None:
        self.delivery.forget(partitions)
        self._engine.revoke(partitions)
        self._without_offset.difference_update(partitions)
        for partition in partitions:
            self.committed_offsets.pop(partition, None)
            self._topic_ids.pop(partition.topic, None)  # it may be another one when we get some of it again
