"""The two clusters that the same suite runs on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from delayed_consumer.embedded import EmbeddedCluster
from tests.support.topics import Record, Topic, create_topic, unique

PARTITIONS = 4  # what the embedded cluster gives every topic

# The embedded cluster lets a group start 3 s after its first member, and a member that has left stays in the group
# until its session is over (librdkafka 2.16).
SESSION = {"KAFKA_CONF_SESSION_TIMEOUT_MS": 4000, "KAFKA_CONF_HEARTBEAT_INTERVAL_MS": 500}

MakeTopic = Callable[[], Topic]


def spread(first_ms: int, count: int, every_ms: int) -> list[Record]:
    """Records on all partitions in turn."""
    return [
        Record(first_ms + every_ms * number, b"%d" % number, partition=number % PARTITIONS) for number in range(count)
    ]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "embedded_cannot(reason): what librdkafka's embedded cluster does not do")


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedCluster]:
    """In this process; the services reach it on 127.0.0.1."""
    cluster = EmbeddedCluster()
    yield cluster
    del cluster


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def make_topic(request: pytest.FixtureRequest) -> MakeTopic:
    """Makes a topic with a name of its own and four partitions."""
    cannot = request.node.get_closest_marker("embedded_cannot")
    if request.param == "embedded" and cannot is not None:
        request.applymarker(pytest.mark.xfail(reason=cannot.args[0], strict=True))
    return topic_maker(request, request.param)


def topic_maker(request: pytest.FixtureRequest, cluster: str) -> MakeTopic:
    """For the cluster of this name; that is started when it is not yet."""
    if cluster == "kafka":
        bootstrap = request.getfixturevalue("kafka").bootstrap
        return lambda: create_topic(bootstrap, PARTITIONS)
    embedded: EmbeddedCluster = request.getfixturevalue("embedded")

    def make() -> Topic:
        name = unique("topic")
        return Topic(embedded.bootstrap_servers, name, embedded.create_topic(name))

    return make
