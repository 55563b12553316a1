"""The two clusters that the same suite runs on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from delayed_consumer.embedded import EmbeddedCluster
from tests.support.topics import Topic, create_topic, unique

PARTITIONS = 4  # what the embedded cluster gives every topic

MakeTopic = Callable[[], Topic]


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
    if request.param == "kafka":
        bootstrap = request.getfixturevalue("kafka").bootstrap
        return lambda: create_topic(bootstrap, PARTITIONS)
    cannot = request.node.get_closest_marker("embedded_cannot")
    if cannot is not None:
        request.applymarker(pytest.mark.xfail(reason=cannot.args[0], strict=True))
    cluster: EmbeddedCluster = request.getfixturevalue("embedded")

    def make() -> Topic:
        name = unique("topic")
        return Topic(cluster.bootstrap_servers, name, cluster.create_topic(name))

    return make
