"""Where a dead letter is replayed to: which topic, partition and timestamp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from delayed_consumer.errors import AuthError, ConfigError
from delayed_consumer.origin import Origin
from delayed_consumer.probe import Probe

ANY_PARTITION = -1
NOW = 0  # the client takes the time itself
Refusal = ConfigError | AuthError
_MARGIN_MS = 3_600_000  # an outage of an hour must not cost a record that was replayed


@dataclass(frozen=True, slots=True)
class Target:
    """A topic that takes dead letters.

    Attributes:
        max_message_bytes: its largest batch; None: we may not see it.
        retention_ms: how long it keeps a record; None: for ever, or we may not see it.
    """

    topic: str
    partitions: int
    max_message_bytes: int | None
    retention_ms: int | None
    delay_ms: int

    def partition(self, origin: Origin) -> int:
        """The one of the same number; where there is none, by the key."""
        return origin.partition if 0 <= origin.partition < self.partitions else ANY_PARTITION

    def timestamp_ms(self, origin: Origin, now_ms: float) -> int:
        """Its own, or the youngest that is due at once where the topic would soon delete a record as old as that."""
        original_ms = max(NOW, origin.timestamp_ms)
        if original_ms == NOW or self.retention_ms is None:
            return original_ms
        margin_ms = min(_MARGIN_MS, self.retention_ms // 2)
        deleted_ms = original_ms + self.retention_ms
        return original_ms if deleted_ms > now_ms + margin_ms else max(original_ms, int(now_ms) - self.delay_ms)


class Targets:
    """Finds the target of each dead letter, asking the brokers once for each topic."""

    def __init__(self, probe: Probe, delay_ms: Callable[[str], int], dead_letter_topic: str, to: str | None) -> None:
        """``to``: where all of them go; None: each to where it came from."""
        self._probe = probe
        self._delay_ms = delay_ms
        self._dead_letter_topic = dead_letter_topic
        self._to = to
        self._known: dict[str, Target | Refusal] = {}

    def of(self, origin: Origin) -> Target | Refusal:
        """Or why nothing can be written there. Raises UnreachableError when the brokers do not answer."""
        topic = origin.topic if self._to is None else self._to
        if topic not in self._known:
            self._known[topic] = self._ask(topic)
        return self._known[topic]

    def check(self) -> None:
        """Raises why nothing can be written to the one topic that all of them go to, if there is one."""
        target = None if self._to is None else self._ask(self._to)
        if isinstance(target, Refusal):
            raise target

    def _ask(self, topic: str) -> Target | Refusal:
        try:
            return self._describe(topic)
        except (ConfigError, AuthError) as refusal:
            return refusal

    def _describe(self, topic: str) -> Target:
        if topic == self._dead_letter_topic:
            raise ConfigError([f"{topic} is the dead-letter topic itself"])
        found = self._probe.topics([topic])
        if topic not in found:
            raise ConfigError([f"the topic {topic} does not exist"])  # to write to it could create it
        retention_ms = self._probe.retention_ms([topic]).get(topic)
        return Target(topic, found[topic], self._probe.max_message_bytes(topic), retention_ms, self._delay_ms(topic))
