"""`delayed-consumer demo --crash`: what a crash repeats and loses, for each guarantee."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import TextIO

from delayed_consumer.demo.cluster import RealCluster
from delayed_consumer.demo.crash_view import CrashView
from delayed_consumer.demo.trial import Interrupted, RelayTrial, Stage, Trial
from delayed_consumer.embedded import EmbeddedCluster
from delayed_consumer.errors import ConfigError, ExitCode
from delayed_consumer.settings import Settings, connection_variables

MOST_RECORDS = 50_000  # the embedded broker keeps 5 MB a partition and drops the oldest silently
FRAME_SECONDS = 0.25


def demo_crash(
    *,
    guarantees: Sequence[str],
    bootstrap: str | None,
    seconds: float,
    rate: float,
    delay_seconds: float,
    out: TextIO,
) -> int:
    """Kills the service once for each guarantee, side by side. Returns OK when each held what it promises.

    ``bootstrap``: a real cluster, which exactly-once needs; None: the embedded one.

    Raises:
        ConfigError: the embedded broker cannot do what is asked.
        ServiceError: the cluster cannot be used, or the service ended by itself.
    """
    _check(guarantees, bootstrap, seconds * rate)
    stopped = threading.Event()
    with _cluster(bootstrap) as cluster, CrashView(out, bootstrap) as view:
        trials = list(_trials(guarantees, cluster, delay_seconds, stopped))
        for trial in trials:
            trial.prepare(seconds, rate)
        _run(trials, view, stopped)
        view.summary([trial.row() for trial in trials], exactly_once_left_out=len(trials) < len(guarantees))
    return ExitCode.OK if all(trial.kept for trial in trials) else ExitCode.GAVE_UP


def _check(guarantees: Sequence[str], bootstrap: str | None, records: float) -> None:
    if records > MOST_RECORDS:
        raise ConfigError([f"--seconds times --rate is more than {MOST_RECORDS:,} records; lower one of them"])
    if bootstrap is None and set(guarantees) == {"exactly-once"}:
        raise ConfigError(["exactly-once needs transactions, which the embedded broker lacks; name one: --bootstrap"])


def _cluster(bootstrap: str | None) -> AbstractContextManager[EmbeddedCluster | RealCluster]:
    if bootstrap is None:
        return nullcontext(EmbeddedCluster())
    settings = Settings(connection_variables(), kafka_bootstrap_servers=bootstrap, kafka_topics=["demo"])
    return RealCluster(settings.client_config())


def _trials(
    guarantees: Sequence[str], cluster: EmbeddedCluster | RealCluster, delay_seconds: float, stopped: threading.Event
) -> Iterator[Trial]:
    real = cluster if isinstance(cluster, RealCluster) else None
    environment = {**(connection_variables() if real else {}), "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap_servers}
    stage = Stage(cluster, environment, delay_seconds, stopped)
    for one in guarantees:
        if one != "exactly-once":
            yield Trial(one, stage)
        elif real is not None:
            yield RelayTrial(one, stage, real)


def _run(trials: Sequence[Trial], view: CrashView, stopped: threading.Event) -> None:
    """All side by side. Raises what went wrong in one of them, or KeyboardInterrupt, when none runs any more."""
    with ThreadPoolExecutor(len(trials)) as pool:
        running = [pool.submit(trial.run) for trial in trials]
        try:
            while not all(one.done() for one in running) and not _failures(running):
                view.show([trial.row() for trial in trials])
                time.sleep(FRAME_SECONDS)
        finally:
            stopped.set()
    for failure in _failures(running):
        raise failure


def _failures(running: Sequence[Future[None]]) -> list[BaseException]:
    failures = [one.exception() for one in running if one.done()]
    return [one for one in failures if one is not None and not isinstance(one, Interrupted)]
