"""What Prometheus gets: every name, its unit and its help."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Metric
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from delayed_consumer.histogram import LatenessHistogram
from delayed_consumer.status import PartitionStatus, ServiceStatus, StatusBoard

NAMESPACE = "delayed_consumer"
ANSWER_TIMEOUT_S = 0.5  # the loop answers within 0.25 s; a probe of Kubernetes gives up after 1 s

_DELIVERY_BOUNDS_SECONDS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The counters of one instance, and all that a scrape of ``registry`` returns.

    A scrape asks ``board`` for a snapshot. ``delay_ms`` gives a topic's delay, ``versions`` are the labels of
    `build_info`. Every counter is there from the start with 0, so that `rate()` sees its first step.
    """

    def __init__(self, board: StatusBoard, delay_ms: Callable[[str], int], versions: Mapping[str, str]) -> None:
        self.lateness = LatenessHistogram()
        self.delivery_seconds = Histogram(
            "delivery_seconds",
            "Time from handing a run to the sink until the sink was done with it.",
            namespace=NAMESPACE,
            buckets=_DELIVERY_BOUNDS_SECONDS,
            registry=None,
        )
        self.delivered = _counter("delivered", "Records that the sink was done with.")
        self.failed = _counter("failed", "Records whose delivery failed, all attempts used up.")
        self.dead_lettered = _counter("dead_lettered", "Records acknowledged by the dead-letter topic.")
        self.retried = _counter("retried", "Records acknowledged by a retry topic.")
        self.skipped = _counter("skipped", "Records given up under ON_FAILURE=skip.")
        self.bytes_delivered = _counter("bytes_delivered", "Bytes of the values of delivered records.")
        self.client_received_bytes = _counter("client_received_bytes", "Bytes that the client got from the brokers.")
        self.pauses = _counter("pauses", "Times that a partition was paused.")
        self.resumes = _counter("resumes", "Times that a partition was resumed.")
        self.stuck_pauses = _counter("stuck_pauses", "Times that a partition stayed silent and was resumed again.")
        self.future_timestamps = _counter(
            "future_timestamps", "Records with a timestamp further ahead than MAX_FUTURE_SECONDS."
        )
        self.missing_timestamps = _counter("missing_timestamps", "Records without a timestamp.")
        self.data_loss = _counter("data_loss", "Offsets deleted from the log before they were delivered.")
        self.clock_steps = _counter("clock_steps", "Times that the wall clock was set while the service ran.")

        rebalances = _counter("rebalances", "Changes of the assignment.", "event")
        self.rebalances_assigned = rebalances.labels(event="assigned")
        self.rebalances_revoked = rebalances.labels(event="revoked")
        self.rebalances_lost = rebalances.labels(event="lost")
        commits = _counter("commits", "Commits of offsets.", "result")
        self.commits_ok = commits.labels(result="ok")
        self.commits_failed = commits.labels(result="failed")

        self._retention_margin = Gauge(
            "retention_margin_seconds",
            "The topic's retention less its delay; below 0 records are deleted before they are due.",
            ["topic"],
            namespace=NAMESPACE,
            registry=None,
        )
        self._received_bytes = 0
        self._totals = (
            *(self.delivered, self.failed, self.dead_lettered, self.retried, self.skipped, self.bytes_delivered),
            *(self.client_received_bytes, self.pauses, self.resumes, self.stuck_pauses, self.future_timestamps),
            *(self.missing_timestamps, self.data_loss, self.clock_steps),
        )
        info = Info("build", "Versions at work.", namespace=NAMESPACE, registry=None)
        info.info(dict(versions))
        self.registry = CollectorRegistry()
        self.registry.register(
            _Uncreated((*self._totals, rebalances, commits, self.delivery_seconds, self._retention_margin, info))
        )
        self.registry.register(_LatenessCollector(self.lateness))
        self.registry.register(_StatusCollector(board, delay_ms))

    def set_received_bytes(self, total: int) -> None:
        """``total`` as the client counts it, from its start."""
        self.client_received_bytes.inc(max(0, total - self._received_bytes))
        self._received_bytes = total

    def set_retention_margin(self, topic: str, seconds: float) -> None:
        self._retention_margin.labels(topic=topic).set(seconds)

    def totals(self) -> dict[str, int]:
        """The unlabelled counters, by their names without prefix and suffix."""
        values = {family.name: family.samples[0].value for one in self._totals for family in one.collect()}
        counted = {name.removeprefix(f"{NAMESPACE}_"): int(value) for name, value in values.items()}
        return {**counted, "early": self.lateness.early}


def _counter(name: str, documentation: str, *labels: str) -> Counter:
    return Counter(name, documentation, labels, namespace=NAMESPACE, registry=None)


class _Uncreated(Collector):
    """Leaves out the `_created` series, which double the number of series; the client's own switch is global."""

    def __init__(self, collectors: Sequence[Collector]) -> None:
        self._collectors = collectors

    def collect(self) -> Iterator[Metric]:
        for collector in self._collectors:
            for family in collector.collect():
                family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
                yield family


class _LatenessCollector(Collector):
    def __init__(self, lateness: LatenessHistogram) -> None:
        self._lateness = lateness

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(f"{NAMESPACE}_lateness_seconds", "Delivery time minus due time of each record.")
        buckets = [("+Inf" if bound == math.inf else str(bound), count) for bound, count in self._lateness.cumulative()]
        family.add_metric([], buckets, self._lateness.sum_seconds)
        yield family
        yield CounterMetricFamily(
            f"{NAMESPACE}_early", "Records delivered before they were due; must stay 0.", value=self._lateness.early
        )


@dataclass(frozen=True, slots=True)
class _PartitionGauge:
    name: str
    documentation: str
    value: Callable[[PartitionStatus], float | None]  # None: not known, so no sample rather than a wrong one

    def family(self, partitions: Iterable[PartitionStatus]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"{NAMESPACE}_{self.name}", self.documentation, labels=["topic", "partition"])
        for one in partitions:
            value = self.value(one)
            if value is not None:
                family.add_metric([one.topic, str(one.partition)], value)
        return family


_PARTITION_GAUGES = (
    _PartitionGauge("waiting_messages", "Offsets that are not due yet.", lambda one: one.waiting),
    _PartitionGauge("overdue_messages", "Offsets that are due and not delivered.", lambda one: one.overdue),
    _PartitionGauge(
        "oldest_overdue_seconds", "How long the oldest overdue record is due.", lambda one: one.oldest_overdue_seconds
    ),
    _PartitionGauge(
        "next_due_timestamp_seconds", "When the next record is due.", lambda one: _seconds(one.next_due_ms)
    ),
    _PartitionGauge("partition_paused", "1 while fetching is paused.", lambda one: one.paused),
    _PartitionGauge("held_messages", "Records in memory, without those in flight.", lambda one: one.held),
    _PartitionGauge("held_bytes", "Memory of the records held and in flight.", lambda one: one.held_bytes),
    _PartitionGauge("in_flight_messages", "Records that the sink is at work on.", lambda one: one.in_flight),
)


class _StatusCollector(Collector):
    def __init__(self, board: StatusBoard, delay_ms: Callable[[str], int]) -> None:
        self._board = board
        self._delay_ms = delay_ms

    def collect(self) -> Iterator[Metric]:
        status = self._board.ask(ANSWER_TIMEOUT_S)
        yield GaugeMetricFamily(
            f"{NAMESPACE}_assigned_partitions", "Partitions of this instance.", value=len(status.partitions)
        )
        yield _last_poll(status)
        yield self._delays({one.topic for one in status.partitions})
        for gauge in _PARTITION_GAUGES:
            yield gauge.family(status.partitions)

    def _delays(self, topics: Iterable[str]) -> Metric:
        family = GaugeMetricFamily(f"{NAMESPACE}_delay_seconds", "Delay of the topic's records.", labels=["topic"])
        for topic in sorted(topics):
            family.add_metric([topic], self._delay_ms(topic) / 1000)
        return family


def _last_poll(status: ServiceStatus) -> Metric:
    never = status.last_poll_ms == 0.0
    return GaugeMetricFamily(
        f"{NAMESPACE}_last_poll_timestamp_seconds",
        "When the loop last polled the client.",
        value=None if never else status.last_poll_ms / 1000,
    )


def _seconds(moment_ms: int | None) -> float | None:
    return None if moment_ms is None else moment_ms / 1000
