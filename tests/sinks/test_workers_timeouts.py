"""SINK_TIMEOUT_SECONDS: a call that takes too long is given up, and its thread is left behind."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import defaultdict

import pytest

from delayed_consumer.core.records import Partition
from delayed_consumer.errors import GaveUpError
from delayed_consumer.failures import Kind
from delayed_consumer.record import Record
from delayed_consumer.sinks import workers as module
from delayed_consumer.sinks.crew import Threads
from delayed_consumer.sinks.lanes import Turn
from delayed_consumer.sinks.workers import Rules
from tests.loop.clock import ManualClock
from tests.sinks.handling import OTHER, SOON_MS, Handler, plain, working
from tests.support.wait import wait_until


def test_a_call_that_takes_too_long_is_given_up_and_tried_again_on_another_thread() -> None:
    clock, handler = ManualClock(), Handler()
    handler.hold(0)
    run, other = plain(2), plain(3, 100, OTHER)
    with working(handler, Rules(timeout_ms=2_000, concurrency=1), clock) as workers:
        workers.deliver(run)
        workers.until(lambda: handler.at_once == 1)
        workers.look()
        clock.advance(1_990)
        workers.deliver(other)
        assert handler.offsets == [0]
        clock.advance(20)
        workers.until_done(other)
        del handler.held[0]
        workers.until(lambda: workers.done(run) == 2, step_ms=SOON_MS)
    assert [record.attempt for record in handler.records if record.offset < 100] == [1, 2, 1]


def test_what_a_call_returns_after_it_was_given_up_is_ignored() -> None:
    clock, handler = ManualClock(), Handler()
    handler.hold(0)
    run = plain(2)
    with working(handler, Rules(timeout_ms=1_000, max_attempts=1), clock) as workers:
        workers.deliver(run)
        workers.until(lambda: handler.at_once == 1)
        workers.until(lambda: workers.fallback.taken, step_ms=SOON_MS)
        ((offset, failure),) = workers.fallback.taken
        assert (offset, failure.reason, failure.attempts) == (0, "TimeoutError: no result within 1 s", 1)
        handler.let_go()
        workers.until(lambda: 1 in handler.offsets and handler.at_once == 0)
        assert workers.look() == []
        assert workers.done(run) == 0
        workers.fallback.resolve(0)
        workers.until_done(run)
    assert handler.offsets == [0, 1]


def test_calls_that_never_end_are_left_behind_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_LEFT_BEHIND", 3)
    clock, handler = ManualClock(), Handler()
    handler.hold(*range(10))
    with working(handler, Rules(timeout_ms=1_000, max_attempts=1, concurrency=1), clock) as workers:
        workers.deliver(plain(10))
        workers.until(lambda: len(workers.fallback.taken) == 4, step_ms=100)
        kinds = [failure.kind for _, failure in workers.fallback.taken]
        assert kinds == [Kind.RETRYABLE] * 3 + [Kind.FATAL]
        assert "more than 3 calls" in workers.fallback.taken[-1][1].reason


def test_calls_that_end_late_make_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_LEFT_BEHIND", 1)
    clock, handler = ManualClock(), Handler()
    handler.hold(*range(4))
    before = set(threading.enumerate())
    with working(handler, Rules(timeout_ms=1_000, max_attempts=1, concurrency=1), clock) as workers:
        workers.deliver(plain(4))
        for number in range(4):
            workers.until(lambda: len(workers.fallback.taken) > number, step_ms=100)  # noqa: B023 - called at once
            handler.let_go(number)
            workers.until(lambda: handler.at_once <= 1 and len(set(threading.enumerate()) - before) <= 1)
        assert {failure.kind for _, failure in workers.fallback.taken} == {Kind.RETRYABLE}


def test_a_call_that_ends_while_it_is_given_up_costs_the_next_record_no_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, handler = ManualClock(), Handler()
    handler.hold(0)
    give_up = Threads.give_up

    def give_up_late(crew: Threads, turn: Turn) -> None:
        handler.let_go()
        wait_until(lambda: turn.over, 20, "the end of the call")
        give_up(crew, turn)

    monkeypatch.setattr(Threads, "give_up", give_up_late)
    run = plain(2)
    with working(handler, Rules(timeout_ms=1_000), clock) as workers:
        workers.deliver(run)
        workers.until(lambda: handler.at_once == 1)
        workers.until(lambda: workers.done(run) == 2, step_ms=SOON_MS)
    assert [(record.offset, record.attempt) for record in handler.records] == [(0, 1), (0, 2), (1, 1)]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_calls_that_end_in_the_moment_they_are_given_up_are_made_in_order_and_each_attempt_once(
    monkeypatch: pytest.MonkeyPatch, asynchronous: bool, dice: random.Random
) -> None:
    monkeypatch.setattr(module, "BACK_OFF_MS", 1.0)
    monkeypatch.setattr(module, "MOST_LEFT_BEHIND", 10_000)
    calls: dict[int, list[tuple[int, int]]] = defaultdict(list)  # by partition: offset and attempt

    def seconds(record: Record) -> float:
        calls[record.partition].append((record.offset, record.attempt))
        return dice.random() * 0.006

    async def handle_async(record: Record) -> None:
        await asyncio.sleep(seconds(record))

    handle = handle_async if asynchronous else lambda record: time.sleep(seconds(record))
    runs = [plain(15, number * 100, Partition("orders", number % 5)) for number in range(25)]
    with working(handle, Rules(concurrency=3, timeout_ms=4), asynchronous=asynchronous) as workers:
        workers.fallback.at_once = True
        workers.deliver(*runs)
        for run in runs:
            workers.until_done(run)
    for made in calls.values():
        assert made == sorted(set(made))
    called = {offset for made in calls.values() for offset, _ in made}
    assert called == {offset for run in runs for offset in run.offsets}


def test_a_call_that_hangs_is_given_up_with_its_partition_too() -> None:
    clock, handler = ManualClock(), Handler()
    handler.hold(0)
    run = plain(2)
    with working(handler, Rules(timeout_ms=1_000), clock) as workers:
        workers.deliver(run)
        workers.until(lambda: handler.at_once == 1)
        assert workers.sink.forget([run.partition]) == []
        workers.until(lambda: workers.said, step_ms=SOON_MS)
        assert (workers.last(run).done, workers.last(run).failure, workers.last(run).goes_on) == (0, None, False)
        handler.let_go()
        workers.until(lambda: handler.at_once == 0)
        assert workers.look() == []
    assert handler.offsets == [0]


def test_a_service_that_may_start_no_thread_ends_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with working(Handler()) as workers:
        monkeypatch.setattr(threading.Thread, "start", start)
        with pytest.raises(GaveUpError, match="cannot start a thread for the handler: can't start new thread"):
            workers.deliver(plain(1))
