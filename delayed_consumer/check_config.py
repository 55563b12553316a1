"""`delayed-consumer check-config`: every effective setting and its source; with --connect also what the brokers say."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TextIO

import orjson
from rich.console import Console
from rich.table import Table

from delayed_consumer.errors import AuthError, ConfigError, ExitCode, FatalError, ServiceError
from delayed_consumer.failure_topics import create, dead_letter_topic, retry_topics
from delayed_consumer.probe import Probe, Rights, check_client_config, missing_topics
from delayed_consumer.settings import Settings, as_variables
from delayed_consumer.sinks.http_address import read_url, resolve

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
    with Probe(settings.client_config(), timeout_s=settings.start_timeout_seconds) as probe:
        found = probe.topics(settings.subscriptions)
        targets = probe.topics(list(_targets(settings).values()))
        rights = probe.rights_on_topics([*found, *targets])
        group_rights = probe.rights_on_group(settings.kafka_group_id)
        retention_ms = probe.retention_ms(found)
        uncreatable, forbidden = _retry_topics(settings, probe, found)
    topics = [_answer(settings, topic, count, retention_ms.get(topic)) for topic, count in sorted(found.items())]
    problems = [*_missing(settings, found, targets), *uncreatable, *_deleted_too_soon(topics), *_nowhere(settings)]
    return Answers(topics, problems, [*_denied(settings, rights, group_rights), *forbidden])


def _targets(settings: Settings) -> dict[str, str]:
    """The topics that are written to and must exist, by their variables."""
    topics = {"SINK_TOPIC": settings.sink_topic, "DEAD_LETTER_TOPIC": dead_letter_topic(settings)}
    return {variable: topic for variable, topic in topics.items() if topic is not None}


def _retry_topics(settings: Settings, probe: Probe, found: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Why a start could not create the missing ones: what the brokers refuse, and what we may not do."""
    sources = {topic: count for topic, count in found.items() if topic not in settings.retry_topics}
    problems: list[str] = []
    forbidden: list[str] = []
    for topic in retry_topics(settings, probe, sources):
        try:
            create(probe, topic, only_ask=True)
        except ConfigError as error:
            problems += error.problems
        except AuthError as error:
            forbidden.append(str(error))
    return problems, forbidden


def _answer(settings: Settings, topic: str, partitions: int, retention_ms: int | None) -> TopicAnswer:
    retention_seconds = None if retention_ms is None else retention_ms / 1000
    return TopicAnswer(topic, partitions, settings.delay_ms(topic) / 1000, retention_seconds)


def _missing(settings: Settings, found: Collection[str], targets: Collection[str]) -> Iterator[str]:
    for topic in missing_topics(settings.kafka_topics, found):
        yield f"KAFKA_TOPICS: the topic {topic} does not exist; create it"
    for variable, topic in _targets(settings).items():
        if topic not in targets:
            yield f"{variable}: the topic {topic} does not exist; create it"


def _deleted_too_soon(topics: Collection[TopicAnswer]) -> Iterator[str]:
    for one in topics:
        if one.retention_seconds is not None and one.retention_seconds <= one.delay_seconds:
            yield (
                f"the topic {one.topic} keeps records for {one.retention_seconds:g} s, not longer than their delay of "
                f"{one.delay_seconds:g} s: they are deleted before they are due; raise its retention.ms"
            )


def _nowhere(settings: Settings) -> Iterator[str]:
    """Whether the name in SINK_URL means something. No request is sent: the target need not be there yet."""
    if settings.sink_url is None:
        return
    target = read_url(settings.sink_url)
    try:
        resolve(target.host, target.port)
    except FatalError as error:
        yield str(error)
    except OSError as error:
        yield f"SINK_URL: the name {target.host} cannot be resolved: {error.strerror}"


def _denied(settings: Settings, topics: Mapping[str, Rights], group: Rights) -> Iterator[str]:
    written = {topic: variable for variable, topic in _targets(settings).items()}
    written |= dict.fromkeys(settings.retry_topics, "RETRY_DELAYS_SECONDS")
    for topic, rights in topics.items():
        if topic in written and not rights.write:
            yield f"{written[topic]}: we may not write to the topic {topic}; permit it"
        if (settings.consumes(topic) or topic in settings.retry_topics) and not rights.read:
            variable = written.get(topic, "KAFKA_TOPICS")
            yield f"{variable}: we may not read the topic {topic}; permit it"
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
        return ",".join(map(str, value))
    return orjson.dumps(value).decode() if isinstance(value, dict) else str(value)
