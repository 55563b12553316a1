"""stdout is a pipe to somebody: gone, slow, or not reading at all."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.conftest import Kafka, ServiceStarter
from tests.support.json_lines import JsonLines
from tests.support.topics import Record, committed, create_topic, now_ms
from tests.support.wait import wait_until

COUNT = 2000  # more than a pipe takes at once


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    read_end, write_end = os.pipe()
    try:
        yield read_end, write_end
    finally:
        for end in (read_end, write_end):
            try:
                os.close(end)
            except OSError:  # the test has closed it
                continue


def test_a_reader_that_leaves_ends_the_service_with_one_reason(kafka: Kafka, start: ServiceStarter) -> None:
    """`delayed-consumer | head -3`: what was not written is not committed."""
    topic = create_topic(kafka.bootstrap)
    first_ms = now_ms()
    topic.produce(*(Record(first_ms + 20 * number) for number in range(100)))
    with pipe() as (read_end, write_end):
        head = subprocess.Popen(["head", "-n", "3"], stdin=read_end, stdout=subprocess.PIPE)
        service = start.into(write_end, topic, DELAY_SECONDS=2)
        os.close(read_end)
        os.close(write_end)
        output, _ = head.communicate(timeout=40)
    assert output.count(b"\n") == 3
    assert service.wait_for_exit() == 1
    [reason] = service.events("failed")
    assert "stdout" in reason["message"]
    next_offset = committed(topic)[0]
    assert next_offset is not None
    assert 3 <= next_offset < 100
    again = start(topic, DELAY_SECONDS=2)
    again.wait_for_records(100 - next_offset)
    assert again.offsets() == list(range(next_offset, 100))


def test_a_reader_that_does_not_read_costs_neither_membership_nor_order(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap)
    topic.produce(*(Record(now_ms() - 60_000, b"x" * 500) for _ in range(COUNT)))
    timeouts = {
        "KAFKA_CONF_HEARTBEAT_INTERVAL_MS": 500,
        "KAFKA_CONF_SESSION_TIMEOUT_MS": 2000,
        "KAFKA_CONF_MAX_POLL_INTERVAL_MS": 2000,
    }
    with pipe() as (read_end, write_end):
        service = start.into(write_end, topic, DELAY_SECONDS=1, **timeouts)
        os.close(write_end)
        blocked = service.wait_until(
            lambda: next((one for one in service.partitions().values() if one["state"] == "blocked"), None)
        )
        assert blocked["in_flight"] > 0
        begun_ms = service.status()["service"]["last_poll_ms"]
        service.wait_until(lambda: service.status()["service"]["last_poll_ms"] > begun_ms + 4000)
        lines = JsonLines(read_end)
        lines.start()
        wait_until(lambda: len(lines.objects) == COUNT)
        counts = {event: service.metric("rebalances_total", event=event) for event in ("assigned", "revoked", "lost")}
        assert counts == {"assigned": 1, "revoked": 0, "lost": 0}
        service.stop()
        lines.join()
    assert [record["offset"] for record in lines.objects] == list(range(COUNT))
    assert committed(topic) == {0: COUNT}


def test_a_second_sigterm_ends_it_at_once(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap)
    topic.produce(*(Record(now_ms() - 60_000, b"x" * 500) for _ in range(COUNT)))
    with pipe() as (_, write_end):
        service = start.into(write_end, topic, DELAY_SECONDS=1, SHUTDOWN_GRACE_SECONDS=20)
        os.close(write_end)
        service.wait_until(lambda: service.partitions().get(0, {}).get("in_flight"))
        service.signal(signal.SIGTERM)
        service.wait_for_event("stopping")
        assert not service.ended
        service.signal(signal.SIGTERM)
        assert service.wait_for_exit(5) == 128 + signal.SIGTERM


def test_what_was_not_written_within_the_grace_is_given_up_and_not_committed(
    kafka: Kafka, start: ServiceStarter
) -> None:
    topic = create_topic(kafka.bootstrap)
    topic.produce(*(Record(now_ms() - 60_000, b"x" * 500) for _ in range(COUNT)))
    with pipe() as (read_end, write_end):
        service = start.into(write_end, topic, DELAY_SECONDS=1, SHUTDOWN_GRACE_SECONDS=1)
        os.close(write_end)
        service.wait_until(lambda: service.partitions().get(0, {}).get("in_flight"))
        service.signal(signal.SIGTERM)
        assert service.wait_for_exit(10) == 0
        written = os.read(read_end, 1024 * 1024).count(b"\n")
    [stopped] = service.events("stopped")
    assert stopped["abandoned_in_flight"] > 0
    next_offset = committed(topic)[0] or 0
    assert next_offset <= written < COUNT
    again = start(topic, DELAY_SECONDS=1)
    again.wait_for_records(COUNT - next_offset)
    assert again.offsets() == list(range(next_offset, COUNT))


def test_what_a_lost_partition_had_in_flight_is_dropped_and_not_delivered_late(
    kafka: Kafka, start: ServiceStarter
) -> None:
    """Somebody else delivers it. Kept, it would pile up with every loss, beyond the hold."""
    topic = create_topic(kafka.bootstrap)
    topic.produce(*(Record(now_ms() - 60_000, b"x" * 500) for _ in range(COUNT)))
    loses_its_session = {"KAFKA_CONF_SESSION_TIMEOUT_MS": 1000, "KAFKA_CONF_HEARTBEAT_INTERVAL_MS": 3000}
    quick_commits = {"COMMIT_INTERVAL_SECONDS": 0.1}
    with pipe() as (read_end, write_end):
        service = start.into(write_end, topic, DELAY_SECONDS=1, **loses_its_session, **quick_commits)
        os.close(write_end)
        service.wait_until(lambda: len(service.events("lost")) >= 6)
        lines = JsonLines(read_end)
        lines.start()
        service.wait_until(lambda: committed(topic)[0] == COUNT)
        service.kill()
        lines.join()
    assert len(lines.objects) < 4 * COUNT, "what was in flight of every former assignment came, too"
