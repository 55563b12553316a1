"""One contender in one case: what it delivered and what that cost."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

from load.cluster import Cluster
from load.compare.contender import Contender
from load.compare.log import Log, Schedule
from load.compare.output import assignments_ms, deliveries
from load.compare.process import ContenderProcess
from load.oracle import Delivered, Key
from load.usage import Usage, received_bytes

_GRACE_SECONDS = 2.0  # how much longer than planned is waited for what is late
_FIRST_SECONDS = 30.0  # a backlog's first record
_LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Run:
    """What there is to judge."""

    schedule: Schedule
    stopped_ms: float
    begun: Usage  # when the first measured record is due, or the first of a backlog was delivered
    ended: Usage
    received_bytes: float  # by the process's sockets; nan where that is not known
    peak_rss_bytes: int
    assigned_ms: list[float]
    delivered: Mapping[Key, Delivered]


def run(contender: Contender, log: Log, cluster: Cluster, limit_seconds: float) -> Run:
    """Starts the contender, waits until it has delivered what is measured, and stops it.

    ``limit_seconds`` is for a backlog: a contender that has not caught up by then is judged by what it did.

    Raises:
        RuntimeError: it ended by itself.
    """
    with contender.prepared(log) as (port, further):
        schedule = log.schedule(contender.start_seconds)
        environment = {**_environment(cluster, log, schedule), **contender.settings, **further}
        with ContenderProcess(contender.command(), environment, contender.output) as process:
            begun, ended = _watch(process, log, schedule, limit_seconds)
            received = received_bytes(process.pid, port or cluster.port)
            stopped_ms = time.time() * 1000
            process.stop()
            return Run(
                schedule,
                stopped_ms,
                begun,
                ended,
                received,
                process.usage.peak_rss_bytes,
                assignments_ms(process.log()),
                deliveries(process.output, contender.output, log.topic, log.written, schedule.delay_ms),
            )


def _environment(cluster: Cluster, log: Log, schedule: Schedule) -> dict[str, str]:
    """What every contender is told; each run is a group of its own."""
    return {
        **cluster.environment(log.topic, schedule.delay_ms / 1000),
        "KAFKA_GROUP_ID": f"{log.topic}-{os.urandom(4).hex()}",
        "HTTP_PORT": "0",
        "LOG_FORMAT": "json",
        "COMPARE_RECORDS": str(log.case.records),
    }


def _watch(process: ContenderProcess, log: Log, schedule: Schedule, limit_seconds: float) -> tuple[Usage, Usage]:
    """What it has used when the measurement begins and when it ends; waits for what is late."""
    if log.case.is_catch_up:
        _wait(process, 1, _FIRST_SECONDS)
        begun = process.usage.now()
        _wait(process, log.case.records, limit_seconds)
        return begun, process.usage.now()
    _sleep_until(schedule.from_ms)
    begun = process.usage.now()
    _sleep_until(schedule.until_ms)
    ended = process.usage.now()
    _wait(process, log.case.records_until_the_end, _GRACE_SECONDS)
    return begun, ended


def _sleep_until(moment_ms: float) -> None:
    time.sleep(max(0.0, moment_ms / 1000 - time.time()))


def _wait(process: ContenderProcess, records: int, timeout_seconds: float) -> None:
    """Until it has delivered so many, or it is late for that."""
    deadline = time.monotonic() + timeout_seconds
    while process.drain.count < records and time.monotonic() < deadline:
        process.raise_if_ended()
        time.sleep(_LOOK_SECONDS)
    process.raise_if_ended()
