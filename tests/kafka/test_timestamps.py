"""Timestamps as they really are: set by the broker, out of order, far ahead."""

from __future__ import annotations

from tests.conftest import Kafka, ServiceStarter
from tests.support.service import assert_all_delivered
from tests.support.topics import Record, create_topic, now_ms, read_all

DAY_MS = 86_400_000


def test_log_append_time_counts_from_the_brokers_clock(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap, config={"message.timestamp.type": "LogAppendTime"})
    produced_ms = now_ms()
    topic.produce(*(Record(produced_ms - DAY_MS + number) for number in range(20)))
    service = start(topic, DELAY_SECONDS=3)
    service.wait_for_records(20)
    appended_ms = [message.timestamp()[1] for message in read_all(topic, 20)]
    assert min(appended_ms) >= produced_ms
    assert [record["timestamp_ms"] for record in service.records] == appended_ms
    assert [record["due_ms"] for record in service.records] == [at_ms + 3000 for at_ms in appended_ms]
    assert all(record["delivered_ms"] >= record["due_ms"] for record in service.records)


def test_timestamps_out_of_order_wait_for_the_running_maximum(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap)
    at_ms = now_ms()
    steps_ms = [0, 2500, -60_000, 1000, 2500, 2400, 3500, 0]
    topic.produce(*(Record(at_ms + step_ms) for step_ms in steps_ms))
    service = start(topic, DELAY_SECONDS=2)
    service.wait_for_records(3)
    service.wait_until(lambda: service.partitions()[0]["overdue"] == 0)
    service.wait_for_records(len(steps_ms))
    furthest_ms = [0, 2500, 2500, 2500, 2500, 2500, 3500, 3500]
    assert [record["due_ms"] - at_ms - 2000 for record in service.records] == furthest_ms
    assert service.offsets() == list(range(len(steps_ms)))
    assert_all_delivered(topic, 2, service)


def test_a_timestamp_far_ahead_waits_and_is_told(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap, partitions=2, config=any_timestamp())
    at_ms = now_ms()
    topic.produce(Record(at_ms), Record(at_ms + 400 * DAY_MS), Record(at_ms), Record(at_ms, partition=1))
    service = start(topic, DELAY_SECONDS=1)
    service.wait_for_records(2)
    service.wait_until(lambda: service.partitions()[0]["state"] == "paused")
    assert sorted((one["partition"], one["offset"]) for one in service.records) == [(0, 0), (1, 0)]
    assert len(service.events("future_timestamp")) == 1
    assert service.metric("future_timestamps_total") == 1
    assert service.partitions()[0]["next_due_ms"] == at_ms + 400 * DAY_MS + 1000
    assert service.stop() < 1


def test_a_timestamp_at_the_end_of_the_calendar_breaks_nothing(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap, config=any_timestamp())
    at_ms = now_ms()
    topic.produce(Record(at_ms), Record(2**63 - 1))
    service = start(topic, DELAY_SECONDS=1)
    service.wait_for_records(1)
    service.wait_until(lambda: service.partitions()[0]["state"] == "paused")
    assert service.metric("future_timestamps_total") == 1
    assert service.get("/metrics") is not None
    assert service.stop() < 1


def test_a_capped_timestamp_is_due_the_delay_after_it_was_read(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap, config=any_timestamp())
    at_ms = now_ms()
    topic.produce(Record(at_ms), Record(at_ms + 400 * DAY_MS), Record(at_ms + 1))
    begun_ms = now_ms()
    service = start(topic, DELAY_SECONDS=2, ON_FUTURE_TIMESTAMP="cap", MAX_FUTURE_SECONDS=60)
    service.wait_for_records(3)
    dues_ms = [record["due_ms"] for record in service.records]
    assert dues_ms[0] == at_ms + 2000
    assert begun_ms + 2000 <= dues_ms[1] == dues_ms[2] <= now_ms()
    assert all(record["delivered_ms"] >= record["due_ms"] for record in service.records)
    assert service.metric("future_timestamps_total") == 1
    service.stop()


def any_timestamp() -> dict[str, str]:
    """Since 3.6 a broker refuses by default what lies more than an hour ahead."""
    return {"message.timestamp.after.max.ms": str(2**63 - 1)}
