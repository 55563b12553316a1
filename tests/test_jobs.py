"""The periodic jobs: what they do when the brokers do not answer."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from delayed_consumer.errors import AuthError, ServiceError, UnreachableError
from delayed_consumer.events import Events
from delayed_consumer.jobs import Jobs
from delayed_consumer.metrics import Metrics
from delayed_consumer.settings import Settings
from delayed_consumer.status import StatusBoard
from tests.loop.clock import ManualClock


class Unanswered:
    """A probe whose questions fail."""

    def __init__(self, error: ServiceError) -> None:
        self.error = error
        self.reconnected = 0

    def topics(self, _: object) -> dict[str, int]:
        raise self.error

    def retention_ms(self, topics: dict[str, int]) -> dict[str, int]:
        return topics

    def reconnect(self) -> None:
        self.reconnected += 1


@pytest.mark.parametrize(("error", "reconnected"), [(UnreachableError("no answer"), 1), (AuthError("refused"), 0)])
def test_a_probe_that_gets_no_answer_goes_on_with_other_clients(error: ServiceError, reconnected: int) -> None:
    probe: Any = Unanswered(error)
    settings = Settings({}, kafka_bootstrap_servers="127.0.0.1:1", kafka_topics=["orders"])
    events = Events(logging.Logger("jobs"), Metrics(StatusBoard(), settings.delay_ms, {}))
    reporter: Any = None
    Jobs(settings, probe, reporter, StatusBoard(), ManualClock(), events).guard_retention()
    assert probe.reconnected == reconnected
