"""Who gets a real Kafka, what happens where there is none, and the seed of every random choice."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator, Mapping, Sequence

import pytest

from load.broker import Broker, available
from tests.support.service import COMMAND, ServiceProcess
from tests.support.topics import Topic

EXISTING_CLUSTER = os.environ.get("KAFKA_BOOTSTRAP_SERVERS_TEST")
IN_CI = os.environ.get("CI", "").lower() == "true"
# In the environment, because those that run side by side are processes of their own.
SEED = os.environ.setdefault("DELAYED_CONSUMER_TEST_SEED", str(random.randrange(10**9)))

_KAFKA_FIXTURES = {"kafka", "private_kafka"}
# The new group protocol leaves these to the brokers: members move faster, and die sooner, than by default.
_GROUP_TIMES = {"group.consumer.heartbeat.interval.ms": "500", "group.consumer.session.timeout.ms": "6000"}
_WITH_CLUSTERS = {"kafka", "contract"}  # directories
_LEFT_OUT = "left out: "


def pytest_configure() -> None:
    """A job in the background is started with SIGINT ignored, and so would be whatever the tests start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Kafka:
    """A real cluster for the tests, shared: topics and groups have names of their own."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """One broker for the whole run, or the cluster of KAFKA_BOOTSTRAP_SERVERS_TEST."""
    if EXISTING_CLUSTER:
        yield Kafka(EXISTING_CLUSTER)
        return
    with Broker(_GROUP_TIMES) as broker:
        yield Kafka(broker.bootstrap)


@pytest.fixture
def private_kafka() -> Iterator[Broker]:
    """A broker that the test may stop; needs Java also where there is a cluster."""
    with Broker(_GROUP_TIMES) as broker:
        yield broker


class ServiceStarter:
    """Starts services on a topic; they share the group of its name."""

    def __init__(self) -> None:
        self.started: list[ServiceProcess] = []

    def __call__(self, topic: Topic, /, **settings: object) -> ServiceProcess:
        """``settings`` by the names of their variables, added to those that every test needs."""
        return self._start(self._environment(topic, settings))

    def into(self, stdout: int, topic: Topic, /, **settings: object) -> ServiceProcess:
        """With its stdout going to a descriptor of the test's own."""
        return self._start(self._environment(topic, settings), stdout=stdout)

    def by(self, command: Sequence[str], topic: Topic, /, **settings: object) -> ServiceProcess:
        """Started by another command than a container's."""
        return self._start(self._environment(topic, settings), command=command)

    def _environment(self, topic: Topic, settings: Mapping[str, object]) -> dict[str, str]:
        return {
            "KAFKA_BOOTSTRAP_SERVERS": topic.bootstrap,
            "KAFKA_TOPICS": topic.name,
            "KAFKA_GROUP_ID": topic.name,
            **{name: str(value) for name, value in settings.items()},
        }

    def _start(
        self, environment: Mapping[str, str], *, stdout: int | None = None, command: Sequence[str] = COMMAND
    ) -> ServiceProcess:
        service = ServiceProcess(environment, stdout=stdout, command=command)
        self.started.append(service)
        return service


@pytest.fixture
def start() -> Iterator[ServiceStarter]:
    """Starts services that are killed at the end; pytest shows the ends of their logs when the test fails."""
    starter = ServiceStarter()
    yield starter
    for service in starter.started:
        service.kill()
        print(service.log_tail())


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    """Random choices that the seed of the run repeats, whatever tests run beside."""
    return random.Random(f"{SEED} {request.node.nodeid}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before -m chooses."""
    for item in items:
        on_kafka = bool(_KAFKA_FIXTURES.intersection(getattr(item, "fixturenames", ())))
        if on_kafka:
            item.add_marker(pytest.mark.kafka)
        if on_kafka or item.path.parent.name in _WITH_CLUSTERS:
            item.add_marker(pytest.mark.cluster)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("kafka") is None:
        return
    private = "private_kafka" in getattr(item, "fixturenames", ())
    reason = available() if private or not EXISTING_CLUSTER else None
    if reason is None:
        return
    if IN_CI:
        pytest.fail(f"CI=true, so a test on a real Kafka may not be left out. {reason}", pytrace=False)
    pytest.skip(f"{_LEFT_OUT}{reason}")


def pytest_report_header() -> str:
    return f"random choices: DELAYED_CONSUMER_TEST_SEED={SEED}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    left_out = [reason.partition(_LEFT_OUT)[2] for reason in reasons if _LEFT_OUT in reason]
    if left_out:
        terminalreporter.write_line(
            f"{len(left_out)} TESTS ON A REAL KAFKA WERE LEFT OUT: {left_out[0]}", bold=True, yellow=True
        )
    if terminalreporter.stats.get("failed"):
        terminalreporter.write_line(f"to repeat the random choices: DELAYED_CONSUMER_TEST_SEED={SEED}")
