"""`delayed-consumer check-config`: every effective setting and its source; with --connect also what the brokers say."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TextIO

import orjson
from rich.console import Console
from rich.table import Table

from delayed_consumer.errors import AuthError, ConfigError, ExitCode, ServiceError
from delayed_consumer.probe import Probe, Rights, check_client_config, missing_topics
from delayed_consumer.settings import Settings, as_variables

PIPED_COLUMNS = 1000  # a line of a file or a pipe is not broken


@dataclass(frozen=True, slots=True)
class TopicAnswer:
    """What the brokers say of a topic to read."""

    topic: str
    partitions: int
    delay_seconds: float
    retention_seconds: float | None  # None: kept for ever, or not told


@dataclass(frozen=True, slots=True)
class Answers:
    """What the brokers say: of each topic, what is wrong, and what we may not do."""

    topics: list[TopicAnswer]
    problems: list[str]
    denied: list[str]


def check_config(settings: Settings, *, as_json: bool, connect: bool, out: TextIO) -> int:
    """Shows the settings and the warnings about them. Returns the exit code.

    Raises:
        ConfigError: the client refuses a property, or the brokers have not what the settings need; every problem
            in one message.
        AuthError: nothing else is wrong than that the brokers do not let us in or do not permit what we need.
        UnreachableError: the brokers do not answer.
    """
    check_client_config(settings.consumer_config() | settings.producer_config())
    show = _show_json if as_json else _show_tables
    try:
        answers = _ask(settings) if connect else Answers([], [], [])
    except ServiceError:
        show(settings, [], out)
        raise
    show(settings, answers.topics, out)
    if answers.problems:
        raise ConfigError([*answers.problems, *answers.denied])
    if answers.denied:
        raise AuthError("; ".join(answers.denied))
    return ExitCode.OK


def _ask(settings: Settings) -> Answers:
    target = [settings.sink_topic] if settings.sink_topic is not None else []
    with Probe(settings.client_config(), timeout_s=settings.start_timeout_seconds) as probe:
        sources = probe.topics(settings.kafka_topics)
        targets = probe.topics(target)
        rights = probe.rights_on_topics([*sources, *targets])
        group_rights = probe.rights_on_group(settings.kafka_group_id)
        retention_ms = probe.retention_ms(sources)
    topics = [_answer(settings, topic, count, retention_ms.get(topic)) for topic, count in sorted(sources.items())]
    problems = [*_missing(settings, sources, targets), *_deleted_too_soon(topics)]
    return Answers(topics, problems, list(_denied(settings, rights, group_rights)))


def _answer(settings: Settings, topic: str, partitions: int, retention_ms: int | None) -> TopicAnswer:
    retention_seconds = None if retention_ms is None else retention_ms / 1000
    return TopicAnswer(topic, partitions, settings.delay_ms(topic) / 1000, retention_seconds)


def _missing(settings: Settings, sources: Collection[str], targets: Collection[str]) -> Iterator[str]:
    for topic in missing_topics(settings.kafka_topics, sources):
        yield f"KAFKA_TOPICS: the topic {topic} does not exist; create it"
    if settings.sink_topic is not None and not targets:
        yield f"SINK_TOPIC: the topic {settings.sink_topic} does not exist; create it"


def _deleted_too_soon(topics: Collection[TopicAnswer]) -> Iterator[str]:
    for one in topics:
        if one.retention_seconds is not None and one.retention_seconds <= one.delay_seconds:
            yield (
                f"the topic {one.topic} keeps records for {one.retention_seconds:g} s, not longer than their delay of "
                f"{one.delay_seconds:g} s: they are deleted before they are due; raise its retention.ms"
            )


def _denied(settings: Settings, topics: Mapping[str, Rights], group: Rights) -> Iterator[str]:
    for topic, rights in topics.items():
        if topic == settings.sink_topic:
            if not rights.write:
                yield f"SINK_TOPIC: we may not write to the topic {topic}; permit it"
        elif not rights.read:
            yield f"KAFKA_TOPICS: we may not read the topic {topic}; permit it"
    if not group.read:
        yield f"KAFKA_GROUP_ID: we may not join the group {settings.kafka_group_id}; permit it"


def _show_json(settings: Settings, topics: Collection[TopicAnswer], out: TextIO) -> None:
    shown = {
        "settings": {
            variable: {"value": value, "source": settings.origin(variable)}
            for variable, value in as_variables(settings.masked()).items()
        },
        "warnings": settings.warnings(),
        "topics": [asdict(topic) for topic in topics],
    }
    out.write(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode() + "\n")


def _show_tables(settings: Settings, topics: Collection[TopicAnswer], out: TextIO) -> None:
    console = Console(file=out, markup=False, highlight=False, width=None if out.isatty() else PIPED_COLUMNS)
    console.print(_settings_table(settings))
    for warning in settings.warnings():
        console.print(f"warning: {warning}")
    if topics:
        console.print(_topics_table(topics))


def _settings_table(settings: Settings) -> Table:
    table = Table("setting", "value", "source", box=None, pad_edge=False)
    for variable, value in as_variables(settings.masked()).items():
        table.add_row(variable, _text(value), settings.origin(variable))
    return table


def _topics_table(topics: Collection[TopicAnswer]) -> Table:
    table = Table("topic", "partitions", "delay", "retention", box=None, pad_edge=False)
    for one in topics:
        retention = "" if one.retention_seconds is None else f"{one.retention_seconds:g} s"
        table.add_row(one.topic, str(one.partitions), f"{one.delay_seconds:g} s", retention)
    return table


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ",".join(value)
    return orjson.dumps(value).decode() if isinstance(value, dict) else str(value)
