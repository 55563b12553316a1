"""Partitions that are given up, and the end: nothing more is begun, and nothing is waited for."""

from __future__ import annotations

import threading
import time

from delayed_consumer.core.records import Partition
from delayed_consumer.sinks.workers import Rules
from tests.sinks.handling import OTHER, Handler, plain, working
from tests.sinks.making import ORDERS


def test_a_given_up_partition_begins_nothing_more() -> None:
    handler = Handler()
    handler.hold(1)
    begun, unbegun, other = plain(3), plain(2, 3), plain(1, 100, OTHER)
    with working(handler) as workers:
        workers.deliver(begun, unbegun, other)
        workers.until(lambda: handler.at_once == 1 and 1 in handler.offsets)
        assert workers.sink.forget([ORDERS]) == [unbegun]
        workers.until_done(other)
        assert workers.look() == []
        handler.let_go()
        workers.until(lambda: workers.done(begun) == 2 and not workers.last(begun).goes_on)
    assert [one for one in handler.offsets if one < 100] == [0, 1]
    assert workers.last(begun).failure is None


def test_of_a_given_up_partition_that_waits_for_a_worker_all_runs_come_back() -> None:
    handler = Handler()
    handler.hold(100)
    other, first, second = plain(1, 100, OTHER), plain(2), plain(2, 2)
    with working(handler, Rules(concurrency=1)) as workers:
        workers.deliver(other)
        workers.until(lambda: handler.at_once == 1)
        workers.deliver(first, second)
        assert workers.sink.forget([ORDERS]) == [first, second]
        handler.let_go()
        workers.until_done(other)
        assert workers.look() == []
    assert handler.offsets == [100]


def test_to_give_up_twice_is_to_give_up_once() -> None:
    handler = Handler()
    handler.hold(0)
    run = plain(3)
    with working(handler) as workers:
        workers.deliver(run)
        workers.until(lambda: handler.at_once == 1)
        assert workers.sink.forget([ORDERS]) == workers.sink.forget([ORDERS]) == []
        handler.let_go()
        workers.until(lambda: workers.said and not workers.said[-1].goes_on)
        assert [(one.done, one.goes_on) for one in workers.said] == [(1, False)]


def test_a_partition_that_comes_back_waits_for_the_call_that_is_still_at_work() -> None:
    handler = Handler()
    handler.hold(0)
    former, run = plain(2), plain(2)
    with working(handler) as workers:
        workers.deliver(former)
        workers.until(lambda: handler.at_once == 1)
        workers.sink.forget([ORDERS])
        workers.deliver(run)
        assert handler.offsets == [0]
        handler.let_go()
        workers.until_done(run)
    assert handler.offsets == [0, 0, 1]
    assert handler.most_at_once == 1
    assert workers.done(former) == 1


def test_close_does_not_wait_for_a_handler_that_hangs() -> None:
    handler = Handler()
    handler.hold(0)
    with working(handler) as workers:
        workers.deliver(plain(2))
        workers.until(lambda: handler.at_once == 1)
        begun = time.monotonic()
        workers.sink.close()
        assert time.monotonic() - begun < 5
        handler.let_go()
        workers.until(lambda: handler.at_once == 0)
    assert handler.offsets == [0]


def test_threads_end_at_the_close() -> None:
    before = set(threading.enumerate())
    with working(Handler(), Rules(concurrency=4)) as workers:
        runs = [plain(1, number, Partition("orders", number)) for number in range(8)]
        workers.deliver(*runs)
        for run in runs:
            workers.until_done(run)
        ours = set(threading.enumerate()) - before
        assert 1 <= len(ours) <= 4
        assert all(one.daemon for one in ours)
    for one in ours:
        one.join(20)
        assert not one.is_alive()
