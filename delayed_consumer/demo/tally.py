"""What a demo produced and what of it arrived."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """What was produced and what arrived, judged without asking the service."""

    due_ms: dict[tuple[int, int], int] = field(default_factory=dict)  # of what was produced, by partition and offset
    arrived: dict[tuple[int, int], int] = field(default_factory=dict)  # how often
    delivered_ms: list[float] = field(default_factory=list)  # of each delivery
    lateness_ms: list[float] = field(default_factory=list)
    early: int = 0

    @property
    def delivered(self) -> int:
        """Repeats included."""
        return len(self.delivered_ms)

    @property
    def lost(self) -> int:
        return len(self.due_ms.keys() - self.arrived.keys())

    @property
    def repeated(self) -> int:
        return sum(count - 1 for count in self.arrived.values())

    def keeps(self, guarantee: str) -> bool:
        """Whether this is what DELIVERY=``guarantee`` promises of a crash."""
        broken = {"at-most-once": self.repeated, "at-least-once": self.lost}.get(guarantee, self.repeated + self.lost)
        return not broken and not self.early

    def before(self, moment_ms: float) -> int:
        """How many deliveries came before that."""
        return sum(delivered_ms < moment_ms for delivered_ms in self.delivered_ms)

    def arrive(self, partition: int, offset: int, delivered_ms: float) -> None:
        key = (partition, offset)
        self.arrived[key] = self.arrived.get(key, 0) + 1
        lateness_ms = delivered_ms - self.due_ms.get(key, delivered_ms)
        self.early += lateness_ms < 0
        self.delivered_ms.append(delivered_ms)
        self.lateness_ms.append(lateness_ms)
