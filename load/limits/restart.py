"""How soon records that are due are delivered again after a broker was away."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from math import nan

from load.backlog import DELAY_SECONDS
from load.broker import Broker
from load.checks import Check, Section, at_most, exactly
from load.cluster import Cluster
from load.deliveries import Deliveries
from load.producer import fill, writer_for
from load.progress import say
from load.scenarios import Scenario
from load.service import ServiceProcess
from load.topics import create_topic
from load.wait import wait_until

_OUTAGES = 3
_AWAY_SECONDS = 20.0  # at least; with the start of the broker less than the session of a member, 45 s
_SILENT_SECONDS = 3.0  # and until what was held is delivered: nothing came for so long
_BETWEEN_SECONDS = 8.0  # until it holds a look-ahead again
_START_SECONDS = 10.0
_RESUME_SECONDS = 1.0
_GIVE_UP_SECONDS = 60.0
_LOOK_SECONDS = 0.002
_RECORDS = Scenario("restart", rate=1000, seconds=_OUTAGES * (_AWAY_SECONDS + _BETWEEN_SECONDS + 30.0), partitions=4)


def restart() -> Section:
    """On a broker of its own, which is stopped and started while records fall due all the time."""
    with Broker() as broker:
        cluster = Cluster(broker.bootstrap, broker.data_directory)
        topic = create_topic(cluster.bootstrap, "load-restart", _RECORDS.partitions)
        first_due_ms = fill(writer_for(_RECORDS, cluster.bootstrap, topic), _RECORDS, _START_SECONDS)
        with ServiceProcess(cluster.environment(topic, DELAY_SECONDS)) as service:
            service.wait_ready()
            wait_until(lambda: service.deliveries.count > 0, first_due_ms / 1000 - time.time() + 10, service)
            resumed = [_outage(broker, service, number) for number in range(_OUTAGES)]
            service.stop()
        return Section(
            f"restart: a broker that is away for {_AWAY_SECONDS:.0f} s, {_OUTAGES} times, at {_RECORDS.rate_text}",
            [
                Check("from its open port to the first delivery, worst", max(port for port, _ in resumed), "s"),
                at_most(
                    "from its first answer to the first delivery, worst",
                    max(own for _, own in resumed),
                    _RESUME_SECONDS,
                    "s",
                ),
                exactly("early", _early(service.deliveries), 0),
            ],
        )


def _outage(broker: Broker, service: ServiceProcess, number: int) -> tuple[float, float]:
    """Seconds from the moment that the port is open, and that the broker answers, to the next delivery."""
    time.sleep(_BETWEEN_SECONDS)
    say(f"restart: outage {number + 1} of {_OUTAGES} ...")
    broker.stop()
    time.sleep(_AWAY_SECONDS)
    deliveries = service.deliveries
    wait_until(
        lambda: time.time() - (deliveries.last_arrived_ms or 0) / 1000 > _SILENT_SECONDS, _GIVE_UP_SECONDS, service
    )
    before = deliveries.count
    port = _Moment(lambda: _is_open(broker.port))
    delivery = _Moment(lambda: deliveries.count > before)
    broker.start()
    answered = time.monotonic()
    return delivery.wait() - port.wait(), max(0.0, delivery.wait() - answered)


class _Moment(threading.Thread):
    """When a condition came true, seen within milliseconds."""

    def __init__(self, condition: Callable[[], bool]) -> None:
        super().__init__(name="moment", daemon=True)
        self._condition = condition
        self._at = nan
        self.start()

    def run(self) -> None:
        give_up = time.monotonic() + _GIVE_UP_SECONDS
        while time.monotonic() < give_up:
            if self._condition():
                self._at = time.monotonic()
                return
            time.sleep(_LOOK_SECONDS)

    def wait(self) -> float:
        """By the monotonic clock; nan if it never did."""
        self.join()
        return self._at


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _early(deliveries: Deliveries) -> int:
    columns = deliveries.by_partition.values()
    return sum(at < due for one in columns for at, due in zip(one.delivered_ms, one.due_ms, strict=True))
