"""Records that were deleted before they were delivered: never skipped silently."""

from __future__ import annotations

from confluent_kafka import TopicPartition

from tests.conftest import Kafka, ServiceStarter
from tests.support.service import ServiceProcess
from tests.support.topics import Record, Topic, admin, committed, create_topic, now_ms

KEPT_FROM = 4800
END = 5000
HOLDS = 500
VALUE = b"x" * 2000  # so that most of the log fits neither into the hold nor into the client's queue


def waiting_topic(kafka: Kafka) -> Topic:
    """Records that fall due in 6 s."""
    topic = create_topic(kafka.bootstrap)
    at_ms = now_ms() + 6000
    topic.produce(*(Record(at_ms, VALUE) for _ in range(END)))
    return topic


def delete_before(topic: Topic, offset: int) -> None:
    client = admin(topic.bootstrap)
    futures = client.delete_records([TopicPartition(topic.name, 0, offset)])
    for future in futures.values():
        future.result(10)


def full(service: ServiceProcess) -> bool:
    """Or nearly: how much of the last part is taken depends on how the log comes in."""
    held: int = sum(one["held"] for one in service.partitions().values())
    return held >= HOLDS // 2


def test_records_deleted_while_waiting_stop_the_service_or_are_counted(kafka: Kafka, start: ServiceStarter) -> None:
    """ON_DATA_LOSS=stop and =continue side by side: both wait."""
    stops, continues = waiting_topic(kafka), waiting_topic(kafka)
    settings = {"DELAY_SECONDS": 0, "HOLD_MAX_RECORDS": HOLDS}
    stopping = start(stops, **settings, COMMIT_INTERVAL_SECONDS=1)
    continuing = start(continues, **settings, ON_DATA_LOSS="continue")
    continuing.wait_until(lambda: full(continuing))
    stopping.wait_until(lambda: full(stopping))
    stopping.wait_until(lambda: committed(stops)[0] == 0)
    for topic in (stops, continues):
        delete_before(topic, KEPT_FROM)

    assert stopping.wait_for_exit() == 1
    [reason] = stopping.events("failed")
    assert f"{stops.name}[0]" in reason["message"]
    assert str(KEPT_FROM) in reason["message"]
    again = start(stops, DELAY_SECONDS=0)
    assert again.wait_for_exit() == 1, "a restart must not pass over the loss either"
    assert not again.records

    continuing.wait_until(lambda: END - 1 in continuing.offsets())
    before = [offset for offset in continuing.offsets() if offset < KEPT_FROM]
    assert HOLDS // 2 <= len(before) < KEPT_FROM
    assert continuing.offsets() == [*range(len(before)), *range(KEPT_FROM, END)]
    assert continuing.metric("data_loss_total") == KEPT_FROM - len(before)
    assert len(continuing.events("data_loss")) == 1


def test_a_commit_out_of_range_at_the_start_stops_or_is_counted(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap)
    topic.produce(*(Record(now_ms() - 5000) for _ in range(20)))
    first = start(topic, DELAY_SECONDS=0)
    first.wait_for_records(20)
    first.stop()
    topic.produce(*(Record(now_ms() - 5000) for _ in range(20)))
    delete_before(topic, 30)
    stopped = start(topic, DELAY_SECONDS=0)
    assert stopped.wait_for_exit() == 1
    assert len(stopped.events("failed")) == 1
    assert committed(topic) == {0: 20}
    continued = start(topic, DELAY_SECONDS=0, ON_DATA_LOSS="continue")
    continued.wait_for_records(10)
    assert continued.offsets() == list(range(30, 40))
    assert continued.metric("data_loss_total") == 10
