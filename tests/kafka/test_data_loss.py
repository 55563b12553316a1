"""Records that were deleted before they were delivered: never skipped silently."""

from __future__ import annotations

from confluent_kafka import TopicPartition

from tests.conftest import Kafka, ServiceStarter
from tests.support.service import ServiceProcess
from tests.support.topics import Record, Topic, admin, committed, create_topic, now_ms

KEPT_FROM = 1200
END = 1500
READ_AT_ONCE = 500  # further ahead than the look-ahead, so the service reads no more and pauses


def waiting_topic(kafka: Kafka, waits_ms: int) -> Topic:
    """Records that fall due in ``waits_ms``; the service holds only the first of them."""
    topic = create_topic(kafka.bootstrap)
    at_ms = now_ms() + waits_ms
    topic.produce(*(Record(at_ms) for _ in range(READ_AT_ONCE)))
    topic.produce(*(Record(at_ms + 1000) for _ in range(END - READ_AT_ONCE)))
    return topic


def delete_before(topic: Topic, offset: int) -> None:
    client = admin(topic.bootstrap)
    futures = client.delete_records([TopicPartition(topic.name, 0, offset)])
    for future in futures.values():
        future.result(10)


def wait_until_paused_in_mid_log(service: ServiceProcess) -> int:
    """The position at which it will read on."""
    one = service.wait_until(
        lambda: next((one for one in service.partitions().values() if one["state"] == "paused"), None)
    )
    position: int = one["position"]
    assert position < KEPT_FROM
    return position


def test_records_deleted_while_waiting_stop_the_service_or_are_counted(kafka: Kafka, start: ServiceStarter) -> None:
    """ON_DATA_LOSS=stop and =continue side by side: both wait."""
    stops, continues = waiting_topic(kafka, 14_000), waiting_topic(kafka, 14_000)
    stopping = start(stops, DELAY_SECONDS=0, COMMIT_INTERVAL_SECONDS=1)
    continuing = start(continues, DELAY_SECONDS=0, ON_DATA_LOSS="continue")
    wait_until_paused_in_mid_log(stopping)
    position = wait_until_paused_in_mid_log(continuing)
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
    assert continuing.offsets() == [*range(position), *range(KEPT_FROM, END)]
    assert continuing.metric("data_loss_total") == KEPT_FROM - position
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
