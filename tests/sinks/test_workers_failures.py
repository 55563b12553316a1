"""What a handler raises: tried again after a back-off, then handed to the fallback."""

from __future__ import annotations

from concurrent.futures import CancelledError
from itertools import pairwise

import pytest

from delayed_consumer.errors import FatalError, MessageError, RetryableError
from delayed_consumer.failures import Kind
from delayed_consumer.sinks.lanes import Turn
from delayed_consumer.sinks.workers import BACK_OFF_MS, LONGEST_BACK_OFF_MS, Rules
from tests.loop.clock import ManualClock
from tests.sinks.handling import BY_KEY, OTHER, SOON_MS, Handler, Working, keyed, plain, working


def attempts_ms(
    workers: Working, handler: Handler, clock: ManualClock, calls: int, step_ms: float = SOON_MS
) -> list[float]:
    """When each of so many calls was made, in steps of the clock."""
    moments: list[float] = []

    def look() -> bool:
        moments.extend([clock.steady_ms()] * (len(handler.records) - len(moments)))
        if handler.at_once == 0:
            clock.advance(step_ms)
        return len(moments) >= calls

    workers.until(look)
    return moments


def test_attempts_are_made_after_a_back_off_that_doubles() -> None:
    clock, handler = ManualClock(), Handler()
    handler.errors[0] += [ValueError("not yet")] * 3
    with working(handler, Rules(max_attempts=4), clock) as workers:
        run = plain(2)
        workers.deliver(run)
        moments = attempts_ms(workers, handler, clock, 4)
        workers.until_done(run)
    assert [record.attempt for record in handler.records] == [1, 2, 3, 4, 1]
    assert handler.offsets == [0, 0, 0, 0, 1]
    for number, (before, after) in enumerate(pairwise(moments[:4])):
        longest = BACK_OFF_MS * 2**number
        assert longest / 2 <= after - before <= longest + 4 * SOON_MS
    assert not workers.fallback.taken


def test_no_back_off_is_longer_than_the_longest() -> None:
    clock, handler = ManualClock(), Handler()
    handler.errors[0] += [ValueError("not yet")] * 9
    with working(handler, Rules(max_attempts=10), clock) as workers:
        workers.deliver(plain(1))
        moments = attempts_ms(workers, handler, clock, 10, step_ms=400)
    assert moments[-1] - moments[-2] <= LONGEST_BACK_OFF_MS + 4 * 400 < BACK_OFF_MS * 2**8 / 2


def test_a_handler_can_ask_for_a_longer_back_off() -> None:
    clock, handler = ManualClock(), Handler()
    handler.errors[0] += [RetryableError("busy", after_seconds=3)]
    with working(handler, clock=clock) as workers:
        workers.deliver(plain(1))
        first, second = attempts_ms(workers, handler, clock, 2)
    assert 3_000 <= second - first <= 3_000 + 4 * SOON_MS


def test_while_a_record_waits_for_its_next_attempt_other_lanes_use_the_worker() -> None:
    handler = Handler()
    handler.errors[0] += [ValueError("not yet")]
    first, other = plain(1), plain(5, 100, OTHER)
    with working(handler, Rules(concurrency=1), ManualClock()) as workers:
        workers.deliver(first, other)
        workers.until_done(other)
        assert workers.done(first) == 0
        assert not workers.fallback.taken


def test_a_key_that_fails_keeps_its_order_and_does_not_stop_the_others() -> None:
    clock, handler = ManualClock(), Handler()
    handler.errors[0] += [ValueError("not yet")]
    run = keyed(b"a", b"b", b"a", b"b")
    with working(handler, BY_KEY, clock) as workers:
        workers.deliver(run)
        workers.until(lambda: sorted(handler.offsets) == [0, 1, 3] and handler.at_once == 0)
        workers.until(lambda: workers.done(run) == 4, step_ms=SOON_MS)
    assert [one for one in handler.offsets if one % 2 == 0] == [0, 0, 2]


def test_what_came_while_a_record_was_handled_waits_until_that_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Turn, "MOST_SPANS", 1)
    clock, handler = ManualClock(), Handler()
    handler.hold(0)
    handler.errors[0] += [ValueError("not yet")]
    first, second = plain(2), plain(2, 2)
    with working(handler, clock=clock) as workers:
        workers.deliver(first)
        workers.until(lambda: handler.at_once == 1)
        workers.deliver(second)
        handler.let_go()
        workers.until(lambda: workers.done(second) == 2, step_ms=SOON_MS)
    assert handler.offsets == [0, 0, 1, 2, 3]


def test_when_attempts_are_used_up_the_fallback_gets_the_record_and_the_lane_goes_on() -> None:
    clock, handler = ManualClock(), Handler()
    handler.errors[1] += [ValueError("bad"), ValueError("worse")]
    run = plain(3)
    with working(handler, Rules(max_attempts=2), clock) as workers:
        workers.deliver(run)
        workers.until(lambda: 2 in handler.offsets, step_ms=SOON_MS)
        workers.until_done(run, 1)
        ((offset, failure),) = workers.fallback.taken
        assert (offset, failure.reason, failure.kind, failure.attempts) == (1, "ValueError: worse", Kind.RETRYABLE, 2)
        assert workers.look() == [], "the record is not out of the way"
        workers.fallback.resolve(1)
        workers.until_done(run)
        last = workers.last(run)
        assert (last.done, list(last.diverted), last.goes_on) == (3, [1], False)
        assert len(workers.begun_ms(run)) == 3
        assert workers.begun_ms(run)[0] < workers.begun_ms(run)[1], "that of its last attempt"


def test_a_record_that_is_resolved_at_once_is_diverted() -> None:
    handler = Handler()
    handler.errors[0] += [MessageError("wrong")]
    run = plain(1)
    with working(handler) as workers:
        workers.fallback.at_once = True
        workers.deliver(run)
        workers.until_done(run)
        assert list(workers.last(run).diverted) == [0]


@pytest.mark.parametrize(("error", "kind"), [(MessageError("no"), Kind.MESSAGE), (FatalError("no"), Kind.FATAL)])
def test_what_cannot_work_later_is_not_tried_again(error: Exception, kind: Kind) -> None:
    handler = Handler()
    handler.errors[0] += [error]
    with working(handler, Rules(max_attempts=5)) as workers:
        workers.deliver(plain(1))
        workers.until(lambda: workers.fallback.taken)
        ((_, failure),) = workers.fallback.taken
    assert (failure.kind, failure.attempts) == (kind, 1)


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), CancelledError(), GeneratorExit(), StopIteration()]
)
def test_whatever_a_handler_raises_is_an_attempt_that_failed(error: BaseException) -> None:
    clock, handler = ManualClock(), Handler()
    handler.errors[0] += [error]
    run = plain(2)
    with working(handler, clock=clock) as workers:
        workers.deliver(run)
        workers.until(lambda: workers.done(run) == 2, step_ms=SOON_MS)
    assert handler.offsets == [0, 0, 1]


def test_an_exception_that_cannot_say_what_it_is_fails_its_record_only() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    handler = Handler()
    handler.errors[0] += [MuteError()]
    with working(handler, Rules(max_attempts=1)) as workers:
        workers.deliver(plain(1))
        workers.until(lambda: workers.fallback.taken)
        assert workers.fallback.taken[0][1].reason == "MuteError"


def test_a_record_that_stops_the_service_is_named_though_others_before_it_are_not_done() -> None:
    handler = Handler()
    handler.hold(0)
    handler.errors[2] += [FatalError("no database")]
    run = keyed(b"a", b"b", b"c", b"c")
    with working(handler, BY_KEY) as workers:
        workers.fallback.stops = True
        workers.deliver(run)
        workers.until(lambda: workers.said and workers.said[-1].failure)
        last = workers.last(run)
        assert (last.done, last.failed, last.failure, last.goes_on) == (0, 2, "FatalError: no database", True)
        handler.let_go()
        workers.until_done(run, 2)
    assert 3 not in handler.offsets, "its lane is stopped"


def test_a_record_that_waits_for_its_next_attempt_ends_with_its_partition() -> None:
    handler = Handler()
    handler.errors[1] += [ValueError("not yet")]
    run = plain(3)
    clock = ManualClock()
    with working(handler, clock=clock) as workers:
        workers.deliver(run)
        workers.until(lambda: 1 in handler.offsets and handler.at_once == 0)
        workers.until_done(run, 1)
        assert workers.sink.forget([run.partition]) == []
        workers.until(lambda: not workers.last(run).goes_on)
        assert (workers.last(run).done, workers.last(run).failure) == (1, None)
        clock.advance(60_000)
        workers.look()
    assert handler.offsets == [0, 1]


def test_a_record_with_the_fallback_may_still_be_resolved_when_its_partition_is_given_up() -> None:
    handler = Handler()
    handler.errors[0] += [MessageError("wrong")]
    run = plain(1)
    with working(handler) as workers:
        workers.deliver(run)
        workers.until(lambda: workers.fallback.taken)
        assert workers.sink.forget([run.partition]) == []
        assert workers.look() == []
        workers.fallback.resolve(0)
        workers.until_done(run)
        assert not workers.last(run).goes_on
