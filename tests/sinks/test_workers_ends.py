"""Partitions that are given up, and the end: nothing more is begun, and nothing is waited for."""

from __future__ import annotations

import threading
import time

from delayed_consumer.core.records import Partition
from delayed_consumer.sinks.workers import Rules
from tests.sinks.handling import BY_KEY, OTHER, Handler, keyed, plain, working
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


def test_a_partition_that_winds_up_is_delivered_as_far_as_something_is_done_and_no_further() -> None:
    handler = Handler()
    handler.hold(0)
    ended, run = keyed(b"b", first_offset=4), keyed(b"a", b"a", b"b", b"a")
    behind = keyed(b"a", b"a", first_offset=5)
    with working(handler, BY_KEY) as workers:
        workers.deliver(run, ended, behind)
        workers.until(lambda: workers.said and not workers.said[-1].goes_on)
        assert workers.done(ended) == 1
        assert workers.sink.wind_up([ORDERS]) == [behind]
        handler.let_go()
        workers.until_done(run)
        assert not workers.last(run).goes_on
    assert sorted(handler.offsets) == [0, 1, 2, 3, 4]


def test_what_fails_while_its_partition_winds_up_is_tried_again_where_something_behind_it_is_done() -> None:
    handler = Handler()
    handler.hold(0)
    handler.errors[0] += [ValueError("not yet")]
    run = keyed(b"a", b"b", b"a")
    with working(handler, BY_KEY) as workers:
        workers.deliver(run)
        workers.until(lambda: 1 in handler.offsets and handler.at_once == 1)
        assert workers.sink.wind_up([ORDERS]) == []
        handler.let_go()
        workers.until_done(run, 2)
        assert (workers.last(run).done, workers.last(run).goes_on) == (2, False)
    assert sorted(handler.offsets) == [0, 0, 1]


def test_what_fails_while_its_partition_winds_up_is_left_to_the_next_owner_where_nothing_behind_it_is_done() -> None:
    handler = Handler()
    handler.hold(1)
    handler.errors[1] += [ValueError("not yet")]
    run = plain(3)
    with working(handler) as workers:
        workers.deliver(run)
        workers.until(lambda: 1 in handler.offsets)
        assert workers.sink.wind_up([ORDERS]) == []
        handler.let_go()
        workers.until(lambda: workers.said and not workers.last(run).goes_on)
        assert workers.last(run).done == 1
    assert handler.offsets == [0, 1]
    assert not workers.fallback.taken


def test_what_winds_up_begins_nothing_more_when_its_partition_has_gone() -> None:
    handler = Handler()
    handler.hold(0)
    run = keyed(b"a", b"a", b"b")
    with working(handler, BY_KEY) as workers:
        workers.deliver(run)
        workers.until(lambda: 2 in handler.offsets and handler.at_once == 1)
        assert workers.sink.wind_up([ORDERS]) == workers.sink.forget([ORDERS]) == []
        handler.let_go()
        workers.until(lambda: workers.said and not workers.last(run).goes_on)
        assert workers.last(run).done == 1
    assert sorted(handler.offsets) == [0, 2]


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
