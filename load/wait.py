"""Waiting for what the service does."""

from __future__ import annotations

import time
from collections.abc import Callable

from load.service import ServiceProcess

_LOOK_SECONDS = 0.02


def wait_until(condition: Callable[[], bool], timeout_seconds: float, service: ServiceProcess | None = None) -> bool:
    """Whether ``condition`` came true in time; raises RuntimeError when ``service`` ends by itself meanwhile."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if service is not None:
            service.raise_if_ended()
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True
