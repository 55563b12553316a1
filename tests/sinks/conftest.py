"""A target, and handlers that post to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from delayed_consumer.clock import SystemClock
from delayed_consumer.settings import Settings
from delayed_consumer.sinks.http import HttpHandler
from tests.sinks.posting import REQUIRED, Handle
from tests.support.http_server import (
    HttpTarget,
)


@pytest.fixture
def target() -> Iterator[HttpTarget]:
    with HttpTarget() as server:
        yield server


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Ends the answers that would go on for ever."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def handler() -> Iterator[Handle]:
    """Makes handlers, by the names of the settings, that are closed at the end."""
    made: list[HttpHandler] = []

    def make(url: str, **settings: object) -> HttpHandler:
        variables = {name: str(value) for name, value in settings.items()}
        made.append(HttpHandler(Settings({**REQUIRED, "SINK_URL": url, **variables}), SystemClock()))
        return made[-1]

    yield make
    for one in made:
        one.close()
