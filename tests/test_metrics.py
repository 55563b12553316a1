from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from delayed_consumer.metrics import Metrics
from delayed_consumer.status import PartitionStatus, ServiceStatus, StatusBoard

INTERFACE = [
    "delivered_total",
    "failed_total",
    "dead_lettered_total",
    "skipped_total",
    "bytes_delivered_total",
    "lateness_seconds",
    "delivery_seconds",
    "waiting_messages",
    "overdue_messages",
    "oldest_overdue_seconds",
    "next_due_timestamp_seconds",
    "partition_paused",
    "held_messages",
    "held_bytes",
    "in_flight_messages",
    "pauses_total",
    "resumes_total",
    "rebalances_total",
    "commits_total",
    "assigned_partitions",
    "last_poll_timestamp_seconds",
    "stuck_pauses_total",
    "future_timestamps_total",
    "data_loss_total",
    "delay_seconds",
    "retention_margin_seconds",
    "build_info",
]
BEYOND_THE_INTERFACE = [
    "clock_steps_total",
    "client_received_bytes_total",
    "missing_timestamps_total",
    "early_total",
    "retried_total",
]
VERSIONS = {"version": "1.2.3", "librdkafka": "2.16.0", "python": "3.11.9"}

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


PARTITION = PartitionStatus(
    topic="orders",
    partition=0,
    state="waiting",
    paused=False,
    position=120,
    committed=100,
    end=150,
    held=15,
    held_bytes=6_000,
    in_flight=5,
    next_due_ms=1_795_000_000_250,
    paused_until_ms=None,
    waiting=40,
    overdue=10,
    oldest_overdue_seconds=1.5,
)


@contextmanager
def metrics_of(*partitions: PartitionStatus, last_poll_ms: float = 1_795_000_000_125.0) -> Iterator[Metrics]:
    """Metrics beside a thread that answers the board as the loop does."""
    status = ServiceStatus(True, False, False, "m-1", last_poll_ms, partitions)
    board, stopped = StatusBoard(), threading.Event()

    def answer() -> None:
        while not stopped.wait(0.001):
            if board.asked:
                board.publish(status)

    loop = threading.Thread(target=answer)
    loop.start()
    try:
        yield Metrics(board, {"orders": 900_000, "payments": 1_500}.__getitem__, VERSIONS)
    finally:
        stopped.set()
        loop.join()


def scraped(metrics: Metrics) -> Samples:
    """Every sample by its name, without our prefix, and its labels; two alike are an error."""
    families = list(text_string_to_metric_families(generate_latest(metrics.registry).decode()))
    samples: Samples = {}
    for sample in (sample for family in families for sample in family.samples):
        key = (sample.name.removeprefix("delayed_consumer_"), tuple(sorted(sample.labels.items())))
        assert key not in samples
        samples[key] = sample.value
    return samples


def test_the_names_are_those_of_the_interface() -> None:
    with metrics_of(PARTITION) as metrics:
        exposition = generate_latest(metrics.registry).decode()
    names = [line.split()[2] for line in exposition.splitlines() if line.startswith("# TYPE")]
    expected = [f"delayed_consumer_{name}" for name in (*INTERFACE, *BEYOND_THE_INTERFACE)]
    assert sorted(names) == sorted(expected)


def test_every_name_has_a_help() -> None:
    with metrics_of(PARTITION) as metrics:
        assert all(family.documentation for family in metrics.registry.collect())


def test_counters_are_there_with_0_from_the_start() -> None:
    with metrics_of() as metrics:
        samples = scraped(metrics)
    plain = {name for name in (*INTERFACE, *BEYOND_THE_INTERFACE) if name.endswith("_total")}
    expected: Samples = {
        **{(name, ()): 0 for name in plain - {"rebalances_total", "commits_total"}},
        **{("rebalances_total", (("event", event),)): 0 for event in ("assigned", "revoked", "lost")},
        **{("commits_total", (("result", result),)): 0 for result in ("ok", "failed")},
    }
    assert {key: value for key, value in samples.items() if key[0].endswith("_total")} == expected
    assert samples["lateness_seconds_count", ()] == samples["delivery_seconds_count", ()] == 0


def test_what_is_counted_is_exposed() -> None:
    with metrics_of() as metrics:
        metrics.delivered.inc(7)
        metrics.rebalances_lost.inc()
        metrics.commits_failed.inc(2)
        metrics.delivery_seconds.observe(0.25)
        metrics.set_retention_margin("orders", -60.0)
        samples = scraped(metrics)
    assert samples["delivered_total", ()] == 7
    assert samples["rebalances_total", (("event", "lost"),)] == 1
    assert samples["commits_total", (("result", "failed"),)] == 2
    assert samples["delivery_seconds_sum", ()] == 0.25
    assert samples["retention_margin_seconds", (("topic", "orders"),)] == -60


def test_lateness_is_a_histogram_of_records() -> None:
    with metrics_of() as metrics:
        metrics.lateness.observe([1_000, 1_000, 1_400], 1_500.0)
        metrics.lateness.observe([1_700], 1_699.5)
        samples = scraped(metrics)
    upto = {dict(labels)["le"]: count for (name, labels), count in samples.items() if name == "lateness_seconds_bucket"}
    assert [*upto][0::19] == ["0.0001", "300.0"]
    assert (upto["0.05"], upto["0.1"], upto["0.25"], upto["0.5"], upto["+Inf"]) == (0, 1, 1, 3, 3)
    assert (samples["lateness_seconds_count", ()], samples["lateness_seconds_sum", ()]) == (3, 1.1)
    assert samples["early_total", ()] == 1


def test_a_partition_has_its_gauges() -> None:
    with metrics_of(PARTITION, replace(PARTITION, partition=1, paused=True)) as metrics:
        samples = scraped(metrics)
    labels = (("partition", "0"), ("topic", "orders"))
    assert {name: value for (name, of), value in samples.items() if of == labels} == {
        "waiting_messages": 40,
        "overdue_messages": 10,
        "oldest_overdue_seconds": 1.5,
        "next_due_timestamp_seconds": 1_795_000_000.25,
        "partition_paused": 0,
        "held_messages": 15,
        "held_bytes": 6_000,
        "in_flight_messages": 5,
    }
    assert samples["partition_paused", (("partition", "1"), ("topic", "orders"))] == 1
    assert samples["assigned_partitions", ()] == 2
    assert samples["last_poll_timestamp_seconds", ()] == 1_795_000_000.125


def test_what_is_not_known_has_no_sample() -> None:
    with metrics_of(replace(PARTITION, waiting=None, overdue=None, next_due_ms=None), last_poll_ms=0.0) as metrics:
        names = {name for name, _ in scraped(metrics)}
    unknown = {"waiting_messages", "overdue_messages", "next_due_timestamp_seconds", "last_poll_timestamp_seconds"}
    assert not names & unknown
    assert "held_messages" in names


def test_a_count_of_0_is_known() -> None:
    with metrics_of(replace(PARTITION, waiting=0, overdue=0)) as metrics:
        samples = scraped(metrics)
    labels = (("partition", "0"), ("topic", "orders"))
    assert (samples["waiting_messages", labels], samples["overdue_messages", labels]) == (0, 0)


def test_each_assigned_topic_has_its_delay() -> None:
    with metrics_of(PARTITION, replace(PARTITION, partition=1), replace(PARTITION, topic="payments")) as metrics:
        samples = scraped(metrics)
    delays = {labels: value for (name, labels), value in samples.items() if name == "delay_seconds"}
    assert delays == {(("topic", "orders"),): 900.0, (("topic", "payments"),): 1.5}


def test_build_info_names_the_versions() -> None:
    with metrics_of() as metrics:
        samples = scraped(metrics)
    assert samples["build_info", tuple(sorted(VERSIONS.items()))] == 1


def test_openmetrics_accepts_the_exposition_too() -> None:
    with metrics_of(PARTITION) as metrics:
        metrics.lateness.observe([1_000], 1_500.0)
        exposition = generate_openmetrics(metrics.registry).decode()  # type: ignore[no-untyped-call]
    families = list(parse_openmetrics(exposition))  # type: ignore[no-untyped-call]
    assert len(families) == len(INTERFACE) + len(BEYOND_THE_INTERFACE)


@pytest.mark.parametrize("totals", [(100, 250), (250,), (250, 250)])
def test_received_bytes_follow_the_total_of_the_client(totals: tuple[int, ...]) -> None:
    with metrics_of() as metrics:
        for total in totals:
            metrics.set_received_bytes(total)
        assert scraped(metrics)["client_received_bytes_total", ()] == 250


def test_the_totals_have_plain_names() -> None:
    with metrics_of() as metrics:
        metrics.delivered.inc(3)
        metrics.skipped.inc()
        totals = metrics.totals()
    assert (totals["delivered"], totals["skipped"], totals["failed"], totals["early"]) == (3, 1, 0, 0)
    assert {f"{name}_total" for name in totals} <= {*INTERFACE, *BEYOND_THE_INTERFACE}


def test_two_instances_in_a_process_count_apart() -> None:
    with metrics_of() as one, metrics_of() as other:
        one.delivered.inc()
        assert scraped(one)["delivered_total", ()] == 1
        assert scraped(other)["delivered_total", ()] == 0
