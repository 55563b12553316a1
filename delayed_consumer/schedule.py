"""What is periodic and off the hot path, on APScheduler: its jobs ask Kafka and leave notes; the loop reads them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler


class Schedule:
    """Periodic jobs on one thread. The loop is right if none of them ever runs."""

    def __init__(self) -> None:
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(1)},
            # By default a job that is a second late is dropped with a warning (APScheduler 3).
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )

    def every(self, seconds: float, job: Callable[[], None], *, first_after_seconds: float) -> None:
        """Runs ``job`` every ``seconds``."""
        first = datetime.now(UTC) + timedelta(seconds=first_after_seconds)
        self._scheduler.add_job(job, "interval", seconds=seconds, next_run_time=first)

    def start(self) -> None:
        self._scheduler.start()

    def close(self) -> None:
        """Starts no further job; one that is under way ends by itself."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
