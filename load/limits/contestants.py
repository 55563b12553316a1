"""Those that are compared, each run in a process of its own: prints what it measured as JSON.

Each is a function of the number of records and of partitions. ``seconds`` are those from the first record to the last.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping

from delayed_consumer.app import Service
from delayed_consumer.cli import favour_the_loop
from delayed_consumer.core.engine import InFlightLimit
from delayed_consumer.core.records import Partition, Run
from delayed_consumer.settings import Settings
from delayed_consumer.sinks import Outcome
from load.limits import bare
from load.limits.handler_functions import lateness_figures

_LOOK_SECONDS = 0.005


class NothingSink:
    """Is done with everything at once; calls ``at_the_end`` with the last of ``records``."""

    in_flight_limit = InFlightLimit(runs=64, records_per_run=500)

    def __init__(self, records: int, at_the_end: Callable[[], None]) -> None:
        self._left = records
        self._at_the_end = at_the_end
        self._ended: list[Outcome] = []
        self._begun = 0.0
        self.seconds = 0.0

    def deliver(self, run: Run, delivered_ms: float) -> None:  # noqa: ARG002
        self._begun = self._begun or time.perf_counter()
        self._ended.append(Outcome(run, len(run)))
        self._left -= len(run)
        if self._left <= 0:
            self.seconds = time.perf_counter() - self._begun
            self._at_the_end()

    def outcomes(self) -> list[Outcome]:
        ended, self._ended = self._ended, []
        return ended

    def wind_up(self, partitions: Collection[Partition]) -> list[Run]:
        return self.forget(partitions)

    def forget(self, _: Collection[Partition]) -> list[Run]:
        """All that it was handed it is done with."""
        return []

    def close(self) -> None:
        self._ended.clear()


def core(records: int, _: int) -> float:
    """The whole service but for its sink."""
    service: Service
    sink = NothingSink(records, lambda: service.stop())
    service = Service(Settings(), sink=lambda _: sink)
    service.run()
    return sink.seconds


class _Watch(threading.Thread):
    """Sees, by the counter that users see, how long ``service`` takes to be done with ``records``; then stops it."""

    def __init__(self, service: Service, records: int) -> None:
        super().__init__(name="watch", daemon=True)
        self._service = service
        self._records = records
        self.seconds = 0.0

    def run(self) -> None:
        before = self._wait_for(1)
        begun = time.perf_counter()
        self._wait_for(self._records)
        # As if the first records, which were done when it first looked, had taken as long as the others.
        self.seconds = (time.perf_counter() - begun) * self._records / max(1, self._records - before)
        self._service.stop()

    def _wait_for(self, records: int) -> int:
        while (done := self._done()) < records:
            time.sleep(_LOOK_SECONDS)
        return done

    def _done(self) -> int:
        (family,) = self._service.metrics.delivered.collect()
        return int(family.samples[0].value)


def service(records: int, _: int) -> float:
    """The service as its settings have it: until it is done with all, and so has every acknowledgement."""
    one = Service(Settings())
    watch = _Watch(one, records)
    watch.start()
    one.run()
    return watch.seconds


def handler_lateness(records: int, partitions: int) -> dict[str, float]:
    """The same with the handler that notes how late it was called."""
    return {"seconds": service(records, partitions), **lateness_figures()}


CONTESTANTS: Mapping[str, Callable[[int, int], float | dict[str, float]]] = {
    "bare-with-defaults": bare.with_defaults,
    "bare": bare.tuned,
    "bare-one-by-one": bare.one_by_one,
    "bare-relay": bare.relay,
    "bare-relay-with-origin": bare.relay_with_origin,
    "bare-posts": bare.posts,
    "core": core,
    "service": service,
    "handler-lateness": handler_lateness,
}


def main() -> None:
    contestant, records, partitions = sys.argv[1:]
    favour_the_loop()  # as the command line does for the service, and so for all
    measured = CONTESTANTS[contestant](int(records), int(partitions))
    sys.stdout.write(json.dumps(measured if isinstance(measured, dict) else {"seconds": measured}))


if __name__ == "__main__":
    main()
