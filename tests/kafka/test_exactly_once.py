"""DELIVERY=exactly-once: whoever reads committed records of the target sees each one once, whatever happens."""

from __future__ import annotations

import random
import signal
from collections.abc import Collection, Mapping

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from load.broker import Broker, free_ports
from tests.conftest import Kafka, ServiceStarter
from tests.support.proxy import END_TXN, INVALID_PRODUCER_EPOCH, PRODUCER_FENCED, HoldingProxy
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


def test_a_frozen_instance_comes_back_to_partitions_that_are_somebody_elses(
    kafka: Kafka, start: ServiceStarter, dice: random.Random
) -> None:
    """It finds out and joins again; what it had in a transaction is visible once, by itself or by the other."""
    topic, target = steady_topic(kafka.bootstrap, 9), create_topic(kafka.bootstrap, PARTITIONS)
    settings = exactly_once(target, **SHORT_SESSION, **SHORT_TRANSACTIONS)
    frozen, other = start(topic, **settings), start(topic, **settings)
    for service in (frozen, other):
        service.wait_until(lambda: delivered(service) > dice.randint(50, 200))  # noqa: B023
    frozen.signal(signal.SIGSTOP)
    other.wait_until(lambda: len(other.partitions()) == PARTITIONS)
    before = delivered(other)
    other.wait_until(lambda: delivered(other) > before + 500, what="deliveries of what was the other's")
    frozen.signal(signal.SIGCONT)
    frozen.wait_until(lambda: frozen.partitions(), what="its return to the group")
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
    [port] = free_ports(1)
    bootstrap = f"127.0.0.1:{port}"
    broker = Broker({"advertised.listeners": f"PLAINTEXT://{bootstrap}"})
    with HoldingProxy(port, broker.port) as proxy, broker:
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


def test_aborted_records_of_the_source_are_passed_over_until_the_lag_is_0(kafka: Kafka, start: ServiceStarter) -> None:
    topic, target = create_topic(kafka.bootstrap), create_topic(kafka.bootstrap)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic.name, "log_level": 0})
    producer.init_transactions(20)
    at_ms = now_ms()
    for number, commit in enumerate([True, False, True, False]):
        producer.begin_transaction()
        for each in range(5):
            producer.produce(topic.name, b"%d %d" % (number, each), timestamp=at_ms)
        producer.flush(10)
        producer.commit_transaction(10) if commit else producer.abort_transaction(10)
    service = start(topic, **exactly_once(target, COMMIT_INTERVAL_SECONDS=0.5))
    wait_until(lambda: committed(topic) == {0: 24}, what="10 committed, 10 aborted and 4 markers to be passed")
    service.wait_until(lambda: [one for one in service.partitions().values() if one["waiting"] == one["overdue"] == 0])
    values = [message.value() for message in read_all(target, 11, 1)]
    assert values == [b"%d %d" % (number, each) for number in (0, 2) for each in range(5)]


SMALL, LARGE = b"s" * 1_000, b"l" * 50_000


def topic_with_large_records(kafka: Kafka, large: Collection[int]) -> Topic:
    topic, at_ms = create_topic(kafka.bootstrap), now_ms() - 60_000
    topic.produce(*(Record(at_ms + number, LARGE if number in large else SMALL, b"key") for number in range(60)))
    return topic


def test_a_record_too_large_stops_the_service_after_what_is_before_it(kafka: Kafka, start: ServiceStarter) -> None:
    topic = topic_with_large_records(kafka, {30})
    target = create_topic(kafka.bootstrap, config={"max.message.bytes": "20000"})
    for _ in range(2):  # a restart stops at the same record
        service = start(topic, **exactly_once(target))
        assert service.wait_for_exit() == 1
        [reason] = service.events("failed")[-1:]
        assert f"{topic.name}[0] offset 30" in reason["message"]
        assert committed(topic)[0] == 30
    assert places(target, 30) == [(0, offset) for offset in range(30)]


def test_a_record_too_large_is_skipped_and_its_offset_committed(kafka: Kafka, start: ServiceStarter) -> None:
    topic = topic_with_large_records(kafka, {0, 30, 59})
    target = create_topic(kafka.bootstrap, config={"max.message.bytes": "20000"})
    service = start(topic, **exactly_once(target, ON_FAILURE="skip"))
    service.wait_until(lambda: committed(topic) == {0: 60})
    assert (service.metric("skipped_total"), service.metric("delivered_total")) == (3, 57)
    assert places(target, 57) == [(0, offset) for offset in range(60) if offset not in {0, 30, 59}]


def test_a_dead_letter_is_in_the_same_transaction(kafka: Kafka, start: ServiceStarter) -> None:
    topic, dead = topic_with_large_records(kafka, {30}), create_topic(kafka.bootstrap)
    target = create_topic(kafka.bootstrap, config={"max.message.bytes": "20000"})
    service = start(topic, **exactly_once(target, ON_FAILURE="dead-letter", DEAD_LETTER_TOPIC=dead.name))
    service.wait_until(lambda: committed(topic) == {0: 60})
    assert places(target, 59) == [(0, offset) for offset in range(60) if offset != 30]
    [letter] = read_all(dead, 2, 1)
    assert (letter.key(), letter.value()) == (b"key", LARGE)
    headers = dict(letter.headers() or ())
    assert headers["delayed-consumer.offset"] == b"30"
    assert "too large" in str(headers["delayed-consumer.error"])
    assert service.metric("dead_lettered_total") == 1
    assert log_end(dead) == 2, "the record, and the marker of its transaction"


def log_end(topic: Topic) -> int:
    consumer = Consumer({"bootstrap.servers": topic.bootstrap, "group.id": topic.name, "log_level": 0})
    try:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic.name, 0), timeout=20)
        return int(end)
    finally:
        consumer.close()
