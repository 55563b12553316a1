"""The service as a library on a real Kafka: one after the other, side by side, on any thread, with any end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from delayed_consumer import DelayedConsumer, FatalError, Record, Settings, batch
from delayed_consumer.errors import GaveUpError
from delayed_consumer.loop import Loop
from delayed_consumer.schedule import Schedule
from tests.conftest import Kafka, ServiceStarter
from tests.support import topics
from tests.support.groups import describe
from tests.support.topics import Topic, committed, create_topic, now_ms
from tests.support.wait import wait_until

DELAY_SECONDS = 1


def settings(topic: Topic, **arguments: Any) -> Settings:
    return Settings(
        {},
        kafka_bootstrap_servers=topic.bootstrap,
        kafka_topics=[topic.name],
        kafka_group_id=topic.name,
        **{"delay_seconds": DELAY_SECONDS, **arguments},
    )


def topic_with(kafka: Kafka, records: int, partitions: int = 1) -> Topic:
    """Every partition has that many, due at once."""
    topic = create_topic(kafka.bootstrap, partitions)
    at_ms = now_ms()
    topic.produce(*(topics.Record(at_ms, b"%d" % n, partition=p) for n in range(records) for p in range(partitions)))
    return topic


def members(topic: Topic) -> frozenset[str]:
    return describe(topic.bootstrap, topic.name).members


class Runner(threading.Thread):
    """Runs a consumer and keeps what it raised."""

    def __init__(self, consumer: DelayedConsumer, handle: Callable[..., object]) -> None:
        super().__init__(name="runner")
        self._consumer = consumer
        self._handle = handle
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._consumer.run(self._handle)
        except BaseException as error:
            self.error = error


def test_one_after_the_other_goes_on_where_the_last_one_was_stopped(kafka: Kafka) -> None:
    """On the main thread; the handler itself stops it, and may have begun some more by then."""
    topic = topic_with(kafka, 200)
    offsets: list[int] = []
    threads = threading.active_count()
    for _ in range(3):
        with DelayedConsumer(settings(topic)) as consumer:
            before = len(offsets)

            def handle(record: Record, before: int = before, consumer: DelayedConsumer = consumer) -> None:
                offsets.append(record.offset)
                if len(offsets) == before + 3:
                    consumer.stop()
                time.sleep(0.02)

            consumer.run(handle)
        assert len(offsets) >= before + 3
        assert offsets == list(range(len(offsets)))
        assert committed(topic) == {0: len(offsets)}
        assert members(topic) == frozenset()
    wait_until(lambda: threading.active_count() == threads, what="end of the threads of all lives")


def test_two_at_the_same_time_share_a_topic_as_two_processes_would(kafka: Kafka) -> None:
    """One with a function of single records, the other with a coroutine of batches."""
    topic = create_topic(kafka.bootstrap, 4)
    single: list[Record] = []
    batches: list[Record] = []

    @batch
    async def handle_batch(records: Sequence[Record]) -> None:
        batches.extend(records)

    with ExitStack() as stack:
        fast = {"heartbeat.interval.ms": "500"}
        consumers = [stack.enter_context(DelayedConsumer(settings(topic, kafka_conf=fast))) for _ in range(2)]
        runners = [Runner(one, handle) for one, handle in zip(consumers, (single.append, handle_batch), strict=True)]
        for runner in runners:
            runner.start()
        wait_until(lambda: describe(topic.bootstrap, topic.name).stable and len(members(topic)) == 2)
        round_trips = 0
        while not (single and batches):
            at_ms = now_ms()
            topic.produce(*(topics.Record(at_ms, partition=number) for number in range(4)))
            round_trips += 1
            wait_until(lambda: len(single) + len(batches) >= len(topic.records))
    for runner in runners:
        runner.join()
    assert [runner.error for runner in runners] == [None, None]
    assert sorted((one.partition, one.offset) for one in single + batches) == sorted(topic.records)
    assert committed(topic) == dict.fromkeys(range(4), round_trips)
    assert members(topic) == frozenset()


def test_a_record_that_fails_for_good_is_raised_and_nothing_is_committed_past_it(kafka: Kafka) -> None:
    topic = topic_with(kafka, 3)

    def handle(record: Record) -> None:
        if record.offset == 1:
            raise FatalError("no room on the disk")

    with (
        pytest.raises(GaveUpError, match=rf"{topic.name}\[0\] offset 1: .*no room"),
        DelayedConsumer(settings(topic)) as consumer,
    ):
        consumer.run(handle)
    assert committed(topic) == {0: 1}
    assert members(topic) == frozenset()


def test_a_call_in_flight_on_another_thread_ends_before_the_with_block_does(kafka: Kafka) -> None:
    topic = topic_with(kafka, 2)
    begun, go_on = threading.Event(), threading.Event()
    returned: list[int] = []

    def handle(record: Record) -> None:
        begun.set()
        assert go_on.wait(60)
        returned.append(record.offset)

    with DelayedConsumer(settings(topic)) as consumer:
        runner = Runner(consumer, handle)
        runner.start()
        assert begun.wait(60)
        threading.Timer(0.5, go_on.set).start()
    assert returned == [0]
    assert committed(topic) == {0: 1}
    runner.join()


def test_a_coroutine_that_hangs_is_cancelled_when_the_grace_is_over(kafka: Kafka) -> None:
    topic = topic_with(kafka, 1)
    threads = threading.active_count()
    cancelled = threading.Event()

    async def handle(_: Record) -> None:
        consumer.stop()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with DelayedConsumer(settings(topic, shutdown_grace_seconds=0.2)) as consumer:
        consumer.run(handle)
    assert cancelled.wait(20)
    wait_until(lambda: threading.active_count() == threads, what="end of the event loop's thread")
    assert committed(topic)[0] in {None, 0}


PROGRAM = """
import sys, time
from delayed_consumer import DelayedConsumer, Settings

def handle(record):
    sys.stdout.write('{"begun": 1}\\n')
    sys.stdout.flush()
    time.sleep(%s)

try:
    with DelayedConsumer(Settings()) as consumer:
        consumer.run(handle)
    print('{"ended": 1}')
except KeyboardInterrupt:
    print('{"interrupted": 1}')
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_program_that_uses_it(kafka: Kafka, start: ServiceStarter, number: signal.Signals) -> None:
    topic = topic_with(kafka, 2)
    program = start.by((sys.executable, "-c", PROGRAM % 0.5), topic, DELAY_SECONDS=0)
    program.wait_until(lambda: program.records)
    program.signal(number)
    assert program.wait_for_exit() == 0
    assert [next(iter(line)) for line in program.records] == ["begun", "ended"]
    assert committed(topic) == {0: 1}
    assert members(topic) == frozenset()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_second_signal_does_what_it_does_to_any_program(
    kafka: Kafka, start: ServiceStarter, number: signal.Signals, code: int
) -> None:
    """Though a call hangs: KeyboardInterrupt in the main thread, and the end by SIGTERM."""
    topic = topic_with(kafka, 1)
    program = start.by((sys.executable, "-c", PROGRAM % 600), topic, DELAY_SECONDS=0, SHUTDOWN_GRACE_SECONDS=600)
    program.wait_until(lambda: program.records)
    program.signal(number)
    program.wait_until(lambda: program.status().get("service", {}).get("stopping"))
    program.signal(number)
    assert program.wait_for_exit(20) == code
    lines = [next(iter(line)) for line in program.records]
    assert lines == (["begun", "interrupted"] if number == signal.SIGINT else ["begun"])


def test_a_second_interrupt_leaves_the_group_though_a_call_hangs(kafka: Kafka) -> None:
    """The program may go on after it."""
    topic = topic_with(kafka, 1)
    go_on = threading.Event()

    def handle(_: Record) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        wait_until(lambda: signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        os.kill(os.getpid(), signal.SIGINT)
        assert go_on.wait(60)

    with pytest.raises(KeyboardInterrupt), DelayedConsumer(settings(topic, shutdown_grace_seconds=600)) as consumer:
        consumer.run(handle)
    assert members(topic) == frozenset()
    go_on.set()


@pytest.mark.parametrize(("kind", "method"), [(Loop, "step"), (Schedule, "close")])
def test_a_second_interrupt_gives_what_is_in_flight_no_time_wherever_it_comes(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch, kind: type, method: str
) -> None:
    """In the step that it interrupts, or while the service already ends."""
    topic = topic_with(kafka, 1)
    begun, go_on = threading.Event(), threading.Event()

    def handle(_: Record) -> None:
        begun.set()
        assert go_on.wait(120)

    interrupted = getattr(kind, method)

    def interrupt(self: object) -> None:
        interrupted(self)
        if begun.is_set():
            raise KeyboardInterrupt

    monkeypatch.setattr(kind, method, interrupt)
    consumer = DelayedConsumer(settings(topic, shutdown_grace_seconds=600))
    runner = Runner(consumer, handle)
    runner.start()
    assert begun.wait(60)
    if kind is Schedule:
        consumer.stop()
    runner.join(60)
    assert not runner.is_alive()
    assert isinstance(runner.error, KeyboardInterrupt)
    assert members(topic) == frozenset()
    go_on.set()
