"""One scenario from the empty topic to the verdict."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import Literal

from delayed_consumer.broker_watch import STATISTICS_INTERVAL_MS
from load.cluster import Cluster
from load.deliveries import Deliveries, TopicReader
from load.oracle import Delivered, Key, Verdict, Written, judge
from load.producer import LiveProducer, TopicWriter, fill, writer_for
from load.profile import profiled
from load.progress import Progress, milliseconds, say
from load.scenarios import Scenario
from load.service import ServiceProcess, Stopped
from load.topics import create_topic
from load.usage import Cpu, received_bytes

SinkName = Literal["log", "topic"]

# How long before the first record is due the service is started: it joins its group in time.
_START_SECONDS = 15.0
GRACE_SECONDS = 15.0  # how much longer than planned is waited before records count as lost
_LOOK_SECONDS = 0.25
_COUNTED_EVERY_SECONDS = STATISTICS_INTERVAL_MS / 1000 + 0.5  # the client counts what it received


@dataclass(frozen=True)
class PartitionStates:
    """What /status said at one moment: a state per partition."""

    at_ms: float
    states: Mapping[int, str]


@dataclass
class Measurement:
    """Everything a report needs of one run."""

    scenario: Scenario
    sink: SinkName
    first_due_ms: float = 0.0
    ready_ms: float = 0.0
    written: dict[Key, Written] = field(default_factory=dict)
    delivered: dict[Key, Delivered] = field(default_factory=dict)
    verdict: Verdict = field(default_factory=Verdict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    log: str = ""
    stopped: Stopped = field(default_factory=lambda: Stopped(0, 0.0))
    hold_max_bytes: int = 0  # the service's setting
    cpu: Cpu = field(default_factory=lambda: Cpu(nan, nan))
    peak_rss_bytes: int = 0
    log_bytes: float = 0.0
    kernel_received_bytes: float = nan
    generator_lateness_ms: list[float] | None = None  # ascending
    states: list[PartitionStates] = field(default_factory=list)

    @property
    def sent(self) -> int:
        return sum(map(len, self.written.values()))

    @property
    def measured_until_ms(self) -> float:
        return self.first_due_ms + self.scenario.seconds * 1000

    def lateness_ms(self) -> list[float]:
        """Of the measured records, ascending; the tail behind them is left out."""
        return self._ascending(self.verdict.lateness_ms)

    def arrival_lateness_ms(self) -> list[float]:
        """The same at the reader."""
        return self._ascending(self.verdict.arrival_lateness_ms)

    def _ascending(self, column: array[float]) -> list[float]:
        rows = zip(self.verdict.due_ms, column, strict=True)
        return sorted(value for due_ms, value in rows if due_ms <= self.measured_until_ms)


def measure(
    scenario: Scenario,
    cluster: Cluster,
    sink: SinkName = "log",
    live: bool = False,
    environment: Mapping[str, str] | None = None,
    profile: Path | None = None,
) -> Measurement:
    """Runs the service through ``scenario``; ``profile`` is a flame picture to make of it.

    Raises:
        RuntimeError: the service ended by itself, or the topic could not be filled.
    """
    topic = create_topic(cluster.bootstrap, f"load-{scenario.name}", scenario.partitions)
    settings = {**cluster.environment(topic, scenario.delay_seconds), **(environment or {})}
    result = Measurement(scenario, sink)
    deliveries = Deliveries()
    with ExitStack() as parts:
        settings |= parts.enter_context(_target(sink, scenario, cluster, deliveries))
        writer = writer_for(scenario, cluster.bootstrap, topic)
        result.written, result.delivered = writer.written, deliveries.by_partition
        if not live:
            say(f"{scenario.name}: writing the records ...")
            result.first_due_ms = fill(writer, scenario, _START_SECONDS)
            time.sleep(max(0.0, result.first_due_ms / 1000 - _START_SECONDS - time.time()))
        service = parts.enter_context(ServiceProcess(settings, deliveries if sink == "log" else None))
        service.wait_ready()
        result.ready_ms = time.time() * 1000
        generator = _start_live(writer, scenario, result) if live else None
        with profiled(service.pid, profile) if profile is not None else nullcontext():
            _watch(service, deliveries, result)
        _collect(service, cluster, result)
    if generator is not None:
        _join(generator, result)
    result.log_bytes = cluster.log_bytes(topic, result.sent, scenario.size_bytes, writer.batch_records)
    until_ms = float("inf") if scenario.tail_is_delivered else result.measured_until_ms
    result.verdict = judge(result.written, result.delivered, scenario.delay_ms, until_ms)
    return result


@contextmanager
def _target(sink: SinkName, scenario: Scenario, cluster: Cluster, deliveries: Deliveries) -> Iterator[dict[str, str]]:
    """The settings of the sink; reads the target topic meanwhile."""
    if sink == "log":
        yield {"SINK": "log"}
        return
    target = create_topic(cluster.bootstrap, f"load-{scenario.name}-target", scenario.partitions)
    reader = TopicReader(cluster.bootstrap, target, scenario.partitions, scenario.delay_ms, deliveries)
    reader.start()
    try:
        yield {"SINK": "topic", "SINK_TOPIC": target}
    finally:
        reader.stop()
    if reader.error is not None:
        raise reader.error


def _start_live(writer: TopicWriter, scenario: Scenario, result: Measurement) -> LiveProducer:
    first_ms = time.time() * 1000 + 1000
    result.first_due_ms = first_ms + scenario.delay_ms
    generator = LiveProducer(writer, scenario, first_ms)
    generator.start()
    return generator


def _join(generator: LiveProducer, result: Measurement) -> None:
    generator.join()
    if generator.error is not None:
        raise generator.error
    result.generator_lateness_ms = sorted(generator.lateness_ms)


def _watch(service: ServiceProcess, deliveries: Deliveries, result: Measurement) -> None:
    """Until everything expected is there, or long past the time for it."""
    scenario = result.scenario
    end_ms = result.first_due_ms + scenario.run_seconds * 1000
    expected = sum(slot.due_after_ms <= scenario.run_seconds * 1000 for slot in scenario.slots())
    with Progress(lambda: _standing(result, deliveries, end_ms)) as progress:
        while time.time() * 1000 < end_ms + GRACE_SECONDS * 1000:
            if time.time() * 1000 > end_ms and deliveries.count >= expected:
                return
            service.raise_if_ended()
            progress.update()
            if scenario.random_gaps:  # asking costs the service some CPU; these runs have it to spare
                _sample_states(service, result)
            time.sleep(_LOOK_SECONDS)


def _standing(result: Measurement, deliveries: Deliveries, end_ms: float) -> str:
    left_seconds = max(0.0, end_ms / 1000 - time.time())
    return (
        f"{result.scenario.name}: sent {result.sent:,}, waiting {max(0, result.sent - deliveries.count):,}, "
        f"delivered {deliveries.count:,}, late now {milliseconds(deliveries.recent_lateness_ms())}, "
        f"{left_seconds:.0f} s left"
    )


def _sample_states(service: ServiceProcess, result: Measurement) -> None:
    states = {one["partition"]: one["state"] for one in service.status()["partitions"]}
    result.states.append(PartitionStates(time.time() * 1000, states))


def _collect(service: ServiceProcess, cluster: Cluster, result: Measurement) -> None:
    """What only the running service can tell; then stops it."""
    result.cpu = service.usage.cpu(result.first_due_ms, result.measured_until_ms)
    result.kernel_received_bytes = received_bytes(service.pid, cluster.port)
    time.sleep(_COUNTED_EVERY_SECONDS)
    result.metrics = service.metrics()
    result.hold_max_bytes = service.status()["settings"]["hold_max_bytes"]
    result.peak_rss_bytes = service.usage.peak_rss_bytes
    result.stopped = service.stop()
    result.log = service.log()
