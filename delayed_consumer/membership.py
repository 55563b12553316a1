"""Whether we are in the group, and whether there is anything in it for us."""

from __future__ import annotations

from delayed_consumer.clock import Clock

IDLE_AFTER_MS = 5_000.0  # partitions on their way from another member arrive within this
SETTLED_AFTER_MS = 10_000.0  # a rebalance has several steps, and one often follows another


class Membership:
    """Our place in the group, as its callbacks tell it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._empty_since_ms = clock.steady_ms()
        self._changed_ms = clock.steady_ms()
        self._assigned = 0
        self.joined = False

    def has(self, assigned: int) -> None:
        """The group gave us ``assigned`` partitions in all."""
        if not self.joined:
            self.joined = True
            self._empty_since_ms = self._clock.steady_ms()
        self._count(assigned)

    def gave_up(self, assigned: int) -> None:
        """Some partitions went to other members; ``assigned`` are left."""
        self._count(assigned)

    def lost(self) -> None:
        """The group went on without us."""
        self.joined = False
        self._count(0)

    @property
    def idle(self) -> bool:
        """We are a member, and for a while there has been no partition for us."""
        return self.joined and not self._assigned and self._clock.steady_ms() - self._empty_since_ms >= IDLE_AFTER_MS

    @property
    def settled(self) -> bool:
        """The group has not changed lately, as far as we know."""
        return self._clock.steady_ms() - self._changed_ms >= SETTLED_AFTER_MS

    def _count(self, assigned: int) -> None:
        self._changed_ms = self._clock.steady_ms()
        if self._assigned and not assigned:
            self._empty_since_ms = self._clock.steady_ms()
        self._assigned = assigned
