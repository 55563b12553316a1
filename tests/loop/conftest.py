from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.loop.world import World


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Kafka, a clock and a sink without a service yet; whatever happens, nothing may be early."""
    one = World()
    monkeypatch.setattr("delayed_consumer.source.Consumer", one.kafka.consumer)
    yield one
    one.check()
