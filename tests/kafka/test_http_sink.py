"""SINK=http: the service as a process, a real broker and a real HTTP server."""

from __future__ import annotations

import io
import json
import random
import time
from collections import Counter, defaultdict
from urllib.parse import unquote

import pytest

from delayed_consumer.check_config import check_config
from delayed_consumer.errors import ConfigError
from delayed_consumer.settings import Settings
from load.broker import free_ports
from tests.conftest import Kafka, ServiceStarter
from tests.support.http_server import Answer, HttpTarget, Request, endless, reset, status
from tests.support.service import ServiceProcess
from tests.support.topics import Record, Topic, committed, create_topic, now_ms, read_all

CANARY = "c4n4ry"


def http(target: HttpTarget, **settings: object) -> dict[str, object]:
    return {"DELAY_SECONDS": 1, "SINK": "http", "SINK_URL": f"{target.url}/hook", **settings}


def wait_for_requests(service: ServiceProcess, target: HttpTarget, count: int) -> None:
    service.wait_until(lambda: len(target.requests) >= count, what=f"{count} requests")


def keys_of(target: HttpTarget) -> list[str]:
    return [request.headers["Idempotency-Key"] for request in target.requests]


def test_each_record_is_posted_once_in_order_and_never_early(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap, partitions=3)
    at_ms = now_ms()
    with HttpTarget() as target:
        early: list[float] = []

        def judge(request: Request) -> Answer:
            early.append(int(request.headers["X-Kafka-Timestamp"]) + 1000 - time.time() * 1000)
            return status(200)

        target.usual = judge
        topic.produce(*(Record(at_ms + number * 7, b"%d" % number, partition=number % 3) for number in range(300)))
        service = start(topic, **http(target))
        wait_for_requests(service, target, 300)
        service.wait_until(lambda: service.metric("delivered_total") == 300)
        service.stop()
        assert max(early) <= 0
        by_partition = defaultdict(list)
        for request in target.requests:
            by_partition[request.headers["X-Kafka-Partition"]].append(request.offset)
        assert dict(by_partition) == {str(number): list(range(100)) for number in range(3)}
        assert committed(topic) == {0: 100, 1: 100, 2: 100}


def test_whatever_is_in_a_record_arrives_as_documented(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap, config={"max.message.bytes": "6000000"})
    large = random.Random(1).randbytes(5_000_000)
    topic.produce(
        Record(value=None, key=b"gone"),
        Record(value=b"", key=None),
        Record(value=b"\xff\xfe\x00", key=b"\xff\r\nHost: evil"),
        Record(value=b"many", headers=[(f"h{number}", b"v") for number in range(1000)]),
        Record(value=b"twice", headers=[("a", b"1"), ("b", None), ("a", b"2")]),
        Record(value=large),
        message_max_bytes=6_000_000,
    )
    with HttpTarget() as target:
        service = start(topic, **http(target))
        wait_for_requests(service, target, 6)
        service.stop()
    gone, empty, binary, many, twice, five_megabytes = target.requests
    assert (gone.body, gone.headers["X-Kafka-Tombstone"], gone.headers["X-Kafka-Key"]) == (b"", "true", "gone")
    assert (empty.body, empty.headers["X-Kafka-Tombstone"], empty.headers["X-Kafka-Key"]) == (b"", None, None)
    assert (binary.body, binary.headers["X-Kafka-Key"]) == (b"\xff\xfe\x00", "%FF%0D%0AHost%3A%20evil")
    assert binary.headers.get_all("Host") == [target.url.removeprefix("http://")]
    assert (many.headers["X-Kafka-Header-h49"], many.headers["X-Kafka-Headers-Omitted"]) == ("v", "950")
    assert (twice.headers["X-Kafka-Header-a"], twice.headers["X-Kafka-Header-b"]) == ("1,2", "")
    assert five_megabytes.body == large


def test_what_may_work_later_is_tried_again_in_place_and_other_partitions_go_on(
    kafka: Kafka, start: ServiceStarter
) -> None:
    topic = create_topic(kafka.bootstrap, partitions=2)
    at_ms = now_ms()
    topic.produce(*(Record(at_ms + number, partition=number % 2) for number in range(40)))
    answers = [status(503), reset, status(429, {"Retry-After": "2"})]
    times_ms: list[float] = []

    def answer(request: Request) -> Answer:
        if (request.headers["X-Kafka-Partition"], request.offset) != ("0", 5):
            return status(204)
        times_ms.append(time.monotonic() * 1000)
        return answers.pop(0) if answers else status(200)

    with HttpTarget() as target:
        target.usual = answer
        service = start(topic, **http(target, MAX_ATTEMPTS=4))
        service.wait_until(lambda: service.metric("delivered_total") == 40)
        service.stop()
        tried = Counter(keys_of(target))
        assert tried.pop(f"{topic.name}/0/5") == 4
        assert set(tried.values()) == {1}
        order = [(request.headers["X-Kafka-Partition"], request.offset) for request in target.requests]
        behind = order.index(("0", 6))
        assert all(("1", offset) in order[:behind] for offset in range(20))
        assert times_ms[3] - times_ms[2] >= 2000
        assert [offset for partition, offset in order if partition == "0"] == [*range(5), 5, 5, 5, *range(5, 20)]


@pytest.mark.parametrize("answer", [status(404), status(401), status(302, {"Location": "http://127.0.0.1:9/"})])
def test_a_refusal_is_not_tried_again_and_stops_the_service_at_the_record(
    kafka: Kafka, start: ServiceStarter, answer: Answer
) -> None:
    topic = create_topic(kafka.bootstrap)
    at_ms = now_ms()
    topic.produce(*(Record(at_ms + number) for number in range(10)))
    with HttpTarget() as target:
        target.usual = lambda request: answer if request.offset == 4 else status(204)
        service = start(topic, **http(target, MAX_ATTEMPTS=10))
        assert service.wait_for_exit() == 1
        assert target.offsets() == [0, 1, 2, 3, 4]
    assert any(f"{topic.name}[0] offset 4" in line["message"] for line in service.events("failed"))
    assert committed(topic) == {0: 4}


def test_a_refused_record_is_dead_lettered_with_the_status(kafka: Kafka, start: ServiceStarter) -> None:
    topic, dead = create_topic(kafka.bootstrap), create_topic(kafka.bootstrap)
    topic.produce(Record(value=b"bad", key=b"k", headers=[("h", b"v")]), Record(value=b"good"))
    with HttpTarget() as target:
        target.usual = lambda request: status(422, body=CANARY.encode()) if request.body == b"bad" else status(204)
        service = start(topic, **http(target, ON_FAILURE="dead-letter", DEAD_LETTER_TOPIC=dead.name))
        [letter] = read_all(dead, 1)
        wait_for_requests(service, target, 2)
        service.stop()
    assert (letter.value(), letter.key()) == (b"bad", b"k")
    headers = dict(letter.headers() or [])
    assert headers["h"] == b"v"
    assert (
        headers["delayed-consumer.error"] == f"MessageError: {target.url.removeprefix('http://')} answered 422".encode()
    )
    assert headers["delayed-consumer.attempts"] == b"1"
    assert committed(topic) == {0: 2}


def test_a_record_keeps_its_name_through_retry_topics(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap)
    at_ms = now_ms()
    topic.produce(Record(at_ms, b"again", b"k", [("h", b"v")]), Record(at_ms, b"other"))
    answers = [status(500), status(500)]
    with HttpTarget() as target:
        target.usual = lambda request: answers.pop(0) if answers and request.body == b"again" else status(204)
        retries = {"MAX_ATTEMPTS": 1, "RETRY_DELAYS_SECONDS": "1,1", "SINK_HTTP_SIGNING_SECRET": CANARY}
        service = start(topic, **http(target, **retries))
        wait_for_requests(service, target, 4)
        service.stop()
    tried = [request for request in target.requests if request.body == b"again"]
    assert len(tried) == 3
    for request in tried:
        assert request.headers["Idempotency-Key"] == request.headers["webhook-id"] == f"{topic.name}/0/0"
        assert (request.headers["X-Kafka-Topic"], request.headers["X-Kafka-Timestamp"]) == (topic.name, str(at_ms))
        assert {name for name in request.headers if name.startswith("X-Kafka-Header-")} == {"X-Kafka-Header-h"}


def test_a_target_that_is_down_blocks_its_records_and_gets_them_all_when_it_is_back(
    kafka: Kafka, start: ServiceStarter
) -> None:
    topic = create_topic(kafka.bootstrap, partitions=2)
    value = b"x" * 10_000
    count = 2000
    topic.produce(*(Record(now_ms(), value, partition=number % 2) for number in range(count)))
    [port] = free_ports(1)
    hold_bytes = 2 * 2**20
    settings = {"MAX_ATTEMPTS": 100, "HOLD_MAX_BYTES": hold_bytes, "SINK_URL": f"http://127.0.0.1:{port}/"}
    service = start(topic, **{"DELAY_SECONDS": 1, "SINK": "http", **settings})
    service.wait_until(lambda: {one["state"] for one in service.partitions().values()} == {"blocked"})
    assert service.metric("held_bytes") <= hold_bytes
    assert service.get("/livez") is not None
    assert service.get("/readyz") is not None
    assert service.metric("delivered_total") == 0
    late_ms = now_ms()
    topic.produce(Record(late_ms, b"meanwhile"))
    with HttpTarget(port=port) as target:
        wait_for_requests(service, target, count + 1)
        service.wait_until(lambda: service.metric("delivered_total") == count + 1)
        service.stop()
    assert set(Counter(keys_of(target)).values()) == {1}
    for number in range(2):
        offsets = [one.offset for one in target.requests if one.headers["X-Kafka-Partition"] == str(number)]
        assert offsets == sorted(offsets)
    assert committed(topic) == {0: count // 2 + 1, 1: count // 2}


def test_keys_are_handled_side_by_side_and_each_in_order(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap)
    at_ms = now_ms()
    topic.produce(*(Record(at_ms, b"%d" % number, b"k %d" % (number % 16)) for number in range(320)))
    fails = set(range(0, 320, 37))

    def answer(request: Request) -> Answer:
        if request.offset not in fails:
            return status(204)
        fails.remove(request.offset)
        return status(503)

    with HttpTarget() as target:
        target.usual = answer
        service = start(topic, **http(target, SINK_CONCURRENCY=8, ORDERING="key"))
        service.wait_until(lambda: service.metric("delivered_total") == 320)
        service.stop()
        assert 1 < target.connections <= 8 + 9  # none is shared, and a failure may cost one
    done: dict[str, list[int]] = defaultdict(list)
    for request in target.requests:
        done[unquote(request.headers["X-Kafka-Key"])].append(request.offset)
    for offsets in done.values():
        assert offsets == sorted(offsets)
    assert committed(topic) == {0: 320}


def test_an_answer_without_end_is_done_by_its_status(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap)
    topic.produce(Record(), Record())
    with HttpTarget(endless(200)) as target:
        service = start(topic, **http(target))
        wait_for_requests(service, target, 2)
        assert target.offsets() == [0, 1]
        service.stop()


def test_a_metadata_address_is_a_bad_setting_at_once(start: ServiceStarter) -> None:
    begun = time.monotonic()
    service = start(Topic("127.0.0.1:9", "topic", 1), SINK="http", SINK_URL="http://0xa9fea9fe/")
    assert service.wait_for_exit() == 78
    assert time.monotonic() - begun < 10
    assert "SINK_URL='http://0xa9fea9fe/': refused: a link-local or metadata address" in service.log_tail()


def test_connected_check_config_says_when_the_name_means_nothing(kafka: Kafka) -> None:
    topic = create_topic(kafka.bootstrap)
    variables = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "KAFKA_TOPICS": topic.name, "SINK": "http"}
    out = io.StringIO()
    with pytest.raises(ConfigError, match=r"^SINK_URL: the name nowhere\.invalid cannot be resolved: "):
        check_config(
            Settings({**variables, "SINK_URL": "http://nowhere.invalid/"}), as_json=True, connect=True, out=out
        )
    assert (
        check_config(Settings({**variables, "SINK_URL": "http://localhost:9/"}), as_json=True, connect=True, out=out)
        == 0
    )


def test_no_secret_is_in_anything_that_the_service_says(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap)
    topic.produce(Record(value=CANARY.encode(), key=CANARY.encode()))
    answers = [status(503, {"X": CANARY}, CANARY.encode()), reset]
    secrets = {
        "SINK_HTTP_USERNAME": "someone",
        "SINK_HTTP_PASSWORD": CANARY,
        "SINK_HTTP_SIGNING_SECRET": CANARY,
        "SINK_HTTP_HEADERS": json.dumps({"X-Api-Key": CANARY}),
        "LOG_LEVEL": "debug",
    }
    with HttpTarget(*answers) as target:
        target.usual = lambda _: status(401, {"X": CANARY}, CANARY.encode())
        service = start(topic, **http(target, **secrets, SINK_URL=f"{target.url}/?token={CANARY}"))
        said: list[str] = []

        def look() -> bool:
            said.extend(service.get(path) or "" for path in ("/metrics", "/status", "/"))
            return len(target.requests) >= 3

        service.wait_until(look)
        assert service.wait_for_exit() == 1
    assert target.requests[0].headers["X-Api-Key"] == CANARY
    assert service.events("failed")
    assert CANARY not in "".join(said) + service.log_tail() + json.dumps(service.log)
