"""What becomes of a record whose delivery failed: tried later, dead-lettered, skipped, or the end of the service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal, Protocol

from delayed_consumer.core.records import Run
from delayed_consumer.errors import FatalError, MessageError

LONGEST_REASON = 1_000  # characters


class Kind(Enum):
    """Who must act on a failure."""

    RETRYABLE = auto()  # nobody: it may work later
    MESSAGE = auto()  # whoever wrote the record: another attempt would fail as well
    FATAL = auto()  # the operator: every record would fail


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a record could not be delivered, after how many attempts in this go."""

    reason: str
    kind: Kind = Kind.RETRYABLE
    attempts: int = 1

    @classmethod
    def of(cls, error: BaseException, attempts: int) -> Failure:
        """What a handler raised."""
        kinds = {MessageError: Kind.MESSAGE, FatalError: Kind.FATAL}
        kind = next((kind for one, kind in kinds.items() if isinstance(error, one)), Kind.RETRYABLE)
        return cls(_reason(error), kind, attempts)


def _reason(error: BaseException) -> str:
    """Its type and text. The text may be a whole payload, no Unicode, or raise itself."""
    name = type(error).__name__
    try:
        text = str(error)[:LONGEST_REASON].encode(errors="replace").decode()
    except Exception:
        return name
    return f"{name}: {text}" if text else name


@dataclass(frozen=True, slots=True)
class Stop:
    """The service ends, with nothing committed past the record."""


@dataclass(frozen=True, slots=True)
class Skip:
    """The record is given up, counted and logged."""


@dataclass(frozen=True, slots=True)
class Forward:
    """The record goes to ``topic``, and is done when that has acknowledged it. ``retry``: not as a dead letter."""

    topic: str
    retry: bool


Fate = Stop | Skip | Forward


@dataclass(frozen=True, slots=True)
class FailurePolicy:
    """RETRY_DELAYS_SECONDS and ON_FAILURE. ``retry_topics`` in the order that a record goes through them."""

    on_failure: Literal["stop", "dead-letter", "skip"]
    retry_topics: Sequence[str] = ()
    dead_letter_topic: str | None = None

    def fate(self, run: Run, failure: Failure) -> Fate:
        """Of a record of ``run``, all immediate attempts used up."""
        if failure.kind is Kind.FATAL:
            return Stop()
        if run.refused and self.dead_letter_topic:
            return Forward(self.dead_letter_topic, retry=False)
        later = self._next_retry_topic(run.partition.topic)
        if failure.kind is Kind.RETRYABLE and later is not None:
            return Forward(later, retry=True)
        if self.on_failure == "dead-letter" and self.dead_letter_topic:
            return Forward(self.dead_letter_topic, retry=False)
        return Skip() if self.on_failure == "skip" else Stop()

    def _next_retry_topic(self, topic: str) -> str | None:
        """Where a record that was read from ``topic`` is tried next."""
        stage = self.retry_topics.index(topic) + 1 if topic in self.retry_topics else 0
        return self.retry_topics[stage] if stage < len(self.retry_topics) else None


class Fallback(Protocol):
    """Takes the records that a sink could not deliver. Called on the loop's thread only, and never blocks."""

    def take(self, run: Run, index: int, failure: Failure, resolved: Callable[[], None]) -> str | None:
        """Sees to one record; ``resolved`` is called, in a later `serve` or at once, when it is out of the way.

        Returns why the service must stop, where the policy says so; then ``resolved`` is never called.
        """

    def serve(self) -> None:
        """Goes on with what was taken: a sink calls it whenever it is asked for its outcomes."""

    def close(self) -> None:
        """What is not resolved by now is not done."""
