"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_TURN_SECONDS = 0.02


def wait_until(condition: Callable[[], T | None], timeout_seconds: float = 40.0, what: str = "") -> T:
    """The first value of ``condition`` that is true.

    Raises AssertionError after ``timeout_seconds``, with the last value: machines are slow, so be generous.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_seconds} s: {what or 'the condition'}; last value {value!r}")
        time.sleep(_TURN_SECONDS)
