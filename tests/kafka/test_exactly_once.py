"""DELIVERY=exactly-once: whoever reads committed records of the target sees each one once, whatever happens."""

from __future__ import annotations

import random
import signal
from collections.abc import Mapping

import pytest
from confluent_kafka import Message, Producer

from load.broker import Broker
from tests.conftest import Kafka, ServiceStarter
from tests.support.open_transactions import freeze_within_transaction, held_back
from tests.support.proxy import END_TXN, INVALID_PRODUCER_EPOCH, PRODUCER_FENCED, TXN_OFFSET_COMMIT, proxied_broker
from tests.support.service import ServiceProcess
from tests.support.settings import SHORT_SESSION
from tests.support.topics import Record, Topic, committed, create_topic, now_ms, read_all
from tests.support.wait import wait_until

PARTITIONS = 4
SHORT_TRANSACTIONS = {"KAFKA_CONF_TRANSACTION_TIMEOUT_MS": 6_000}
Place = tuple[int, int]


def exactly_once(target: Topic, **settings: object) -> Mapping[str, object]:
    return {"DELAY_SECONDS": 1, "DELIVERY": "exactly-once", "SINK": "topic", "SINK_TOPIC": target.name, **settings}


def steady_topic(bootstrap: str, seconds: float, partitions: int = PARTITIONS) -> Topic:
    """One record every 2 ms from now on, all written at once with their later timestamps."""
    topic = create_topic(bootstrap, partitions)
    first_ms = now_ms()
    count = round(500 * seconds)
    topic.produce(*(Record(first_ms + 2 * number, partition=number % partitions) for number in range(count)))
    return topic


def place(message: Message) -> Place:
    """Where a relayed record comes from."""
    headers = dict(message.headers() or ())
    return int(headers["delayed-consumer.partition"] or b""), int(headers["delayed-consumer.offset"] or b"")


def places(target: Topic, count: int, idle_seconds: float = 20) -> list[Place]:
    """Of what is visible in the target; one more than ``count`` is waited for, for a moment."""
    seen = [place(message) for message in read_all(target, count, idle_seconds)]
    return seen + [place(message) for message in read_all(target, count + 1, 1)[count:]]


def assert_each_once(topic: Topic, target: Topic) -> None:
    """Each record once, and those of a partition in order: none is keyed, so partitions stay together."""
    seen = places(target, len(topic.records))
    assert sorted(seen) == sorted(topic.records)
    for number in range(topic.partitions):
        offsets = [offset for partition, offset in seen if partition == number]
        assert offsets == sorted(offsets)


def uncommitted(target: Topic) -> int:
    """How many records there are for those who read also what was aborted."""
    return len(read_all(target, 1_000_000, 1, "read_uncommitted"))


def delivered(*services: ServiceProcess) -> float:
    return sum(service.metric("delivered_total") for service in services)


def ends(topic: Topic) -> dict[int, int | None]:
    return {
        number: max(offset for one, offset in topic.records if one == number) + 1 for number in range(topic.partitions)
    }


def test_every_record_arrives_once_and_is_committed_with_its_offset(kafka: Kafka, start: ServiceStarter) -> None:
    topic, target = steady_topic(kafka.bootstrap, 3), create_topic(kafka.bootstrap, PARTITIONS)
    service = start(topic, **exactly_once(target))
    service.wait_until(lambda: delivered(service) == len(topic.records))
    assert service.metric("commits_total", result="ok") < len(topic.records) / 2, "records share transactions"
    service.wait_until(
        lambda: {number: one["committed"] for number, one in service.partitions().items()} == ends(topic)
    )
    assert committed(topic) == ends(topic)
    service.stop()
    assert_each_once(topic, target)
    [event] = service.events("transactional_id")
    assert event["transactional_id"].startswith(f"{topic.name}.")


def test_stops_and_kills_neither_lose_nor_repeat(kafka: Kafka, start: ServiceStarter, dice: random.Random) -> None:
    """With an instance id, so that a restart goes on at once; every other life is killed."""
    topic, target = steady_topic(kafka.bootstrap, 8), create_topic(kafka.bootstrap, PARTITIONS)
    settings = exactly_once(target, KAFKA_GROUP_INSTANCE_ID="one", **SHORT_SESSION)
    for life in range(6):
        service = start(topic, **settings)
        enough = dice.randint(100, 500)
        service.wait_until(lambda: delivered(service) >= enough)  # noqa: B023
        if life % 2:
            service.stop()
            assert service.metric("dead_lettered_total") == 0
        else:
            service.signal(signal.SIGKILL)
            service.wait_for_exit()
    start(topic, **settings)
    assert_each_once(topic, target)


def test_a_kill_without_an_instance_id_holds_up_until_the_brokers_abort(kafka: Kafka, start: ServiceStarter) -> None:
    topic, target = steady_topic(kafka.bootstrap, 4), create_topic(kafka.bootstrap, PARTITIONS)
    settings = exactly_once(target, **SHORT_SESSION, **SHORT_TRANSACTIONS)
    killed = start(topic, **settings)
    killed.wait_until(lambda: delivered(killed) >= 200)
    killed.kill()
    start(topic, **settings)
    assert_each_once(topic, target)


def test_members_that_join_and_leave_cost_nothing(kafka: Kafka, start: ServiceStarter) -> None:
    topic, target = steady_topic(kafka.bootstrap, 10), create_topic(kafka.bootstrap, PARTITIONS)
    settings = exactly_once(target, KAFKA_CONF_HEARTBEAT_INTERVAL_MS=300)
    one = start(topic, **settings)
    one.wait_until(lambda: delivered(one) > 100)
    for _ in range(2):
        other = start(topic, **settings)
        other.wait_until(lambda: delivered(other) > 100)  # noqa: B023
        other.stop()
    assert_each_once(topic, target)
    wait_until(lambda: committed(topic) == ends(topic))


def test_an_instance_frozen_within_a_transaction_comes_back_to_partitions_that_are_somebody_elses(
    kafka: Kafka, start: ServiceStarter
) -> None:
    """It finds out and joins again; what it had in its transaction is done by the other, and visible once."""
    topic, target = steady_topic(kafka.bootstrap, 20), create_topic(kafka.bootstrap, PARTITIONS)
    settings = exactly_once(target, **SHORT_SESSION, **SHORT_TRANSACTIONS)
    frozen, other = start(topic, **settings), start(topic, **settings)
    for service in (frozen, other):
        service.wait_until(lambda: delivered(service) > 50)  # noqa: B023
    freeze_within_transaction(frozen, target)
    open_since = held_back(target).items()
    other.wait_until(lambda: len(other.partitions()) == PARTITIONS)
    other.wait_until(lambda: not open_since & held_back(target).items(), what="the abort by the brokers")
    other.wait_until(lambda: committed(topic) == ends(topic), what="commits of what was the other's, too")
    frozen.signal(signal.SIGCONT)
    frozen.wait_until(lambda: frozen.partitions(), what="its return to the group")
    assert_each_once(topic, target)
    assert uncommitted(target) > len(topic.records), "readers of all see what the brokers aborted, too"


def test_offsets_that_come_from_a_former_member_are_refused(start: ServiceStarter) -> None:
    """Its transaction was on its way when its partitions went to another; the brokers know it by its membership."""
    with proxied_broker() as (proxy, bootstrap):
        topic, target = steady_topic(bootstrap, 4), create_topic(bootstrap, PARTITIONS)
        settings = exactly_once(target, KAFKA_CONF_HEARTBEAT_INTERVAL_MS=300, SHUTDOWN_GRACE_SECONDS=0.2)
        former = start(topic, **settings, KAFKA_CONF_TRANSACTION_TIMEOUT_MS=90_000)
        former.wait_until(lambda: delivered(former) > 100)
        proxy.hold_next(TXN_OFFSET_COMMIT)
        former.wait_until(proxy.held.is_set)
        other = start(topic, **settings)
        other.wait_until(lambda: delivered(other) > 100, what="deliveries of what was the other's")
        proxy.release.set()
        former.wait_until(lambda: former.metric("commits_total", result="failed") > 0, what="the refusal")
        assert_each_once(topic, target)


def test_an_instance_frozen_for_longer_than_a_transaction_may_take_goes_on(kafka: Kafka, start: ServiceStarter) -> None:
    """Nobody can have taken its id: what the brokers have aborted is done again."""
    topic, target = steady_topic(kafka.bootstrap, 3), create_topic(kafka.bootstrap, PARTITIONS)
    service = start(topic, **exactly_once(target, **SHORT_TRANSACTIONS))
    service.wait_until(lambda: delivered(service) > 100)
    service.signal(signal.SIGSTOP)
    until_ms = now_ms() + 8_000
    wait_until(lambda: now_ms() > until_ms)
    service.signal(signal.SIGCONT)
    assert_each_once(topic, target)
    assert not service.ended


def test_of_two_processes_with_one_instance_id_one_ends_fenced(kafka: Kafka, start: ServiceStarter) -> None:
    topic, target = steady_topic(kafka.bootstrap, 4), create_topic(kafka.bootstrap, PARTITIONS)
    settings = exactly_once(target, KAFKA_GROUP_INSTANCE_ID="same")
    one = start(topic, **settings)
    one.wait_until(lambda: delivered(one) > 100)
    other = start(topic, **settings)
    wait_until(lambda: one.ended or other.ended)
    fenced, stays = (one, other) if one.ended else (other, one)
    assert fenced.wait_for_exit() == 75
    [reason] = fenced.events("failed")
    assert "same" in reason["message"] or "KAFKA_GROUP_INSTANCE_ID" in reason["message"]
    assert_each_once(topic, target)
    assert not stays.ended


def test_a_transactional_id_taken_by_another_producer_ends_the_service(kafka: Kafka, start: ServiceStarter) -> None:
    topic, target = steady_topic(kafka.bootstrap, 6), create_topic(kafka.bootstrap, PARTITIONS)
    service = start(topic, **exactly_once(target, KAFKA_CONF_TRANSACTIONAL_ID=f"mine-{topic.name}"))
    service.wait_until(lambda: delivered(service) > 100)
    taker = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": f"mine-{topic.name}", "log_level": 0})
    taker.init_transactions(20)
    assert service.wait_for_exit() == 75
    [reason] = service.events("failed")
    assert f"mine-{topic.name}" in reason["message"]
    assert "\n" not in reason["message"]
    start(topic, **exactly_once(target))
    assert_each_once(topic, target)


def test_a_commit_that_arrives_after_its_time_ends_no_later_transaction(start: ServiceStarter) -> None:
    """The brokers refuse it, as the producer that sent it was made again with the same id."""
    with proxied_broker() as (proxy, bootstrap):
        topic, target = steady_topic(bootstrap, 6), create_topic(bootstrap, PARTITIONS)
        service = start(topic, **exactly_once(target, **SHORT_TRANSACTIONS))
        service.wait_until(lambda: delivered(service) > 100)
        proxy.delay_next(END_TXN)
        service.wait_until(proxy.held.is_set)
        service.wait_until(proxy.answered.is_set, what="the late commit's answer")
        assert proxy.late_error in {INVALID_PRODUCER_EPOCH, PRODUCER_FENCED}
        assert_each_once(topic, target)
        assert service.metric("commits_total", result="failed") >= 1


@pytest.mark.parametrize("kill", [False, True], ids=["clean", "killed"])
def test_a_broker_restart_within_transactions_costs_only_time(
    private_kafka: Broker, start: ServiceStarter, kill: bool
) -> None:
    topic, target = steady_topic(private_kafka.bootstrap, 5), create_topic(private_kafka.bootstrap, PARTITIONS)
    service = start(topic, **exactly_once(target))
    service.wait_until(lambda: delivered(service) > 100)
    private_kafka.stop(kill=kill)
    at_the_stop = delivered(service)
    assert service.get("/livez") is not None
    assert delivered(service) - at_the_stop <= 0, "nothing is delivered without a commit"
    private_kafka.start()
    service.wait_until(lambda: delivered(service) == len(topic.records), 60)
    assert_each_once(topic, target)
    assert committed(topic) == ends(topic)


def write_transactions(topic: Topic, *committed: bool) -> None:
    """Of five records and a marker each, to partition 0."""
    producer = Producer({"bootstrap.servers": topic.bootstrap, "transactional.id": topic.name, "log_level": 0})
    producer.init_transactions(20)
    at_ms = now_ms()
    for number, commit in enumerate(committed):
        producer.begin_transaction()
        for each in range(5):
            producer.produce(topic.name, b"%d %d" % (number, each), timestamp=at_ms)
        producer.flush(10)
        producer.commit_transaction(10) if commit else producer.abort_transaction(10)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_marker_behind_the_last_record_leaves_no_lag_after_a_stop(
    kafka: Kafka, start: ServiceStarter, protocol: str
) -> None:
    topic, target = create_topic(kafka.bootstrap), create_topic(kafka.bootstrap)
    write_transactions(topic, True)
    settings = exactly_once(target, COMMIT_INTERVAL_SECONDS=3_600, KAFKA_CONF_GROUP_PROTOCOL=protocol)
    service = start(topic, **settings)
    service.wait_until(lambda: service.partitions().get(0, {}).get("position") == 6 and delivered(service) == 5)
    assert committed(topic) == {0: 5}
    assert service.stop() < 10
    assert committed(topic) == {0: 6}
    assert service.events("commit_failed") == []


def test_aborted_records_of_the_source_are_passed_over_until_the_lag_is_0(kafka: Kafka, start: ServiceStarter) -> None:
    topic, target = create_topic(kafka.bootstrap), create_topic(kafka.bootstrap)
    write_transactions(topic, True, False, True, False)
    service = start(topic, **exactly_once(target, COMMIT_INTERVAL_SECONDS=0.5))
    wait_until(lambda: committed(topic) == {0: 24}, what="10 committed, 10 aborted and 4 markers to be passed")
    service.wait_until(lambda: [one for one in service.partitions().values() if one["waiting"] == one["overdue"] == 0])
    values = [message.value() for message in read_all(target, 11, 1)]
    assert values == [b"%d %d" % (number, each) for number in (0, 2) for each in range(5)]
