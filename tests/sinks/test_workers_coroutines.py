"""Async handlers: the same promises, on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from delayed_consumer.failures import Kind
from delayed_consumer.record import Record
from delayed_consumer.sinks.workers import Rules
from tests.loop.clock import ManualClock
from tests.sinks.handling import OTHER, SOON_MS, Handler, keyed, plain, working


def test_coroutines_run_side_by_side_and_each_lane_in_order() -> None:
    begun: list[int] = []
    go_on = threading.Event()

    async def handle(record: Record) -> None:
        begun.append(record.offset)
        while record.offset in {0, 100} and not go_on.is_set():
            await asyncio.sleep(0.001)

    run, other = plain(3), plain(2, 100, OTHER)
    with working(handle, asynchronous=True) as workers:
        workers.deliver(run, other)
        workers.until(lambda: sorted(begun) == [0, 100])
        go_on.set()
        workers.until_done(run)
        workers.until_done(other)
    assert [one for one in begun if one < 100] == [0, 1, 2]


def test_no_more_coroutines_run_at_once_than_the_concurrency_says() -> None:
    running, most = 0, 0

    async def handle(_: Record) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.002)
        running -= 1

    run = keyed(*[b"%d" % number for number in range(60)])
    with working(handle, Rules("key", concurrency=5), asynchronous=True) as workers:
        workers.deliver(run)
        workers.until_done(run)
    assert most == 5


async def _raises(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("error", [ValueError(), SystemExit(), KeyboardInterrupt(), asyncio.CancelledError()])
def test_whatever_a_coroutine_raises_is_an_attempt_that_failed(error: BaseException) -> None:
    clock = ManualClock()
    handler = Handler()
    handler.errors[0] += [error]

    async def handle(record: Record) -> None:
        handler(record)

    run = plain(2)
    with working(handle, clock=clock, asynchronous=True) as workers:
        workers.deliver(run)
        workers.until(lambda: workers.done(run) == 2, step_ms=SOON_MS)
    assert handler.offsets == [0, 0, 1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_ends_the_event_loop_does_not_end_the_work() -> None:
    calls: list[int] = []

    async def handle(record: Record) -> None:
        calls.append(record.offset)
        if calls == [0]:
            await asyncio.create_task(_raises(SystemExit()))

    clock = ManualClock()
    run = plain(2)
    with working(handle, clock=clock, asynchronous=True) as workers:
        workers.deliver(run)
        workers.until(lambda: workers.done(run) == 2, step_ms=SOON_MS)
    assert calls == [0, 0, 1]


@pytest.mark.parametrize("obeys", [True, False])
def test_a_coroutine_that_takes_too_long_is_cancelled_and_tried_again(obeys: bool) -> None:
    cancelled: list[int] = []
    begun: list[int] = []
    end = threading.Event()

    async def handle(record: Record) -> None:
        begun.append(record.offset)
        if begun != [0]:
            return
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(record.offset)
            while not obeys and not end.is_set():
                await asyncio.sleep(0.001)
            raise

    clock = ManualClock()
    run = plain(2)
    with working(handle, Rules(timeout_ms=1_000, concurrency=1), clock, asynchronous=True) as workers:
        workers.deliver(run)
        workers.until(lambda: begun)
        workers.until(lambda: workers.done(run) == 2, step_ms=SOON_MS)
        end.set()
    assert (begun, cancelled) == ([0, 0, 1], [0])


def test_a_coroutine_that_blocks_the_event_loop_stops_the_service() -> None:
    begun, end = threading.Event(), threading.Event()

    async def handle(_: Record) -> None:
        begun.set()
        end.wait(60)

    clock = ManualClock()
    with working(handle, Rules(timeout_ms=1_000), clock, asynchronous=True) as workers:
        workers.deliver(plain(1))
        workers.until(begun.is_set)
        workers.until(lambda: workers.fallback.taken, step_ms=50)
        ((_, failure),) = workers.fallback.taken
        assert failure.kind is Kind.FATAL
        assert "blocks the event loop" in failure.reason
        end.set()


def test_coroutines_that_wait_for_nothing_do_not_keep_the_others_from_running() -> None:
    busy, other_ran = 0, threading.Event()

    async def handle(record: Record) -> None:
        nonlocal busy
        if record.offset >= 1_000:
            other_ran.set()
        elif not other_ran.is_set():
            busy += 1
            time.sleep(0.002)

    first, other = plain(1_000), plain(1, 1_000, OTHER)
    with working(handle, asynchronous=True) as workers:
        workers.deliver(first)
        workers.until(lambda: busy)
        workers.deliver(other)
        workers.until_done(other)
        assert busy < 1_000
        workers.until_done(first)


def test_the_event_loop_ends_at_the_close_with_what_runs_on_it() -> None:
    before = set(threading.enumerate())
    cancelled = threading.Event()
    begun = threading.Event()

    async def handle(_: Record) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    with working(handle, asynchronous=True) as workers:
        (thread,) = set(threading.enumerate()) - before
        workers.deliver(plain(1))
        workers.until(begun.is_set)
    thread.join(20)
    assert not thread.is_alive()
    assert cancelled.is_set()
    workers.sink.close()
