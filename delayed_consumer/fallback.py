"""Carries out what the failure policy says of a record that a sink could not deliver."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from delayed_consumer.core.records import Run
from delayed_consumer.events import Events
from delayed_consumer.failures import Failure, FailurePolicy, Forward, Skip, Stop


class Forwarder(Protocol):
    """Writes records to retry topics and to the dead-letter topic; `sinks.forward` has one. Never blocks."""

    def forward(self, run: Run, index: int, failure: Failure, to: Forward, acknowledged: Callable[[], None]) -> None:
        """``acknowledged`` is called in a later `serve`; until then it is tried again, however long that takes."""

    def serve(self) -> None:
        """Takes the answers of the brokers, and tries again what they refused."""

    def close(self) -> None:
        """What is not acknowledged by now may still arrive: it was not counted as done."""


class PolicyFallback:
    """The fallback of sinks that are not transactional: a record counts as done when its way out is acknowledged."""

    def __init__(self, policy: FailurePolicy, forwarder: Forwarder | None, events: Events) -> None:
        """``forwarder`` None: the policy forwards nothing."""
        self._policy = policy
        self._forwarder = forwarder
        self._events = events

    def take(self, run: Run, index: int, failure: Failure, resolved: Callable[[], None]) -> str | None:
        fate = self._policy.fate(run, failure)
        if isinstance(fate, Stop):
            return failure.reason
        self._events.failed(run, index, failure, fate)
        if isinstance(fate, Skip):
            self._events.skipped(run, index)
            resolved()
        elif self._forwarder is not None:
            self._forwarder.forward(run, index, failure, fate, partial(self._arrived, run, index, fate, resolved))
        return None

    def serve(self) -> None:
        if self._forwarder is not None:
            self._forwarder.serve()

    def close(self) -> None:
        if self._forwarder is not None:
            self._forwarder.close()

    def _arrived(self, run: Run, index: int, to: Forward, resolved: Callable[[], None]) -> None:
        self._events.forwarded(run, index, to)
        resolved()
