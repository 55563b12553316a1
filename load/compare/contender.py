"""Who is compared, and whether it can run here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec

from load.compare import java_build, postgres_server
from load.compare.log import Log
from load.compare.output import Format

_Prepared = AbstractContextManager[tuple[int | None, Mapping[str, str]]]

_Command = Callable[[], Sequence[str]]

_PACKAGE = "load.compare.contenders"
_JVM_START_SECONDS = 4.0

BARE = "bare"
SERVICE_LOG, SERVICE_PYTHON = SERVICES = ("service-log", "service-python")
BY_DEFAULT = (*SERVICES, "aiokafka", "java", "spring", "naive-pause", "sleeping", "postgres", BARE)


def _service() -> Sequence[str]:
    return [sys.executable, "-m", "delayed_consumer"]


@contextmanager
def _as_it_is(_: Log) -> Iterator[tuple[None, Mapping[str, str]]]:
    yield None, {}


@dataclass(frozen=True)
class Contender:
    name: str
    words: str
    command: _Command
    settings: Mapping[str, str] = field(default_factory=dict)
    output: Format = "rows"
    start_seconds: float = 2.0  # how long before the first record is due it is started
    waits: bool = True  # else it knows no delay, and takes part in catch-up alone
    missing: Callable[[], str | None] = lambda: None
    """Why it cannot run here, or None."""
    prepared: Callable[[Log], _Prepared] = _as_it_is
    """Makes ready for a run, before its clock starts; yields the port it reads from (None: Kafka's) and settings."""


def contenders(queue: postgres_server.PostgresQueue) -> dict[str, Contender]:
    """All there are, by name, in the order of the report."""
    handler = {"SINK": "python", "SINK_HANDLER": f"{_PACKAGE}.handler:take"}
    everyone = [
        Contender(SERVICE_LOG, "this service, SINK=log", _service, {"SINK": "log"}, "log"),
        Contender(SERVICE_PYTHON, "this service, SINK=python, a @batch handler", _service, handler),
        Contender(
            "aiokafka",
            "aiokafka, a task for each partition sleeps until due",
            _python("aiokafka_tasks"),
            missing=_aiokafka_missing,
        ),
        _java("java", "Java KafkaConsumer: hold, pause, resume", "PlainConsumer"),
        _java("spring", "Spring Kafka's back-off manager", "SpringConsumer"),
        _java("spring-tuned", "Spring Kafka's back-off manager, tuned", "SpringConsumer", "tuned"),
        Contender("naive-pause", "confluent-kafka: pause, seek back, resume", _python("naive_pause")),
        Contender("sleeping", "confluent-kafka: sleep until due", _python("sleeping")),
        Contender(
            "postgres",
            "a table in PostgreSQL, SKIP LOCKED in batches of 100",
            _python("postgres_queue"),
            missing=postgres_server.missing,
            prepared=queue.filled,
        ),
        Contender(BARE, "confluent-kafka: a bare consume loop", _python("bare"), waits=False),
    ]
    return {one.name: one for one in everyone}


def _python(module: str) -> _Command:
    return lambda: [sys.executable, "-m", f"{_PACKAGE}.{module}"]


def _java(name: str, words: str, main_class: str, *arguments: str) -> Contender:
    return Contender(
        name,
        words,
        lambda: java_build.command(main_class, *arguments),
        missing=java_build.missing,
        start_seconds=_JVM_START_SECONDS,
    )


def _aiokafka_missing() -> str | None:
    return None if find_spec("aiokafka") is not None else "the package aiokafka is not installed"
