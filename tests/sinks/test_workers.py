"""Handlers on worker threads: what runs side by side, what stays in order and what is reported."""

from __future__ import annotations

import threading
import time

from delayed_consumer.core.records import Partition
from delayed_consumer.origin import Origins
from delayed_consumer.record import Record
from delayed_consumer.sinks.workers import Rules, Workers
from tests.loop.clock import START_MS, ManualClock
from tests.sinks.handling import BY_KEY, OTHER, Handler, Taking, keyed, plain, working
from tests.sinks.making import TIMESTAMP_MS, Headers, message, run_of


def test_a_record_has_what_came_from_kafka() -> None:
    handler = Handler()
    clock = ManualClock()
    run = run_of(message(b"value", b"key", [("a", b"1"), ("a", None)]), message(None), first_offset=7)
    with working(handler, clock=clock) as workers:
        workers.deliver(run)
        workers.until_done(run)
    late_ms = START_MS - TIMESTAMP_MS
    pairs = [("a", b"1"), ("a", None)]
    assert handler.records == [
        Record("orders", 3, 7, TIMESTAMP_MS, TIMESTAMP_MS, max(0.0, late_ms), b"key", b"value", pairs, 1),
        Record("orders", 3, 8, TIMESTAMP_MS, TIMESTAMP_MS, max(0.0, late_ms), None, None, [], 1),
    ]
    assert all(type(record) is Record for record in handler.records)


def test_a_handler_that_changes_the_headers_does_not_change_those_of_a_dead_letter() -> None:
    run = run_of(message(headers=[("a", b"1")]))
    with working(lambda record: record.headers.append(("b", b"2"))) as workers:
        workers.deliver(run)
        workers.until_done(run)
    assert run.messages[0].headers() == [("a", b"1")]


def test_lateness_is_never_negative() -> None:
    handler = Handler()
    clock = ManualClock()
    clock.set_by(TIMESTAMP_MS - START_MS - 60_000.0)
    run = plain(1)
    with working(handler, clock=clock) as workers:
        workers.deliver(run)
        workers.until_done(run)
    assert handler.records[0].lateness_ms == 0


def test_a_record_of_a_retry_topic_has_the_coordinates_that_it_had_at_first() -> None:
    origin: Headers = [
        *[("own", b"1"), ("delayed-consumer.topic", b"orders"), ("delayed-consumer.partition", b"9")],
        *[("delayed-consumer.offset", b"41"), ("delayed-consumer.timestamp", b"123")],
        *[("delayed-consumer.error", b"broken"), ("delayed-consumer.attempts", b"3")],
    ]
    handler = Handler()
    handler.errors[41].append(ValueError("again"))
    clock = ManualClock()
    run = run_of(message(headers=origin), partition=Partition("group.retry.1", 0))
    with working(handler, Rules(origins=Origins(["group.retry.1"])), clock) as workers:
        workers.deliver(run)
        workers.until(lambda: workers.done(run), step_ms=100)
    assert [one[:4] for one in handler.records] == [("orders", 9, 41, 123)] * 2
    assert [one.headers for one in handler.records] == [[("own", b"1")]] * 2
    assert [one.attempt for one in handler.records] == [4, 5]


def test_partitions_are_handled_side_by_side_and_each_in_order() -> None:
    handler = Handler()
    handler.hold(0)
    first, second, other = plain(3), plain(3, 3), plain(3, 100, OTHER)
    with working(handler) as workers:
        workers.deliver(first, second, other)
        workers.until_done(other)
        assert workers.done(first) == 0
        handler.let_go(0)
        workers.until_done(second)
    assert [one for one in handler.offsets if one < 100] == list(range(6))


def test_keys_are_handled_side_by_side_and_each_in_order() -> None:
    handler = Handler()
    handler.hold(0)
    run = keyed(b"a", b"b", b"a", b"b", None, None)
    with working(handler, BY_KEY) as workers:
        workers.deliver(run)
        workers.until(lambda: len(handler.records) == 5)
        assert workers.done(run) == 0, "the first one is not"
        assert 2 not in handler.offsets, "it has the key of the first one"
        handler.let_go(0)
        workers.until_done(run)


def test_records_without_a_key_do_not_wait_for_each_other() -> None:
    handler = Handler()
    handler.hold(0, 1, 2)
    run = keyed(None, None, None)
    with working(handler, BY_KEY) as workers:
        workers.deliver(run)
        workers.until(lambda: handler.at_once == 3)


def test_without_an_order_every_record_is_handled_beside_the_others() -> None:
    handler = Handler()
    handler.hold(0)
    run = keyed(b"a", b"a", b"a")
    with working(handler, Rules("none", concurrency=2)) as workers:
        workers.deliver(run)
        workers.until(lambda: sorted(handler.offsets) == [0, 1, 2])
        assert workers.done(run) == 0
        handler.let_go()
        workers.until_done(run)


def test_without_a_concurrency_a_partition_has_one_worker_whatever_the_ordering() -> None:
    handler = Handler()
    run = plain(200)
    with working(handler, Rules("none")) as workers:
        workers.deliver(run)
        workers.until_done(run)
    assert handler.most_at_once == 1
    assert handler.offsets == list(range(200))


def test_no_more_records_are_handled_at_once_than_the_concurrency_says() -> None:
    handler = Handler()
    handler.hold(*range(100))
    runs = [plain(1, number, Partition("orders", number)) for number in range(20)]
    with working(handler, Rules(concurrency=3)) as workers:
        workers.deliver(*runs)
        workers.until(lambda: handler.at_once == 3)
        handler.let_go()
        for run in runs:
            workers.until_done(run)
    assert handler.most_at_once == 3


def test_keys_keep_all_workers_busy() -> None:
    def handle(_: Record) -> None:
        time.sleep(0.02)

    run = keyed(*[b"%d" % (number % 100) for number in range(400)])
    with working(handle, Rules("key", concurrency=16)) as workers:
        begun = time.monotonic()
        workers.deliver(run)
        workers.until_done(run)
    assert time.monotonic() - begun < 4, "one after the other it takes 8 s, at best 0.5 s"


def test_a_key_with_much_to_do_does_not_keep_the_worker_from_the_others() -> None:
    done = threading.Event()

    def handle(record: Record) -> None:
        if record.key == b"few":
            done.set()
        elif not done.is_set():
            time.sleep(0.02)

    run = keyed(*[b"many"] * 1_000, b"few")
    with working(handle, Rules("key", concurrency=1)) as workers:
        workers.deliver(run)
        workers.until(done.is_set)
        assert workers.done(run) < 900
        workers.until_done(run)


def test_what_is_done_behind_an_unfinished_record_is_not_reported() -> None:
    handler = Handler()
    handler.hold(1)
    run = keyed(b"a", b"b", b"c", b"d")
    with working(handler, BY_KEY) as workers:
        workers.deliver(run)
        workers.until(lambda: sorted(handler.offsets) == [0, 1, 2, 3] and handler.at_once == 1)
        workers.until_done(run, 1)
        assert workers.look() == []
        assert (workers.last(run).done, workers.last(run).goes_on) == (1, True)
        handler.let_go()
        workers.until_done(run)
        assert not workers.last(run).goes_on


def test_progress_is_reported_while_a_run_goes_on() -> None:
    handler = Handler()
    handler.hold(2)
    run = plain(4)
    with working(handler) as workers:
        workers.deliver(run)
        workers.until_done(run, 2)
        assert (workers.last(run).done, workers.last(run).goes_on) == (2, True)


def test_every_record_says_when_its_call_began() -> None:
    clock = ManualClock()
    handler = Handler()
    handler.hold(0, 1, 2)
    run = plain(3)
    with working(handler, clock=clock) as workers:
        workers.deliver(run)
        for number in range(3):
            workers.until(lambda: handler.at_once == 1 and handler.offsets[-1] == number)  # noqa: B023 - called at once
            clock.advance(50)
            handler.let_go(number)
        workers.until_done(run)
        assert workers.begun_ms(run) == [START_MS, START_MS + 50, START_MS + 100]


def test_what_comes_while_a_lane_is_worked_is_taken_without_a_look_of_the_loop() -> None:
    handler = Handler()
    handler.hold(0)
    with working(handler) as workers:
        workers.deliver(plain(1))
        workers.until(lambda: handler.at_once == 1)
        workers.deliver(plain(1, 1), plain(1, 2))
        handler.let_go()
        deadline = time.monotonic() + 20
        while len(handler.records) < 3 and time.monotonic() < deadline:
            time.sleep(0.001)
        assert handler.offsets == [0, 1, 2]


def test_a_lane_that_is_idle_goes_on_at_once() -> None:
    handler = Handler()
    with working(handler) as workers:
        for number in range(50):
            workers.deliver(plain(1, number))
            deadline = time.monotonic() + 20
            while len(handler.records) <= number and time.monotonic() < deadline:
                time.sleep(0.0001)
            time.sleep(0.001)  # its turn is over; nobody has looked
        assert handler.offsets == list(range(50))


def test_a_worker_that_was_given_something_has_the_interpreter_before_its_outcome_is_looked_at() -> None:
    """Once for all that was handed over at a time; it would begin when the loop has to wait, which is later."""
    clock = ManualClock()
    sink = Workers(lambda _: None, Rules(), Taking(), clock)
    sink.outcomes()
    assert clock.gave_way == 0
    sink.deliver(plain(3), START_MS)
    sink.deliver(plain(3, partition=OTHER), START_MS)
    sink.outcomes()
    sink.outcomes()
    assert clock.gave_way == 1
    sink.close()
