"""What `dead-letters` selects, how far a replay has come, and what it shows, without a broker."""

from __future__ import annotations

import argparse
import io
import os
import shlex
import signal
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delayed_consumer.cli import _parser
from delayed_consumer.dead_letters.arguments import Time, continuation, parse_time
from delayed_consumer.dead_letters.frontier import Frontier
from delayed_consumer.dead_letters.interrupt import Interrupt
from delayed_consumer.dead_letters.letters import DeadLetter, LetterId
from delayed_consumer.dead_letters.listing import Topic, show_list
from delayed_consumer.dead_letters.outbox import Answer, Sending, replay_properties
from delayed_consumer.dead_letters.progress import Progress
from delayed_consumer.dead_letters.reading import Reader
from delayed_consumer.dead_letters.replay import Replay
from delayed_consumer.dead_letters.report import Report
from delayed_consumer.dead_letters.selection import Selection, Span
from delayed_consumer.dead_letters.showing import show_letter
from delayed_consumer.dead_letters.targets import ANY_PARTITION, NOW, Target
from delayed_consumer.dead_letters.text import escaped, hex_dump, moment
from delayed_consumer.errors import ConfigError, ServiceError, UnreachableError
from delayed_consumer.origin import Origin
from tests.loop.clock import ManualClock
from tests.support.dead_letters import dead_letter
from tests.support.topics import Headers, Record
from tests.test_cli import program

HOUR_MS = 3_600_000
NOW_MS = 1_700_000_000_000
TARGET = Target("orders", partitions=3, max_message_bytes=None, retention_ms=None, delay_ms=900_000)


class Message:
    """A record as the client has it."""

    def __init__(self, record: Record, offset: int, headers: Headers | None = None) -> None:
        self._record = record
        self._offset = offset

    def partition(self) -> int:
        return self._record.partition

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, self._record.timestamp_ms

    def key(self) -> bytes | None:
        return self._record.key

    def value(self) -> bytes | None:
        return self._record.value

    def headers(self) -> Headers | None:
        return self._record.headers or None


class Unreadable(Message):
    """To look at its headers again would crash the process."""

    looks = 0

    def headers(self) -> Headers | None:
        self.looks += 1
        raise SystemError("a header's name is not UTF-8")


def letter(record: Record, offset: int = 0) -> DeadLetter:
    return DeadLetter.of(Message(record, offset))


def of_orders(offset: int, at: int = 0, **more: Any) -> DeadLetter:
    return letter(dead_letter("orders", died_ms=NOW_MS, at=at, **more), offset)


# What a record says of itself


def test_a_dead_letter_has_the_headers_that_it_had_before() -> None:
    own: Headers = [("a", b"1"), ("a", None), ("delayed-consumer.error", b"of a former life")]
    found = of_orders(0, headers=own, error="now")
    assert found.own_headers == own
    assert found.error == "now"


@pytest.mark.parametrize("topic", ["^.*", "", "a b", "../etc", "x" * 250])
def test_headers_that_name_no_topic_are_somebody_elses(topic: str) -> None:
    found = of_orders(0)
    forged = [
        (name, topic.encode() if name == "delayed-consumer.topic" else value) for name, value in found.headers or []
    ]
    assert letter(Record(NOW_MS, headers=forged)).origin is None


def test_headers_that_cannot_be_read_are_looked_at_once_and_said_to_be_so() -> None:
    message = Unreadable(Record(NOW_MS), 5)
    found = DeadLetter.of(message)
    assert (found.headers, found.origin, found.error, message.looks) == (None, None, None, 1)
    assert found.as_document()["headers"] is None
    assert "cannot be read" in shown(found)


# Selecting


def test_until_is_exclusive_and_since_is_not() -> None:
    one = of_orders(0)
    assert Selection(since_ms=NOW_MS, until_ms=NOW_MS + 1).takes(one)
    assert not Selection(until_ms=NOW_MS).takes(one)
    assert not Selection(since_ms=NOW_MS + 1).takes(one)


def test_what_is_passed_over_is_not_taken_though_it_is_named() -> None:
    selection = Selection(ids=frozenset([LetterId(0, 5), LetterId(0, 6)]), after={0: 5})
    assert not selection.takes(of_orders(5))
    assert selection.takes(of_orders(6))
    assert not selection.takes(of_orders(7))


def test_somebody_elses_record_has_no_topic_and_no_error() -> None:
    foreign = letter(Record(NOW_MS))
    assert Selection().takes(foreign)
    assert not Selection(topic="orders").takes(foreign)
    assert not Selection(error="boom").takes(foreign)


def test_only_what_can_hold_the_selection_is_read() -> None:
    ranges = {0: (10, 100_000), 1: (0, 0), 2: (5, 9)}
    assert Selection().spans(ranges) == [Span(0, 10, 100_000), Span(2, 5, 9)]
    assert Selection(after={0: 41, 2: 8}).spans(ranges) == [Span(0, 42, 100_000)]
    named = frozenset(LetterId(*one) for one in [(0, 20), (0, 30), (0, 90_000), (2, 8), (2, 9), (1, 0), (7, 7)])
    assert Selection(ids=named).spans(ranges) == [Span(0, 20, 31), Span(0, 90_000, 90_001), Span(2, 8, 9)]


@given(
    offsets=st.sets(st.integers(0, 60_000), min_size=1, max_size=20),
    after=st.integers(-1, 60_000),
    ranges=st.tuples(st.integers(0, 60_000), st.integers(0, 60_000)),
)
def test_every_named_offset_is_read_exactly_once(offsets: set[int], after: int, ranges: tuple[int, int]) -> None:
    first, end = sorted(ranges)
    selection = Selection(ids=frozenset(LetterId(0, one) for one in offsets), after={0: after})
    spans = selection.spans({0: (first, end)})
    read = [offset for offset in sorted(offsets) for span in spans if span.first <= offset < span.end]
    assert read == sorted(one for one in offsets if one > after and first <= one < end)


# Times and options


def test_a_time_is_an_age_or_a_moment() -> None:
    assert parse_time("90s").at_ms(NOW_MS + 0.5) == NOW_MS - 90_000
    assert parse_time("2d").at_ms(NOW_MS) == NOW_MS - 48 * HOUR_MS
    assert parse_time("999999999d").at_ms(NOW_MS) == 0
    assert parse_time("2023-11-14T22:13:20Z") == Time(NOW_MS)
    local = datetime(2026, 11, 21, 14, 30).astimezone()
    assert parse_time("2026-11-21T14:30") == Time(round(local.timestamp() * 1000))
    for wrong in ("", "yesterday", "5", "-5m", "5w", "2026-13-01", "0001-01-01T00:00+23:00"):
        with pytest.raises(argparse.ArgumentTypeError):
            parse_time(wrong)


def options(*arguments: str) -> argparse.Namespace:
    return _parser().parse_args(["dead-letters", "replay", *arguments])


@pytest.mark.parametrize(
    "arguments",
    [
        ("--all",),
        ("0:1", "12:3"),
        ("--topic", "orders", "--error", 'it\'s "wrong"; rm -rf $HOME', "--until", "2026-11-21T10:00:00+00:00"),
        ("--error=-x", "--to=other", "--new-timestamp", "--dry-run"),
    ],
)
def test_the_command_that_carries_on_is_the_same_but_for_what_is_done(arguments: tuple[str, ...]) -> None:
    first = options(*arguments)
    words = shlex.split(continuation(first, NOW_MS, {1: 5, 0: 7}))
    assert words[:3] == ["delayed-consumer", "dead-letters", "replay"]
    again = options(*words[3:])
    assert again.after == {0: 7, 1: 5}
    again.after, again.wrong_usage = first.after, first.wrong_usage
    assert again == first


def test_an_age_becomes_the_moment_that_it_meant_when_a_replay_is_carried_on() -> None:
    words = shlex.split(continuation(options("--since", "1h"), NOW_MS, {}))
    assert "--after" not in words
    assert options(*words[3:]).since == Time(NOW_MS - HOUR_MS)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("fly",),
        ("show",),
        ("show", "0"),
        ("show", "0:-1"),
        ("list", "--limit", "0"),
        ("list", "--since", "tomorrow"),
        ("replay",),
        ("replay", "--all", "0:1"),
        ("replay", "--all", "--after", "0:1,0:2"),
        ("replay", "--all", "--after", ""),
    ],
)
def test_a_wrong_usage_is_2(arguments: tuple[str, ...]) -> None:
    ended = program("dead-letters", *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")


def test_help_has_examples_and_says_that_repeating_repeats() -> None:
    for action in ("list", "show", "replay"):
        ended = program("dead-letters", action, "--help")
        assert ended.returncode == 0
        assert f"delayed-consumer dead-letters {action}" in ended.stdout.partition("examples:")[2]
    assert "repeats its records" in ended.stdout


def test_without_the_topic_nobody_is_asked() -> None:
    ended = program("dead-letters", "list", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1", KAFKA_TOPICS="orders")
    assert (ended.returncode, ended.stdout) == (78, "")
    assert ended.stderr.startswith("delayed-consumer: DEAD_LETTER_TOPIC is missing")


# Where a record goes, and with which timestamp


def origin(partition: int = 0, timestamp_ms: int = NOW_MS) -> Origin:
    return Origin("orders", partition, 0, timestamp_ms, [])


def test_a_record_goes_to_the_partition_it_came_from_where_that_exists() -> None:
    assert [TARGET.partition(origin(number)) for number in (0, 2, 3, -5)] == [0, 2, ANY_PARTITION, ANY_PARTITION]


def test_a_timestamp_is_kept_unless_the_topic_would_soon_delete_the_record() -> None:
    old_ms = NOW_MS - 5 * HOUR_MS
    kept = {None: old_ms, 7 * HOUR_MS: old_ms, 5 * HOUR_MS: NOW_MS - 900_000, HOUR_MS: NOW_MS - 900_000}
    for retention_ms, timestamp_ms in kept.items():
        target = Target("orders", 3, None, retention_ms, delay_ms=900_000)
        assert target.timestamp_ms(origin(timestamp_ms=old_ms), NOW_MS) == timestamp_ms
        assert target.timestamp_ms(origin(timestamp_ms=-1), NOW_MS) == NOW


def test_a_newer_timestamp_is_never_older_than_the_own_one() -> None:
    target = Target("orders", 3, None, retention_ms=10_000, delay_ms=900_000)
    assert target.timestamp_ms(origin(timestamp_ms=NOW_MS - 9_000), NOW_MS) == NOW_MS - 9_000


def test_no_setting_of_the_producer_can_lose_or_repeat_a_record() -> None:
    properties = replay_properties({"acks": "0", "enable.idempotence": False, "linger.ms": 7}, 2_000, 30)
    assert (properties["acks"], properties["enable.idempotence"]) == ("all", True)
    assert (properties["linger.ms"], properties["batch.size"]) == (7, 2_000)


# How far a replay has come


class Held:
    """An outbox that answers when it is told to."""

    def __init__(self, breaks_at: int | None = None) -> None:
        self.held: list[tuple[Sending, Answer]] = []
        self.abandoned = False
        self._breaks_at = breaks_at

    def send(self, sending: Sending, answer: Answer) -> None:
        if len(self.held) == self._breaks_at:
            raise UnreachableError("nobody answers")
        self.held.append((sending, answer))

    def answer(self, *offsets: int, refused: str | None = None) -> None:
        for sending, answer in self.held:
            if sending.letter.id.offset in offsets:
                answer(refused)

    def finish(self) -> None:
        pass

    def abandon(self) -> None:
        self.abandoned = True


class Run:
    """A replay into a held outbox, and what it said."""

    def __init__(self, selection: Selection | None = None, outbox: Held | None = None) -> None:
        self.said: list[str] = []
        self.outbox = outbox or Held()
        self.interrupt = Interrupt()
        self.replay = Replay(
            selection or Selection(),
            lambda origin: TARGET if origin.topic == "orders" else ConfigError(["it does not exist"]),
            self.outbox,
            Report(self.said.append),
            lambda: NOW_MS,
            new_timestamp=False,
        )

    def __call__(self, letters: Iterable[DeadLetter]) -> Mapping[int, int]:
        """Where another replay would carry on when this one ends now."""
        self.replay.run(letters, Progress(1, io.StringIO()), self.interrupt)
        return self.after

    @property
    def after(self) -> Mapping[int, int]:
        return self.replay.frontier.after()


def test_a_replay_is_carried_on_behind_what_is_acknowledged_without_a_gap() -> None:
    run = Run()
    assert run([of_orders(offset) for offset in (3, 4, 5, 6)]) == {0: 2}
    run.outbox.answer(5, 6)
    assert run.after == {0: 2}
    run.outbox.answer(3)
    assert run.after == {0: 3}
    run.outbox.answer(4)
    assert run.after == {0: 6}


def test_each_partition_is_carried_on_at_its_own_place() -> None:
    run = Run(Selection(after={2: 9, 1: 1}))
    run([of_orders(0), of_orders(1), of_orders(2, at=1), of_orders(7, at=1)])
    run.outbox.answer(0, 1, 2)
    assert run.after == {0: 1, 1: 6, 2: 9}


def test_what_is_refused_or_left_out_is_not_waited_for() -> None:
    run = Run()
    gone = letter(dead_letter("gone", died_ms=NOW_MS), 1)
    assert run([of_orders(0), gone, letter(Record(NOW_MS), 2)]) == {}
    run.outbox.answer(0, refused="too large")
    assert run.after == {0: 2}
    assert run.said == [
        "delayed-consumer: 0:1 of gone: it does not exist",
        "delayed-consumer: 0:0 of orders: too large",
    ]


def test_brokers_that_go_away_end_it_and_what_was_not_sent_is_not_done() -> None:
    run = Run(outbox=Held(breaks_at=2))
    with pytest.raises(ServiceError):
        run([of_orders(offset) for offset in range(5)])
    assert run.outbox.abandoned
    run.outbox.answer(0, 1)
    assert run.after == {0: 1}


def test_named_records_that_are_not_there_are_said_to_be_so() -> None:
    run = Run(Selection(ids=frozenset([LetterId(0, 1), LetterId(0, 9), LetterId(0, 2)]), after={0: 2}))
    run([])
    assert run.said == ["delayed-consumer: 0:9 is not there"]
    assert run.replay.missing == 1


@given(data=st.data())
def test_nothing_unanswered_is_ever_passed_over(data: st.DataObject) -> None:
    """Against a plain model: all offsets up to the one told are answered, and the next one sent is not."""
    frontier = Frontier({})
    sent: list[int] = []
    answered: set[int] = set()
    for offset in range(data.draw(st.integers(1, 30))):
        frontier.sent(LetterId(0, offset))
        frontier.read(LetterId(0, offset))
        sent.append(offset)
        for one in data.draw(st.lists(st.sampled_from(sent), max_size=3)):
            frontier.answered(LetterId(0, one))
            answered.add(one)
        last = frontier.after().get(0, -1)
        assert set(range(last + 1)) <= answered
        assert last + 1 not in answered


def test_the_first_signal_is_noted_and_the_second_one_acts() -> None:
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# What is shown


def shown(one: DeadLetter, *, full: bool = False) -> str:
    out = io.StringIO()
    show_letter(one, as_json=False, full=full, out=out)
    return out.getvalue()


class Log(Reader):
    """Dead letters that are in memory."""

    def __init__(self, letters: Sequence[DeadLetter]) -> None:
        self._letters = letters

    def read(self, spans: Iterable[Span], stopped: Any = None) -> Any:
        return (
            one
            for span in spans
            for one in self._letters
            if one.id.partition == span.partition and span.first <= one.id.offset < span.end
        )


def listed(letters: Sequence[DeadLetter], limit: int | None = None, *, as_json: bool = False) -> str:
    out = io.StringIO()
    topic = Topic("letters", {0: (0, 1_000), 1: (0, 1_000)}, Log(letters))
    show_list(topic, Selection(), limit, as_json=as_json, out=out, err=io.StringIO())
    return out.getvalue()


HOSTILE = "\x1b]0;owned\x07\x9b31m\r[bold red]:warning:‮"


def test_nothing_of_a_record_reaches_the_terminal_as_a_command_or_as_markup() -> None:
    key = HOSTILE.encode()
    one = of_orders(0, error=HOSTILE, key=key, value=key + b"\nerror          forged", headers=[(HOSTILE, key)])
    for text in (listed([one]), shown(one)):
        assert all(char.isprintable() or char == "\n" for char in text)
        assert "\\x1b]0;owned\\x07\\x9b31m\\r[bold red]:warning:\\u202e" in text
        assert not any(line.startswith("error          forged") for line in text.splitlines())


def test_a_table_has_the_newest_first_whatever_their_partitions() -> None:
    letters = [letter(dead_letter("orders", died_ms=NOW_MS + 10 * index, at=index % 2), index) for index in range(6)]
    rows = listed(letters, 3).splitlines()
    assert [row.split()[0] for row in rows[1:4]] == ["1:5", "0:4", "1:3"]
    assert rows[4:] == ["total 6 in letters", "shown are the newest 3; --limit shows more, --json all"]


def test_an_empty_table_has_the_total_only() -> None:
    assert listed([]) == "total 0 in letters\n"
    assert listed([], 5, as_json=True).split() == ['{"topic":"letters","dead_letters":[', '],"total":0}']


def test_what_is_not_utf_8_is_dumped_in_hexadecimal_and_cut() -> None:
    value = bytes(range(256)) * 4
    text = shown(of_orders(0, value=value))
    assert "  000000f0  f0 f1 f2 f3 f4 f5 f6 f7 f8 f9 fa fb fc fd fe ff  ................" in text.splitlines()
    assert "… 512 bytes more; --full shows all" in text
    assert "more" not in shown(of_orders(0, value=value), full=True)
    assert hex_dump(b"Kafka\x00\xff") == ["00000000  4b 61 66 6b 61 00 ff                             Kafka.."]


def test_nulls_and_empty_values_can_be_told_apart() -> None:
    assert "value          - (a tombstone)" in shown(of_orders(0, value=None))
    assert "value          0 B" in shown(of_orders(0, value=b""))
    assert escaped(None) == "-"
    assert escaped(b"a\xff\n") == "a\\xff\\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def looks(progress: Progress, count: int) -> list[bool]:
    return [progress.is_time() for _ in range(count)]


def test_a_terminal_gets_a_bar_once_it_takes_long() -> None:
    err, clock = Terminal(), ManualClock()
    with Progress(400, err, clock=clock) as progress:
        assert not any(looks(progress, 200))
        clock.wait_ms(1_000)
        assert looks(progress, 200).count(True) == 2
        progress.show("7 acknowledged")
        progress.say("0:1 is not there")
    assert "7 acknowledged" in err.getvalue()
    assert "0:1 is not there\n" in err.getvalue()


def test_elsewhere_a_replay_says_now_and_then_how_far_it_has_come_and_a_list_nothing() -> None:
    err, clock = io.StringIO(), ManualClock()
    replaying, listing = (Progress(400, err, lines=lines, clock=clock) for lines in (True, False))
    clock.wait_ms(5_000)
    assert looks(replaying, 200)[-1]
    assert not any(looks(listing, 200))
    replaying.show("7 acknowledged, --after 0:6")
    assert err.getvalue() == "200 of 400 read, 7 acknowledged, --after 0:6\n"
    assert not any(looks(replaying, 200))


def test_moments_beyond_the_calendar_are_shown_as_numbers() -> None:
    zone = timezone(timedelta(hours=2))
    assert moment(NOW_MS, zone) == "2023-11-15 00:13:20"
    assert moment(2**63 - 1, UTC) == f"{2**63 - 1} ms"
    assert moment(-1) == "-"
