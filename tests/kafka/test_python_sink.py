"""SINK=python: what a stop, a hanging handler and a rebalance do to calls that are under way; order by key."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby, pairwise
from pathlib import Path

import pytest

from tests.conftest import Kafka, ServiceStarter
from tests.support.calls import Call, Handled
from tests.support.groups import describe
from tests.support.topics import Record, Topic, committed, create_topic, now_ms
from tests.support.wait import wait_until

WORKERS = 16
FAST_REBALANCES = {"KAFKA_CONF_HEARTBEAT_INTERVAL_MS": 500}


@pytest.fixture
def handled(tmp_path: Path) -> Handled:
    return Handled(tmp_path)


def commands(*values: str, key: str | None = None, partition: int = 0) -> list[Record]:
    """Records that say what their handler does; due a second ago."""
    at_ms = now_ms() - 1000
    return [Record(at_ms, one.encode(), None if key is None else key.encode(), partition=partition) for one in values]


# A stop


@pytest.mark.parametrize("handler", ["obey", "obey_async"])
def test_a_stop_lets_the_call_in_flight_end_and_nothing_is_repeated(
    kafka: Kafka, start: ServiceStarter, handled: Handled, handler: str
) -> None:
    topic = create_topic(kafka.bootstrap)
    topic.produce(*commands("ok", "sleep 1", "ok", "ok"))
    service = start(topic, DELAY_SECONDS=0, **handled.by(handler))
    service.wait_until(lambda: len(handled.calls()) == 2)
    service.stop()
    assert service.events("stopped")[0]["abandoned_in_flight"] == 0
    assert describe(kafka.bootstrap, topic.name).members == frozenset()
    assert handled.offsets() == [0, 1]
    assert committed(topic) == {0: 2}
    again = start(topic, DELAY_SECONDS=0, **handled.by(handler))
    again.wait_until(lambda: len(handled.offsets()) == 4)
    again.stop()
    assert handled.offsets() == [0, 1, 2, 3]


def test_a_stop_repeats_nothing_of_what_finished_out_of_order(
    kafka: Kafka, start: ServiceStarter, handled: Handled
) -> None:
    topic = create_topic(kafka.bootstrap)
    slow, fast = commands(*["sleep 0.5"] * 4, key="slow"), commands(*["ok"] * 40, key="fast")
    topic.produce(*slow, *fast)
    by_key = {"ORDERING": "key", "SINK_CONCURRENCY": 2, **handled.by("obey")}
    service = start(topic, DELAY_SECONDS=0, **by_key)
    service.wait_until(lambda: set(range(4, 44)) <= set(handled.offsets()))
    service.stop()
    assert committed(topic) == {0: 44}
    assert Counter(handled.offsets()) == Counter(range(44))


@pytest.mark.parametrize("handler", ["obey", "obey_async"])
def test_a_call_that_outlasts_the_grace_is_abandoned_and_its_record_is_left_to_the_next_life(
    kafka: Kafka, start: ServiceStarter, handled: Handled, handler: str
) -> None:
    topic = create_topic(kafka.bootstrap)
    topic.produce(*commands("ok", "hang", "ok"))
    service = start(topic, DELAY_SECONDS=0, SHUTDOWN_GRACE_SECONDS=1, **handled.by(handler))
    service.wait_until(lambda: len(handled.calls()) == 2)
    assert 1 <= service.stop() < 10
    assert service.events("stopped")[0]["abandoned_in_flight"] > 0
    assert describe(kafka.bootstrap, topic.name).members == frozenset()
    assert committed(topic) == {0: 1}
    handled.open_gate()
    again = start(topic, DELAY_SECONDS=0, **handled.by(handler))
    again.wait_until(lambda: handled.offsets() == [0, 1, 2])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once_though_a_call_hangs(
    kafka: Kafka, start: ServiceStarter, handled: Handled, number: signal.Signals
) -> None:
    topic = create_topic(kafka.bootstrap)
    topic.produce(*commands("hang"))
    service = start(topic, DELAY_SECONDS=0, SHUTDOWN_GRACE_SECONDS=600, **handled.by("obey"))
    service.wait_until(handled.calls)
    service.signal(signal.SIGTERM)
    service.wait_for_event("stopping")
    service.signal(number)
    assert service.wait_for_exit(5) == 128 + number


# A call that hangs


@pytest.mark.parametrize("handler", ["obey", "obey_async"])
def test_a_call_that_hangs_blocks_its_own_partition_and_nothing_else(
    kafka: Kafka, start: ServiceStarter, handled: Handled, handler: str
) -> None:
    """For longer than the session and the poll timeout."""
    topic = create_topic(kafka.bootstrap, 2)
    topic.produce(*commands("hang", "ok"))
    limits = dict.fromkeys(("KAFKA_CONF_SESSION_TIMEOUT_MS", "KAFKA_CONF_MAX_POLL_INTERVAL_MS"), 3000)
    service = start(topic, DELAY_SECONDS=1, KAFKA_CONF_HEARTBEAT_INTERVAL_MS=300, **limits, **handled.by(handler))
    service.wait_until(handled.calls)
    members = describe(kafka.bootstrap, topic.name).members
    at_ms = now_ms()
    others = [Record(at_ms + 20 * number, b"ok", partition=1) for number in range(150)]
    topic.produce(*others)
    service.wait_until(lambda: len(handled.offsets(1)) == len(others))
    assert handled.offsets(0) == []
    assert service.partitions()[0]["state"] == "blocked"
    assert service.partitions()[0]["in_flight"] > 0
    assert max(call.record.lateness_ms for call in handled.returned(1)) < 2000
    assert now_ms() - handled.calls()[0].begun_ms > 3000
    counts = {event: service.metric("rebalances_total", event=event) for event in ("assigned", "revoked", "lost")}
    assert counts == {"assigned": 1, "revoked": 0, "lost": 0}
    assert describe(kafka.bootstrap, topic.name).members == members
    handled.open_gate()
    service.wait_until(lambda: handled.offsets(0) == [0, 1])
    service.stop()
    assert committed(topic) == {0: 2, 1: len(others)}


def test_a_key_that_hangs_blocks_no_other_key_of_its_partition(
    kafka: Kafka, start: ServiceStarter, handled: Handled
) -> None:
    topic = create_topic(kafka.bootstrap)
    hanging = [*commands("ok", key="stuck"), *commands("hang", "ok", key="stuck")]
    others = [record for number in range(40) for record in commands("ok", key=f"key-{number % 10}")]
    topic.produce(*hanging[:2], *others[:20], hanging[2], *others[20:])
    service = start(topic, DELAY_SECONDS=0, **by_key(4), COMMIT_INTERVAL_SECONDS=0.2, **handled.by("obey"))
    service.wait_until(lambda: len(handled.offsets()) == 41)
    assert 22 not in handled.offsets(), "the key's next record overtook the one that hangs"
    wait_until(lambda: committed(topic) == {0: 1}, what="commit of what is before the call that hangs")
    service.wait_until(lambda: service.partitions()[0]["state"] == "blocked")
    handled.open_gate()
    service.wait_until(lambda: len(handled.offsets()) == 43)
    service.stop()
    assert Counter(handled.offsets()) == Counter(range(43)), "what had finished behind it was repeated"
    assert committed(topic) == {0: 43}


def test_behind_a_key_that_hangs_no_more_is_handled_than_a_crash_may_repeat(
    kafka: Kafka, start: ServiceStarter, handled: Handled
) -> None:
    topic = create_topic(kafka.bootstrap)
    others = [Record(now_ms() - 1000, b"ok", b"key-%d" % (number % 100)) for number in range(12_000)]
    topic.produce(*commands("hang", key="stuck"), *others)
    service = start(topic, DELAY_SECONDS=0, **by_key(4), **handled.by("obey"))
    service.wait_until(lambda: service.partitions().get(0, {}).get("position") == 12_001)
    service.wait_until(lambda: service.partitions()[0]["state"] == "blocked")
    held = service.wait_until(lambda: unchanged(lambda: service.partitions()[0]["held"]))
    assert 1_500 <= held <= 2_001
    assert max(handled.offsets()) < 12_001 - held
    handled.open_gate()
    service.wait_until(lambda: service.partitions()[0]["overdue"] == 0)
    service.stop()
    assert committed(topic)[0] == 12_001
    assert len(handled.offsets()) == 12_001


def unchanged(value: Callable[[], int], seconds: float = 0.5) -> int | None:
    """The value, once it has been the same for so long."""
    before = value()
    time.sleep(seconds)
    return before if value() == before else None


@pytest.mark.parametrize("handler", ["obey", "obey_async"])
def test_a_call_that_outlasts_the_sink_timeout_counts_as_failed(
    kafka: Kafka, start: ServiceStarter, handled: Handled, handler: str
) -> None:
    topic = create_topic(kafka.bootstrap)
    topic.produce(*commands("ok", "hang", "ok"))
    limits = {"SINK_TIMEOUT_SECONDS": 0.5, "MAX_ATTEMPTS": 1}
    service = start(topic, DELAY_SECONDS=0, ON_FAILURE="skip", **limits, **handled.by(handler))
    service.wait_until(lambda: handled.offsets() == [0, 2])
    [skipped] = service.events("skipped")
    assert skipped["offset"] == 1
    service.stop()
    assert committed(topic) == {0: 3}


# Order by key


def by_key(workers: int = WORKERS) -> dict[str, object]:
    return {"ORDERING": "key", "SINK_CONCURRENCY": workers}


@pytest.mark.parametrize("handler", ["obey", "obey_async"])
def test_the_keys_of_one_partition_are_handled_side_by_side_and_each_key_in_order(
    kafka: Kafka, start: ServiceStarter, handled: Handled, dice: random.Random, handler: str
) -> None:
    topic = create_topic(kafka.bootstrap)
    count, keys = 800, 100
    topic.produce(*(commands("sleep 0.02", key=f"key-{dice.randrange(keys)}")[0] for _ in range(count)))
    service = start(topic, DELAY_SECONDS=0, **by_key(), **handled.by(handler))
    service.wait_until(lambda: len(handled.returned()) == count)
    calls = handled.returned()
    busy_ms = sum(call.ended_ms - call.begun_ms for call in calls)
    lasted_ms = max(call.ended_ms for call in calls) - calls[0].begun_ms
    assert busy_ms / lasted_ms >= 0.3 * WORKERS
    assert_ordered_by_key(topic, calls)
    service.stop()
    assert committed(topic) == {0: count}


def test_the_order_of_a_key_holds_through_retries_and_rebalances(
    kafka: Kafka, start: ServiceStarter, handled: Handled, dice: random.Random
) -> None:
    """Records fail now and then, and a second member comes and goes."""
    topic = create_topic(kafka.bootstrap, 4)
    count = 900
    first_ms = now_ms()
    topic.produce(
        *(
            Record(
                first_ms + 8 * number,
                b"fail %d" % dice.choice([1, 2]) if dice.random() < 0.05 else b"sleep 0.02",
                b"key-%d" % dice.randrange(12),
                partition=number % 4,
            )
            for number in range(count)
        )
    )
    settings = {"DELAY_SECONDS": 2, **by_key(8), **FAST_REBALANCES, **handled.by("obey")}
    one = start(topic, **settings)
    one.wait_until(lambda: len(handled.returned()) >= 50)
    other = start(topic, **settings)
    other.wait_until(lambda: len(handled.calls(lambda call: call.process == other.pid)) >= 50)
    other.stop()
    one.wait_until(lambda: handled_offsets(handled.returned()) == topic.records.keys())
    one.stop()
    assert committed(topic) == dict.fromkeys(range(4), count // 4)
    assert_ordered_by_key(topic, handled.calls())
    assert {call.end for call in handled.calls()} == {"returned", "raised RuntimeError"}


def handled_offsets(calls: Iterable[Call]) -> set[tuple[int, int]]:
    return {(call.record.partition, call.record.offset) for call in calls}


def assert_ordered_by_key(topic: Topic, calls: Sequence[Call]) -> None:
    """No key overtakes itself, under whatever owner; within one ownership nothing that returned is called again."""
    for number in range(topic.partitions):
        of_partition = [call for call in calls if call.record.partition == number]
        before: set[int] = set()
        for _, owned in groupby(of_partition, key=lambda call: call.process):
            by_key = defaultdict[bytes | None, list[Call]](list)
            for call in owned:
                by_key[call.record.key].append(call)
            for ordered in by_key.values():
                assert_one_after_the_other(topic, ordered, before)
            before |= {call.record.offset for ordered in by_key.values() for call in ordered if call.returned}


def assert_one_after_the_other(topic: Topic, calls: Sequence[Call], before: set[int]) -> None:
    """The calls of one key in one ownership: each record until it returned, then the next, from one not done on."""
    for call, following in pairwise(calls):
        assert call.ended_ms <= following.begun_ms, f"side by side: {call} and {following}"
    returned = [call.record.offset for call in calls if call.returned]
    assert returned == sorted(set(returned)), f"out of order or repeated: {returned}"
    key, number = calls[0].record.key, calls[0].record.partition
    all_of_key = [offset for (partition, offset), one in topic.records.items() if (partition, one.key) == (number, key)]
    passed_over = [one for one in all_of_key if one < calls[-1].record.offset and one not in {*returned, *before}]
    assert not passed_over, f"{key!r} passed over {passed_over}"
