"""Batch handlers: what is due of one partition as a list, and what becomes of one that failed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable

from delayed_consumer.core.records import Partition
from delayed_consumer.errors import MessageError
from delayed_consumer.record import Record
from delayed_consumer.sinks.workers import Rules
from tests.loop.clock import ManualClock
from tests.sinks.handling import OTHER, SOON_MS, plain, working


class Lists:
    """A batch handler that fails for lists with certain offsets."""

    def __init__(self, errors: dict[int, BaseException] | None = None) -> None:
        self.errors = errors or {}
        self.lists: list[list[int]] = []
        self.attempts: list[list[int]] = []
        self.go_on = threading.Event()
        self.begun = threading.Event()

    def __call__(self, records: list[Record]) -> None:
        assert type(records) is list
        self.begun.set()
        self.go_on.wait(60)
        self.lists.append([record.offset for record in records])
        self.attempts.append([record.attempt for record in records])
        for record in records:
            if record.offset in self.errors:
                raise self.errors[record.offset]


def flat(lists: Iterable[list[int]]) -> list[int]:
    return [one for each in lists for one in each]


def test_a_batch_has_what_is_due_of_one_partition_across_runs() -> None:
    handler = Lists()
    runs = [plain(3), plain(3, 3), plain(3, 6), plain(3, 9)]
    other = plain(2, 100, OTHER)
    with working(handler, Rules("none", concurrency=1), batch_records=5) as workers:
        workers.deliver(runs[0])
        workers.until(handler.begun.is_set)
        workers.deliver(*runs[1:], other)
        handler.go_on.set()
        workers.until_done(runs[-1])
        workers.until_done(other)
    assert handler.lists[0] == [0, 1, 2], "nothing is waited for"
    assert [one for one in handler.lists if one[0] < 100][1:] == [[3, 4, 5, 6, 7], [8, 9, 10, 11]]
    assert [one for one in handler.lists if one[0] >= 100] == [[100, 101]]


def test_one_bad_record_does_not_take_its_batch_with_it() -> None:
    handler = Lists({2: ValueError("bad")})
    handler.go_on.set()
    clock = ManualClock()
    run = plain(5)
    with working(handler, Rules(max_attempts=3), clock, batch_records=500) as workers:
        workers.deliver(run)
        workers.until(lambda: workers.fallback.taken, step_ms=SOON_MS)
        workers.until(lambda: handler.lists[-1] == [4])
        ((offset, failure),) = workers.fallback.taken
        workers.fallback.resolve(offset)
        workers.until_done(run)
    assert (offset, failure.attempts) == (2, 3)
    assert handler.lists == [[0, 1, 2, 3, 4], [0], [1], [2], [2], [3], [4]]
    assert flat(handler.attempts) == [1] * 5 + [2, 2, 2, 3, 2, 2]


def test_behind_a_batch_that_failed_lists_are_long_again() -> None:
    handler = Lists({1: MessageError("bad")})
    clock = ManualClock()
    run, later = plain(2), plain(3, 2)
    with working(handler, clock=clock, batch_records=500) as workers:
        workers.deliver(run)
        workers.until(handler.begun.is_set)
        workers.deliver(later)
        handler.go_on.set()
        workers.until(lambda: workers.done(later) == 3, step_ms=SOON_MS)
    assert handler.lists == [[0, 1], [0], [1], [2, 3, 4]]


def test_with_one_attempt_every_record_of_a_failed_batch_is_tried_alone_once() -> None:
    handler = Lists({1: ValueError("bad")})
    handler.go_on.set()
    clock = ManualClock()
    with working(handler, Rules(max_attempts=1), clock, batch_records=500) as workers:
        workers.deliver(plain(3))
        workers.until(lambda: handler.lists[-1:] == [[2]], step_ms=SOON_MS)
        assert [offset for offset, _ in workers.fallback.taken] == [1]


def test_a_batch_that_is_at_work_may_end_when_its_partition_is_given_up() -> None:
    handler = Lists()
    first, second = plain(3), plain(3, 3)
    with working(handler, batch_records=2) as workers:
        workers.deliver(first)
        workers.until(handler.begun.is_set)
        workers.deliver(second)
        assert workers.sink.forget([first.partition]) == [second]
        handler.go_on.set()
        workers.until(lambda: workers.said and not workers.last(first).goes_on)
    assert workers.done(first) == 2
    assert handler.lists == [[0, 1]]


def test_batches_of_coroutines() -> None:
    lists: list[list[int]] = []

    async def handle(records: list[Record]) -> None:
        await asyncio.sleep(0)
        lists.append([record.offset for record in records])

    run = plain(5, partition=Partition("orders", 1))
    with working(handle, asynchronous=True, batch_records=2) as workers:
        workers.deliver(run)
        workers.until_done(run)
    assert lists == [[0, 1], [2, 3], [4]]
