"""`dead-letters` as a shell sees it, on topics that a real broker keeps."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Message, Producer, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # it is public, but not marked so

from load.broker import Broker, free_ports
from tests.conftest import Kafka, ServiceStarter
from tests.kafka.test_dead_letters import relay_to, take_messages_of, wait_for_commit
from tests.kafka.test_lag import GuardedBroker, login, permit
from tests.support.dead_letters import ROOT, command, dead_letter, environment, ids, listed
from tests.support.topics import Record, Topic, admin, create_topic, now_ms, read_all, send, unique
from tests.support.wait import wait_until

HOUR_MS = 3_600_000
TIMEOUT_SECONDS = 20.0


@pytest.fixture
def origin(kafka: Kafka) -> Topic:
    return create_topic(kafka.bootstrap, partitions=3)


@pytest.fixture
def letters(kafka: Kafka) -> Topic:
    return create_topic(kafka.bootstrap, partitions=2)


def seen(message: Message) -> tuple[object, ...]:
    """Everything of a record but its offset."""
    return (
        message.partition(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        message.headers() or [],
    )


def test_a_list_has_what_each_dead_letter_says_of_its_origin(origin: Topic, letters: Topic) -> None:
    died_ms = now_ms()
    letters.produce(
        dead_letter(origin.name, partition=2, offset=7, error="no stock", origin_ms=died_ms - HOUR_MS, died_ms=died_ms),
        dead_letter(origin.name, key=None, value=None, headers=[("a", b"1"), ("a", None), ("b", b"\xff")], at=1),
        Record(died_ms, value=b"\xfe\x00", key=b"somebody else's"),
    )
    document = listed(letters)
    assert document["total"] == 3
    assert ids(document) == ["0:0", "0:1", "1:0"]
    first, foreign, bare = document["dead_letters"]
    assert first["origin"] == {
        "topic": origin.name,
        "partition": 2,
        "offset": 7,
        "timestamp_ms": died_ms - HOUR_MS,
    }
    assert (first["error"], first["attempts"], first["timestamp_ms"]) == ("no stock", 3, died_ms)
    assert (first["key"], first["value"], first["headers"]) == ("key", "value", [])
    assert (foreign["origin"], foreign["error"], foreign["attempts"]) == (None, None, None)
    assert foreign["value"] == {"base64": "/gA="}
    assert (bare["key"], bare["value"]) == (None, None)
    assert bare["headers"] == [["a", "1"], ["a", None], ["b", {"base64": "/w=="}]]


def test_a_list_can_be_narrowed_by_topic_time_error_and_number(origin: Topic, letters: Topic) -> None:
    at_ms = now_ms() - 10 * HOUR_MS
    letters.produce(
        *[dead_letter(origin.name, error=f"E{index}", died_ms=at_ms + index * HOUR_MS) for index in range(5)]
    )
    letters.produce(dead_letter("another", error="e1 timeout", died_ms=at_ms + 5 * HOUR_MS, at=1))
    assert ids(listed(letters, "--topic", "another")) == ["1:0"]
    assert ids(listed(letters, "--error", "e1")) == ["0:1", "1:0"]
    assert ids(listed(letters, "--since", "450m")) == ["0:3", "0:4", "1:0"]
    until = datetime.fromtimestamp((at_ms + HOUR_MS) / 1000, UTC).isoformat()
    assert ids(listed(letters, "--until", until)) == ["0:0"]
    assert ids(listed(letters, "--since", until, "--until", "450m", "--topic", origin.name)) == ["0:1", "0:2"]
    newest = listed(letters, "--limit", "2")
    assert (ids(newest), newest["total"]) == (["0:4", "1:0"], 6)
    assert listed(letters, "--error", "nowhere") == {"topic": letters.name, "dead_letters": [], "total": 0}


def test_a_table_has_the_newest_first_and_the_total(origin: Topic, letters: Topic) -> None:
    letters.produce(*[dead_letter(origin.name, offset=index, error=f"error {index}") for index in range(150)])
    ended = command(letters, "list")
    lines = ended.stdout.splitlines()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert lines[0].split() == ["id", "dead-lettered", "origin", "attempts", "error", "key", "size"]
    assert [line.split()[0] for line in lines[1:101]] == [f"0:{index}" for index in range(149, 49, -1)]
    assert f"{origin.name}[0] 149" in lines[1]
    assert lines[101] == f"total 150 in {letters.name}"
    assert "--limit" in lines[102]


def test_records_of_transactions_that_are_open_or_aborted_are_not_listed(origin: Topic, letters: Topic) -> None:
    producer = Producer({"bootstrap.servers": letters.bootstrap, "transactional.id": letters.name, "log_level": 0})
    producer.init_transactions(TIMEOUT_SECONDS)
    for end in (producer.commit_transaction, producer.abort_transaction):
        producer.begin_transaction()
        send(producer, letters, [dead_letter(origin.name)])
        producer.flush(TIMEOUT_SECONDS)
        end(TIMEOUT_SECONDS)
    producer.begin_transaction()
    send(producer, letters, [dead_letter(origin.name)])
    producer.flush(TIMEOUT_SECONDS)
    assert ids(listed(letters)) == ["0:0"]
    producer.abort_transaction(TIMEOUT_SECONDS)


def test_one_is_shown_with_its_value_whole_or_cut(origin: Topic, letters: Topic) -> None:
    letters.produce(
        dead_letter(
            origin.name, partition=1, offset=5, error="bad\x1b[2Jword", value=b"x" * 10_000, headers=[("h", b"v")]
        )
    )
    shown = command(letters, "show", "0:0")
    assert shown.returncode == 0
    assert "\x1b" not in shown.stdout
    assert f"{origin.name}[1] offset 5" in shown.stdout
    assert "bad\\x1b[2Jword" in shown.stdout
    assert "  h: v" in shown.stdout.splitlines()
    assert "6000 characters more" in shown.stdout
    assert "x" * 10_000 in command(letters, "show", "0:0", "--full").stdout
    assert json.loads(command(letters, "show", "0:0", "--json").stdout)["value"] == "x" * 10_000


@pytest.mark.parametrize(("wanted", "reason"), [("0:1", "offsets 0 to 0"), ("1:0", "no records"), ("9:0", "0 to 1")])
def test_one_that_is_not_there_ends_with_1_and_says_what_is(
    origin: Topic, letters: Topic, wanted: str, reason: str
) -> None:
    letters.produce(dead_letter(origin.name))
    ended = command(letters, "show", wanted)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"no dead letter {wanted} in {letters.name}" in ended.stderr
    assert reason in ended.stderr


def test_a_replay_brings_each_record_back_byte_for_byte(origin: Topic, letters: Topic) -> None:
    at_ms = now_ms() - HOUR_MS
    letters.produce(
        dead_letter(origin.name, partition=2, origin_ms=at_ms, key=b"k\xff", value=b"\x00\xff"),
        dead_letter(origin.name, partition=1, origin_ms=at_ms + 1, key=None, value=None),
        dead_letter(
            origin.name,
            partition=0,
            origin_ms=at_ms + 2,
            value=b"",
            headers=[("same", b"1"), ("same", b"2"), ("none", None), ("delayed-consumer.topic", b"relayed before")],
        ),
        dead_letter(origin.name, partition=1, origin_ms=at_ms + 3, value=b"second of its partition", at=1),
    )
    ended = command(letters, "replay", "--all")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "acknowledged: 4 records" in ended.stdout
    assert sorted(map(seen, read_all(origin, 4)), key=lambda one: int(str(one[1]))) == [
        (2, at_ms, b"k\xff", b"\x00\xff", []),
        (1, at_ms + 1, None, None, []),
        (
            0,
            at_ms + 2,
            b"key",
            b"",
            [("same", b"1"), ("same", b"2"), ("none", None), ("delayed-consumer.topic", b"relayed before")],
        ),
        (1, at_ms + 3, b"key", b"second of its partition", []),
    ]
    assert listed(letters)["total"] == 4


def test_a_dry_run_says_what_a_replay_would_do_and_writes_nothing(origin: Topic, letters: Topic) -> None:
    letters.produce(*[dead_letter(origin.name)] * 3, dead_letter("gone"))
    ended = command(letters, "replay", "--all", "--dry-run")
    assert ended.returncode == 1
    assert [line.split()[:3] for line in ended.stdout.splitlines()[1:3]] == [
        ["gone", "gone", "0"],
        [origin.name, origin.name, "3"],
    ]
    assert "0:3 of gone: the topic gone does not exist" in ended.stderr
    assert read_all(origin, 1, idle_seconds=1) == []
    assert "gone" not in admin(letters.bootstrap).list_topics(timeout=TIMEOUT_SECONDS).topics


def test_a_replay_takes_what_is_selected_and_nothing_else(origin: Topic, letters: Topic) -> None:
    letters.produce(*[dead_letter(origin.name, error=f"E{index}", value=b"%d" % index) for index in range(5)])
    letters.produce(dead_letter(origin.name, value=b"other", at=1))
    assert command(letters, "replay", "0:1", "1:0", "0:3").returncode == 0
    assert command(letters, "replay", "--error", "e4").returncode == 0
    assert [one.value() for one in read_all(origin, 9, idle_seconds=2)] == [b"1", b"3", b"other", b"4"]


def test_a_replay_without_a_selection_is_refused(letters: Topic) -> None:
    for arguments in ([], ["--dry-run"], ["--after", "0:1"], ["--all", "--topic", "orders"], ["0-1"]):
        ended = command(letters, "replay", *arguments)
        assert (ended.returncode, ended.stdout) == (2, ""), arguments


def test_what_is_refused_or_missing_is_reported_and_the_others_go_on(
    kafka: Kafka, origin: Topic, letters: Topic
) -> None:
    small = create_topic(kafka.bootstrap, config={"max.message.bytes": "2000"})
    letters.produce(
        dead_letter("gone"),
        dead_letter(small.name, value=b"x" * 5_000),
        Record(now_ms(), b"somebody else's"),
        dead_letter(small.name, value=b"fits"),
        dead_letter(origin.name, value=b"goes on"),
    )
    ended = command(letters, "replay", *[f"0:{index}" for index in range(5)], "1:99")
    assert ended.returncode == 1
    assert [one.value() for one in read_all(origin, 1)] == [b"goes on"]
    assert [one.value() for one in read_all(small, 1)] == [b"fits"]
    assert "0:0 of gone: the topic gone does not exist" in ended.stderr
    assert f"0:1 of {small.name}: Broker: Message size too large" in ended.stderr
    assert "1:99 is not there" in ended.stderr
    assert "2 were refused, 1 are not there" in ended.stderr
    assert "1 have no origin and cannot be replayed: 0:2" in ended.stdout


def test_small_records_are_not_refused_for_the_size_of_their_batch(kafka: Kafka, letters: Topic) -> None:
    small = create_topic(kafka.bootstrap, config={"max.message.bytes": "2000"})
    letters.produce(*[dead_letter(small.name, value=b"x" * 500)] * 200)
    assert command(letters, "replay", "--all").returncode == 0
    assert len(read_all(small, 200)) == 200


def test_a_large_record_goes_back_where_its_topic_takes_it(kafka: Kafka) -> None:
    large = {"max.message.bytes": "6000000"}
    origin, letters = (create_topic(kafka.bootstrap, config=large) for _ in range(2))
    value = bytes(range(256)) * 20_000
    headers: list[tuple[str, bytes | None]] = [(f"h{index}", b"v") for index in range(1_000)]
    letters.produce(dead_letter(origin.name, value=value, headers=headers), message_max_bytes=6_000_000)
    assert command(letters, "replay", "--all").returncode == 0
    [message] = read_all(origin, 1)
    assert (message.value(), message.headers()) == (value, headers)


def test_somebody_elses_records_are_left_out_without_an_error(letters: Topic) -> None:
    letters.produce(*[Record(now_ms())] * 12)
    ended = command(letters, "replay", "--all")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "12 have no origin and cannot be replayed: 0:0, " in ended.stdout
    assert "0:9 and 2 more" in ended.stdout


def test_a_partition_that_is_no_longer_there_is_chosen_by_the_key(kafka: Kafka, letters: Topic) -> None:
    origin = create_topic(kafka.bootstrap, partitions=2)
    letters.produce(*[dead_letter(origin.name, partition=7, key=b"same")] * 20)
    assert command(letters, "replay", "--all").returncode == 0
    assert len({one.partition() for one in read_all(origin, 20)}) == 1


def test_another_topic_can_take_them(kafka: Kafka, origin: Topic, letters: Topic) -> None:
    other = create_topic(kafka.bootstrap, partitions=3)
    letters.produce(dead_letter(origin.name, partition=2), dead_letter("gone"))
    ended = command(letters, "replay", "--all", "--to", other.name)
    assert ended.returncode == 0
    assert sorted(one.partition() or 0 for one in read_all(other, 2)) == [0, 2]
    assert read_all(origin, 1, idle_seconds=1) == []
    missing = unique("missing")
    for wrong in (missing, letters.name):
        refused = command(letters, "replay", "--all", "--to", wrong)
        assert (refused.returncode, refused.stdout) == (78, "")
        assert wrong in refused.stderr


def test_timestamps_are_kept_or_new_or_the_youngest_that_is_due_where_the_topic_would_delete_the_record(
    kafka: Kafka, letters: Topic
) -> None:
    kept = create_topic(kafka.bootstrap)
    short = create_topic(kafka.bootstrap, config={"retention.ms": str(3 * HOUR_MS)})
    old_ms = now_ms() - 5 * HOUR_MS
    letters.produce(
        dead_letter(kept.name, origin_ms=old_ms),
        dead_letter(short.name, origin_ms=old_ms),
        dead_letter(kept.name, origin_ms=-1),
    )
    begun_ms = now_ms()
    ended = command(letters, "replay", "--all", DELAY_SECONDS="900")
    first, missing = (one.timestamp()[1] for one in read_all(kept, 2))
    [renewed] = (one.timestamp()[1] for one in read_all(short, 1))
    assert first == old_ms
    assert begun_ms <= missing <= now_ms()
    assert begun_ms - 900_000 <= renewed <= now_ms() - 900_000
    assert "1 of them with a newer timestamp" in ended.stdout
    assert command(letters, "replay", "0:0", "--new-timestamp").returncode == 0
    assert read_all(kept, 3)[-1].timestamp()[1] >= begun_ms


def test_no_group_is_made_and_nothing_committed(origin: Topic, letters: Topic) -> None:
    letters.produce(dead_letter(origin.name))
    for arguments in (["list"], ["show", "0:0"], ["replay", "--all"]):
        assert command(letters, *arguments).returncode == 0
    client = admin(letters.bootstrap)
    groups = client.list_consumer_groups(request_timeout=TIMEOUT_SECONDS).result().valid
    assert not [one.group_id for one in groups if "dead" in one.group_id]


@pytest.mark.parametrize("arguments", [("list",), ("show", "0:0"), ("replay", "--all")])
def test_settings_topics_and_brokers_that_are_wrong_end_with_their_codes(
    kafka: Kafka, arguments: tuple[str, ...]
) -> None:
    missing = Topic(kafka.bootstrap, unique("missing"), 1)
    ended = command(missing, *arguments)
    assert (ended.returncode, ended.stdout) == (78, "")
    assert f"DEAD_LETTER_TOPIC: the topic {missing.name} does not exist" in ended.stderr
    unset = command(missing, *arguments, DEAD_LETTER_TOPIC="")
    assert (unset.returncode, unset.stdout) == (78, "")
    assert "DEAD_LETTER_TOPIC" in unset.stderr
    nowhere = Topic(f"127.0.0.1:{free_ports(1)[0]}", "letters", 1)
    away = command(nowhere, *arguments, START_TIMEOUT_SECONDS="1")
    assert (away.returncode, away.stdout) == (69, "")
    assert nowhere.bootstrap in away.stderr
    assert len(away.stderr.splitlines()) == 1


# A record at a time, each waiting 40 ms for more: slow enough to be interrupted in the middle.
SLOW = {"KAFKA_CONF_LINGER_MS": "40", "KAFKA_CONF_QUEUE_BUFFERING_MAX_MESSAGES": "1"}
MANY = 150


class Replaying:
    """A replay in the middle of its work."""

    def __init__(self, letters: Topic, origin: Topic, *arguments: str, **settings: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "delayed_consumer", "dead-letters", "replay", *arguments],
            env=environment(letters, **SLOW, **settings),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: count(origin) >= 5, what="some records")
        assert self._process.poll() is None

    def end(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """Its exit code and what it said on stderr."""
        if number is not None:
            self._process.send_signal(number)
        _, err = self._process.communicate(timeout=60)
        return self._process.returncode, err


def count(topic: Topic) -> int:
    """How many records a topic without transactions has."""
    client = admin(topic.bootstrap)
    end = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    asked = {TopicPartition(topic.name, number): end for number in range(topic.partitions)}
    return sum(one.result(TIMEOUT_SECONDS).offset for one in client.list_offsets(asked).values())


def values(topic: Topic) -> list[bytes]:
    return [message.value() or b"" for message in read_all(topic, count(topic))]


def carry_on(letters: Topic, err: str) -> subprocess.CompletedProcess[str]:
    """Runs the very command that an interrupted replay printed."""
    [line] = [line for line in err.splitlines() if line.startswith("to carry on")]
    words = shlex.split(line.partition(": ")[2])
    assert words[:3] == ["delayed-consumer", "dead-letters", "replay"]
    return command(letters, *words[2:])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_replay_prints_the_command_that_carries_on(
    origin: Topic, letters: Topic, number: signal.Signals, code: int
) -> None:
    sent = [b"%d" % index for index in range(MANY)]
    letters.produce(*[dead_letter(origin.name, value=one, at=index % 2) for index, one in enumerate(sent)])
    ended, err = Replaying(letters, origin, "--error", "boom", "--since", "1h").end(number)
    assert ended == code
    assert f"interrupted by {number.name}" in err
    done = count(origin)
    assert 5 <= done < MANY
    assert carry_on(letters, err).returncode == 0
    # One record is on its way at a time.
    assert MANY <= count(origin) <= MANY + 1
    assert set(values(origin)) == set(sent)


def test_a_replay_whose_brokers_are_gone_ends_with_69_and_carries_on_later(private_kafka: Broker) -> None:
    origin, letters = (create_topic(private_kafka.bootstrap) for _ in range(2))
    sent = [b"%d" % index for index in range(MANY)]
    letters.produce(*[dead_letter(origin.name, value=one) for one in sent])
    replaying = Replaying(letters, origin, "--all", START_TIMEOUT_SECONDS="2")
    private_kafka.stop(kill=True)
    ended, err = replaying.end()
    assert ended == 69
    assert private_kafka.bootstrap in err.splitlines()[-1]
    assert "--after 0:" in err
    private_kafka.start()
    assert count(origin) < MANY
    assert carry_on(letters, err).returncode == 0
    assert set(values(origin)) == set(sent)


def test_a_replay_that_was_killed_is_repeated_without_loss(origin: Topic, letters: Topic) -> None:
    sent = [b"%d" % index for index in range(MANY)]
    letters.produce(*[dead_letter(origin.name, value=one) for one in sent])
    assert Replaying(letters, origin, "--all").end(signal.SIGKILL)[0] == -signal.SIGKILL
    assert count(origin) < MANY
    assert command(letters, "replay", "--all").returncode == 0
    assert set(values(origin)) == set(sent)


def test_many_are_replayed_once_each_and_in_order(kafka: Kafka, origin: Topic) -> None:
    letters = create_topic(kafka.bootstrap, partitions=3)
    letters.produce(
        *[dead_letter(origin.name, partition=index % 3, value=b"%d" % index, at=index % 3) for index in range(20_000)]
    )
    ended = command(letters, "replay", "--all")
    assert ended.returncode == 0
    assert "acknowledged: 20000 records" in ended.stdout
    replayed: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for message in read_all(origin, 20_000):
        replayed[message.partition() or 0].append(int(message.value() or b""))
    assert replayed == {number: list(range(number, 20_000, 3)) for number in range(3)}
    assert count(origin) == 20_000


@pytest.fixture(scope="module")
def guarded(kafka: Kafka) -> Iterator[GuardedBroker]:
    """Started here also where there is a cluster for the other tests."""
    broker = GuardedBroker()
    with broker:
        yield broker


def test_reading_the_letters_and_writing_the_origin_is_all_that_has_to_be_permitted(guarded: GuardedBroker) -> None:
    letters, allowed, hidden, seen_only = (create_topic(guarded.bootstrap) for _ in range(4))
    letters.produce(*[dead_letter(topic.name) for topic in (allowed, hidden, seen_only)])
    as_somebody = Topic(guarded.guarded, letters.name, 1)
    assert_denied(as_somebody, login("wrong"), "Authentication failed")
    assert_denied(as_somebody, login("right"), f"the topic {letters.name}")
    permit(guarded, letters.name, "DESCRIBE")
    assert_denied(as_somebody, login("right"), f"the topic {letters.name}")
    for topic, operation in ((letters, "READ"), (allowed, "WRITE"), (seen_only, "DESCRIBE")):
        permit(guarded, topic.name, operation)
    wait_until(lambda: command(as_somebody, "show", "0:0", **login("right")).returncode == 0, what="the right to read")
    assert json.loads(command(as_somebody, "list", "--json", **login("right")).stdout)["total"] == 3
    ended = command(as_somebody, "replay", "--all", **login("right"))
    assert ended.returncode == 1
    assert "acknowledged: 1 records" in ended.stdout
    assert f"0:1 of {hidden.name}: " in ended.stderr
    assert f"0:2 of {seen_only.name}: " in ended.stderr
    assert ended.stderr.count("uthorization failed") == 2
    assert count(allowed) == 1
    refused = command(as_somebody, "replay", "--all", "--to", hidden.name, **login("right"))
    assert (refused.returncode, refused.stdout) == (77, "")


def assert_denied(letters: Topic, who: dict[str, str], reason: str) -> None:
    for arguments in (["list"], ["show", "0:0"], ["replay", "--all"]):
        ended = command(letters, *arguments, **who)
        assert (ended.returncode, ended.stdout) == (77, "")
        [line] = ended.stderr.splitlines()
        assert reason in line


def test_what_the_service_gave_up_is_delivered_after_the_cause_is_mended_and_it_is_replayed(
    kafka: Kafka, start: ServiceStarter
) -> None:
    topic, letters = create_topic(kafka.bootstrap, partitions=2), create_topic(kafka.bootstrap, partitions=2)
    target = create_topic(kafka.bootstrap, config={"max.message.bytes": "20000"})
    at_ms = now_ms() - 60_000
    small = [Record(at_ms + index, b"small", partition=index % 2) for index in range(10)]
    large = [Record(at_ms + index, b"%d" % index * 50_000, b"k", [("h", b"v")], 1) for index in (1, 2)]
    topic.produce(*small, *large)
    service = start(topic, **relay_to(target, letters))
    wait_for_commit(service, topic, {0: 5, 1: 7})
    service.stop()
    assert [one["origin"]["offset"] for one in listed(letters)["dead_letters"]] == [5, 6]
    assert "Message size too large" in listed(letters)["dead_letters"][0]["error"]
    take_messages_of(target, 100_000)
    assert command(letters, "replay", "--all").returncode == 0
    start(topic, **relay_to(target, letters))
    delivered = read_all(target, 12)
    assert sorted(len(one.value() or b"") for one in delivered) == [5] * 10 + [50_000] * 2
    [first, second] = [one for one in delivered if one.key() == b"k"]
    assert [one.value() for one in (first, second)] == [one.value for one in large]
    assert dict(first.headers() or [])["delayed-consumer.offset"] == b"7"
    assert dict(first.headers() or [])["delayed-consumer.timestamp"] == b"%d" % large[0].timestamp_ms


def test_a_full_disk_is_reported_and_ends_with_1(origin: Topic, letters: Topic) -> None:
    letters.produce(dead_letter(origin.name))
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "delayed_consumer", "dead-letters", "list", "--json"],
            env=environment(letters),
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (
        1,
        "delayed-consumer: cannot write to stdout: No space left on device\n",
    )
