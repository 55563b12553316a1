"""The topics that take what failed, looked at before anything is read: retry topics and the dead-letter topic."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from delayed_consumer.errors import AuthError, ConfigError
from delayed_consumer.events import Events
from delayed_consumer.probe import Probe, Rights
from delayed_consumer.settings import Settings

_DAY_MS = 86_400_000
_LEAST_RETENTION_MS = 7 * _DAY_MS
_ADDED_BYTES = 8_192  # what a retry adds to a record: its origin, the error, the attempts


@dataclass(frozen=True, slots=True)
class RetryTopic:
    """What a retry topic is made like."""

    name: str
    partitions: int
    settings: Mapping[str, str]

    def __str__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"{self.name} with {self.partitions} partitions and {settings}"


def retry_topics(settings: Settings, probe: Probe, sources: Mapping[str, int]) -> list[RetryTopic]:
    """As many partitions as the largest source topic has, records kept well beyond the delay and as large as there.

    ``sources``: the topics of KAFKA_TOPICS with their numbers of partitions.
    """
    if not settings.retry_topics:
        return []
    partitions = max(sources.values(), default=1)
    largest_bytes = max(probe.message_limits(sources).values(), default=None)
    return [
        RetryTopic(name, partitions, _topic_settings(settings.delay_ms(name), largest_bytes))
        for name in settings.retry_topics
    ]


def create(probe: Probe, topic: RetryTopic, *, only_ask: bool = False) -> bool:
    """Creates it where it is missing; ``only_ask``: or asks whether the brokers would. Returns whether it was missing.

    Raises:
        AuthError: we may not.
        ConfigError: the brokers refuse such a topic.
        UnreachableError: no answer.
    """
    advice = f"create {topic}, or permit us to"
    try:
        if topic.name in probe.topics([topic.name]):
            return False
        probe.create_topic(topic.name, topic.partitions, topic.settings, only_ask=only_ask)
    except AuthError as error:
        raise AuthError(f"RETRY_DELAYS_SECONDS: {error}; {advice}") from error
    except ConfigError as error:
        raise ConfigError([f"RETRY_DELAYS_SECONDS: {error}; {advice}"]) from error
    return True


def dead_letter_topic(settings: Settings) -> str | None:
    """The one that something may be written to."""
    used = "dead-letter" in {settings.on_failure, settings.on_future_timestamp}
    return settings.dead_letter_topic if used else None


def targets(settings: Settings) -> list[str]:
    """All that failed records may be written to."""
    dead_letters = dead_letter_topic(settings)
    return [*settings.retry_topics, *([dead_letters] if dead_letters else [])]


def denied(settings: Settings, rights: Mapping[str, Rights]) -> Iterator[str]:
    """What we may not do with these topics, of those that exist."""
    for topic in targets(settings):
        if topic in rights and not rights[topic].write:
            variable = "RETRY_DELAYS_SECONDS" if topic in settings.retry_topics else "DEAD_LETTER_TOPIC"
            yield f"{variable}: we may not write to the topic {topic}; permit it"


def prepare(settings: Settings, probe: Probe, sources: Mapping[str, int], events: Events) -> None:
    """Creates the retry topics that are missing, and makes sure that what fails can be written.

    Raises:
        ConfigError: the dead-letter topic does not exist, or the brokers refuse to create a retry topic.
        AuthError: we may not create or write to one.
        UnreachableError: no answer.
    """
    for topic in retry_topics(settings, probe, sources):
        if create(probe, topic):
            events.topic_created(topic.name, topic.partitions)
    dead_letters = dead_letter_topic(settings)
    if dead_letters and dead_letters not in probe.topics([dead_letters]):
        raise ConfigError([f"DEAD_LETTER_TOPIC: the topic {dead_letters} does not exist; create it"])
    for name in _not_read_any_more(settings, probe):
        events.setting_warning(
            f"{name} is a retry topic of this group that RETRY_DELAYS_SECONDS has no delay for any more: what is left "
            "in it is not delivered. Set its delay again until it is empty, then delete it"
        )
    reasons = list(denied(settings, probe.rights_on_topics(targets(settings))))
    if reasons:
        raise AuthError("; ".join(reasons))


def _not_read_any_more(settings: Settings, probe: Probe) -> list[str]:
    found = probe.topics([rf"^{re.escape(settings.kafka_group_id)}\.retry\.[0-9]+$"])
    return [topic for topic in sorted(found) if topic not in settings.retry_topics and not settings.consumes(topic)]


def _topic_settings(delay_ms: int, largest_bytes: int | None) -> dict[str, str]:
    settings = {"cleanup.policy": "delete", "retention.ms": str(max(_LEAST_RETENTION_MS, 2 * delay_ms + _DAY_MS))}
    if largest_bytes is not None:
        settings["max.message.bytes"] = str(min(2**31 - 1, largest_bytes + _ADDED_BYTES))
    return settings
