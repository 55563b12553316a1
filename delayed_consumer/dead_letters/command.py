"""What the three actions have in common: the topic, and everything that asks the brokers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar, TextIO

from delayed_consumer.clock import SystemClock
from delayed_consumer.dead_letters.letters import LetterId
from delayed_consumer.dead_letters.listing import Topic, show_list
from delayed_consumer.dead_letters.reading import Reader
from delayed_consumer.dead_letters.replaying import replay
from delayed_consumer.dead_letters.selection import Selection, selection_of
from delayed_consumer.dead_letters.showing import show_letter
from delayed_consumer.dead_letters.targets import Targets
from delayed_consumer.errors import ConfigError, ExitCode, ServiceError
from delayed_consumer.probe import Probe
from delayed_consumer.settings import Settings

ANSWER_TIMEOUT_S = 10.0
PATIENCE_S = 30.0  # an election of leaders takes seconds


class CannotWriteError(ServiceError):
    """stdout takes no more, as a full disk."""

    exit_code: ClassVar[int] = ExitCode.GAVE_UP


class NotThereError(ServiceError):
    """There is no dead letter of that id."""

    exit_code: ClassVar[int] = ExitCode.GAVE_UP


def dead_letters(settings: Settings, options: argparse.Namespace, *, out: TextIO, err: TextIO) -> int:
    """Lists, shows or replays, as ``options`` (see `arguments`) say. Returns the exit code.

    Raises:
        ConfigError: DEAD_LETTER_TOPIC is missing, or it, or the topic to replay to, does not exist.
        AuthError: the brokers do not let us in, or do not permit us to read the topic.
        UnreachableError: the brokers do not answer.
        NotThereError: nothing to show.
        NotReplayedError: some records were not replayed.
        CannotWriteError: what the result says is lost; what was replayed is not.
    """
    name = settings.dead_letter_topic
    if name is None:
        raise ConfigError(["DEAD_LETTER_TOPIC is missing: the topic whose dead letters are meant"])
    with (
        Probe(settings.client_config(), timeout_s=min(ANSWER_TIMEOUT_S, settings.start_timeout_seconds)) as probe,
        Reader(settings.client_config(), name, _patience_s(settings)) as reader,
    ):
        partitions = probe.topics([name]).get(name)
        if partitions is None:
            raise ConfigError([f"DEAD_LETTER_TOPIC: the topic {name} does not exist"])
        topic = Topic(name, reader.ranges(partitions), reader)
        with _writing(out):
            if options.action == "list":
                return _list(topic, options, out, err)
            if options.action == "show":
                return _show(topic, options, out, err)
            targets = Targets(probe, settings.delay_ms, name, options.to)
            return replay(topic, targets, options, settings.producer_config(), _patience_s(settings), out, err)


@contextmanager
def _writing(out: TextIO) -> Iterator[None]:
    """Turns the refusal of a write into ours, that of the last one too. A reader that has left is no news."""
    try:
        yield
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CannotWriteError(f"cannot write to stdout: {error.strerror}") from error


def _list(topic: Topic, options: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    selection = selection_of(options, SystemClock().now_ms())
    show_list(topic, selection, options.limit, as_json=options.json, out=out, err=err)
    return ExitCode.OK


def _show(topic: Topic, options: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    wanted = LetterId(*options.id)
    selection = Selection(ids=frozenset([wanted]))
    for letter in topic.letters(selection, selection.spans(topic.ranges), err):
        show_letter(letter, as_json=options.json, full=options.full, out=out)
        return ExitCode.OK
    raise NotThereError(f"there is no dead letter {wanted} in {topic.name}: {_why_not(wanted, topic.ranges)}")


def _why_not(wanted: LetterId, ranges: Mapping[int, tuple[int, int]]) -> str:
    if wanted.partition not in ranges:
        return f"its partitions are 0 to {len(ranges) - 1}"
    first, end = ranges[wanted.partition]
    if first <= wanted.offset < end:
        return "a transaction's marker, or compacted away"
    return f"partition {wanted.partition} has {f'the offsets {first} to {end - 1}' if first < end else 'no records'}"


def _patience_s(settings: Settings) -> float:
    return min(PATIENCE_S, settings.start_timeout_seconds)
