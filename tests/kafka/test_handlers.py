"""What a handler of SINK=python gets, and what becomes of a record whose handler fails."""

from __future__ import annotations

import socket
from itertools import pairwise
from pathlib import Path

import pytest

from tests.conftest import Kafka, ServiceStarter
from tests.kafka.test_delivery import content, mixed_payloads
from tests.support.calls import Handled
from tests.support.service import ServiceProcess
from tests.support.topics import Record, Topic, committed, create_topic, now_ms
from tests.support.wait import wait_until

HANDLERS = ["obey", "obey_async", "obey_sevens", "obey_batch_async"]


@pytest.fixture
def handled(tmp_path: Path) -> Handled:
    return Handled(tmp_path)


def commands(*values: str, partition: int = 0) -> list[Record]:
    """Records that say what their handler does; due a second ago."""
    at_ms = now_ms() - 1000
    return [Record(at_ms, value.encode(), partition=partition) for value in values]


# What arrives


@pytest.mark.parametrize("handler", HANDLERS)
def test_every_kind_of_handler_gets_the_records_as_they_were_produced(
    kafka: Kafka, start: ServiceStarter, handled: Handled, handler: str
) -> None:
    """Tombstones, null keys, 1,000 headers, names that occur twice, bytes that decode as nothing."""
    topic = create_topic(kafka.bootstrap)
    produced = mixed_payloads(now_ms())
    topic.produce(*produced, message_max_bytes=2_000_000)
    service = start(topic, DELAY_SECONDS=1, **handled.by(handler))
    service.wait_until(lambda: len(handled.offsets()) == len(produced))
    records = [record for call in handled.calls() for record in call.records]
    assert [(one.key, one.value, one.headers) for one in records] == [content(one) for one in produced]
    assert [one[:4] for one in records] == [
        (topic.name, 0, offset, one.timestamp_ms) for offset, one in enumerate(produced)
    ]
    assert [one.due_ms for one in records] == [one.timestamp_ms + 1000 for one in produced]
    assert all(one.lateness_ms >= 0 and one.attempt == 1 for one in records)
    assert all(call.begun_ms >= max(one.due_ms for one in call.records) for call in handled.calls()), "early"
    assert service.records == [], "stdout is not the handler's"


@pytest.mark.parametrize("handler", ["obey_sevens", "obey_batch_async"])
def test_a_batch_is_the_due_records_of_one_partition_in_order_and_no_more_than_it_may_have(
    kafka: Kafka, start: ServiceStarter, handled: Handled, handler: str
) -> None:
    topic = create_topic(kafka.bootstrap, 3)
    at_ms = now_ms()
    topic.produce(*(Record(at_ms - number % 2, b"ok", partition=number % 3) for number in range(90)))
    start(topic, DELAY_SECONDS=1, **handled.by(handler))
    wait_until(lambda: sum(len(handled.offsets(number)) for number in range(3)) == 90)
    calls = handled.calls()
    assert all(len({one.partition for one in call.records}) == 1 for call in calls)
    assert [handled.offsets(number) for number in range(3)] == [list(range(30))] * 3
    assert max(len(call.records) for call in calls) > 1
    if handler == "obey_sevens":
        assert max(len(call.records) for call in calls) <= 7


def test_async_handlers_run_side_by_side_and_each_partition_in_order(
    kafka: Kafka, start: ServiceStarter, handled: Handled
) -> None:
    topic = create_topic(kafka.bootstrap, 6)
    for number in range(6):
        topic.produce(*commands(*["sleep 0.2"] * 3, partition=number))
    service = start(topic, DELAY_SECONDS=0, **handled.by("obey_async"))
    wait_until(lambda: len(handled.returned()) == 18)
    assert at_once(handled) >= 3
    for number in range(6):
        calls = handled.returned(number)
        assert [call.record.offset for call in calls] == [0, 1, 2]
        assert all(before.ended_ms <= after.begun_ms for before, after in pairwise(calls))
    service.stop()
    assert committed(topic) == dict.fromkeys(range(6), 3)


def at_once(handled: Handled) -> int:
    """The most calls that went on at the same time."""
    calls = handled.returned()
    return max(sum(one.begun_ms <= other.begun_ms < one.ended_ms for one in calls) for other in calls)


# What fails


def test_a_record_that_fails_is_tried_again_before_the_next_one(
    kafka: Kafka, start: ServiceStarter, handled: Handled
) -> None:
    topic = create_topic(kafka.bootstrap)
    topic.produce(*commands("ok", "fail 2", "ok"))
    service = start(topic, DELAY_SECONDS=0, **handled.by("obey"))
    wait_until(lambda: handled.offsets() == [0, 1, 2])
    assert [(call.record.offset, call.record.attempt) for call in handled.calls()] == [
        *((0, 1), (1, 1), (1, 2), (1, 3)),
        (2, 1),
    ]
    service.stop()
    assert committed(topic) == {0: 3}


@pytest.mark.parametrize("handler", ["obey_sevens", "obey_batch_async"])
def test_a_record_that_fails_does_not_take_the_others_of_its_batch_with_it(
    kafka: Kafka, start: ServiceStarter, handled: Handled, handler: str
) -> None:
    topic = create_topic(kafka.bootstrap)
    topic.produce(*commands("ok", "ok", "raise ValueError", "fail 1", "ok"))
    service = start(topic, DELAY_SECONDS=0, MAX_ATTEMPTS=2, ON_FAILURE="skip", **handled.by(handler))
    service.wait_until(lambda: handled.offsets() == [0, 1, 3, 4])
    [skipped] = service.events("skipped")
    assert skipped["offset"] == 2
    calls = [(one.attempt, len(call.records)) for call in handled.calls() for one in call.records if one.offset == 2]
    assert [attempt for attempt, _ in calls] == [1, 2]
    assert calls[-1] == (2, 1), "it was tried again alone"
    service.stop()
    assert committed(topic) == {0: 5}


# By the command: the attempts that it gets, and a part of the reason.
FAILURES = {
    "raise ValueError": (2, "ValueError: as the record said"),
    "raise SystemExit": (2, "SystemExit"),
    "raise KeyboardInterrupt": (2, "KeyboardInterrupt"),
    "raise RetryableError": (2, "RetryableError"),
    "raise MessageError": (1, "MessageError"),
    "raise FatalError": (1, "FatalError"),
}


@pytest.mark.parametrize("handler", ["obey", "obey_async"])
def test_a_handler_that_fails_for_good_ends_the_service_and_nothing_is_committed_past_the_record(
    kafka: Kafka, start: ServiceStarter, tmp_path: Path, handler: str
) -> None:
    """All side by side: each a service of its own."""
    services: dict[str, tuple[Topic, ServiceProcess, Handled]] = {}
    for number, command in enumerate(FAILURES):
        directory = tmp_path / str(number)
        directory.mkdir()
        topic, handled = create_topic(kafka.bootstrap), Handled(directory)
        topic.produce(*commands("ok", command, "ok"))
        services[command] = topic, start(topic, DELAY_SECONDS=0, MAX_ATTEMPTS=2, **handled.by(handler)), handled
    for command, (topic, service, handled) in services.items():
        attempts, reason = FAILURES[command]
        assert service.wait_for_exit() == 1
        last = service.events("failed")[-1]["message"]
        assert f"{topic.name}[0] offset 1: " in last
        assert reason in last
        assert [call.record.offset for call in handled.calls()] == [0, *[1] * attempts], command
        assert committed(topic)[0] == 1


def test_on_failure_skip_counts_what_it_gives_up_and_goes_on(
    kafka: Kafka, start: ServiceStarter, handled: Handled
) -> None:
    topic = create_topic(kafka.bootstrap, 2)
    topic.produce(*commands("ok", "raise ValueError", "raise SystemExit", "raise MessageError", "ok"))
    topic.produce(*commands("ok", "ok", partition=1))
    service = start(topic, DELAY_SECONDS=0, MAX_ATTEMPTS=2, ON_FAILURE="skip", **handled.by("obey"))
    service.wait_until(lambda: (handled.offsets(0), handled.offsets(1)) == ([0, 4], [0, 1]))
    attempts = [call.record.attempt for call in handled.calls() if call.end == "raised ValueError"]
    assert attempts == [1, 2]
    service.wait_until(lambda: service.metric("delivered_total") == 4)
    assert service.metric("skipped_total") == service.metric("failed_total") == 3
    assert [(one["topic"], one["partition"], one["offset"]) for one in service.events("skipped")] == [
        (topic.name, 0, offset) for offset in (1, 2, 3)
    ]
    service.stop()
    assert committed(topic) == {0: 5, 1: 2}


def test_a_fatal_error_stops_the_service_whatever_on_failure_says(
    kafka: Kafka, start: ServiceStarter, handled: Handled
) -> None:
    topic = create_topic(kafka.bootstrap)
    topic.produce(*commands("raise FatalError", "ok"))
    service = start(topic, DELAY_SECONDS=0, ON_FAILURE="skip", **handled.by("obey"))
    assert service.wait_for_exit() == 1
    assert len(handled.calls()) == 1
    assert not committed(topic)[0]


# By the handler: a part of the reason.
NO_HANDLERS = {
    "tests.support.no_such_module:handle": "no_such_module",
    "tests.support.handlers:no_such_function": "no_such_function",
    "tests.support.handlers:not_a_function": "not_a_function",
    "tests.support.broken_handlers:handle": "ZeroDivisionError",
}


def test_a_handler_that_cannot_be_imported_is_a_bad_setting_and_nothing_is_connected(start: ServiceStarter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        nobody.setblocking(False)
        topic = Topic(f"127.0.0.1:{nobody.getsockname()[1]}", "topic", 1)
        services = {name: start(topic, SINK="python", SINK_HANDLER=name) for name in NO_HANDLERS}
        for name, service in services.items():
            assert service.wait_for_exit(20) == 78, name
            [reason] = service.events("failed")
            assert "SINK_HANDLER" in reason["message"]
            assert NO_HANDLERS[name] in reason["message"]
        with pytest.raises(BlockingIOError):
            nobody.accept()
