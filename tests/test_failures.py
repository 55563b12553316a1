"""What becomes of a record that fails, and where it says that it came from."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delayed_consumer.core.records import Partition
from delayed_consumer.errors import FatalError, MessageError, RetryableError
from delayed_consumer.failures import Failure, FailurePolicy, Fate, Forward, Kind, Skip, Stop
from delayed_consumer.origin import Header, Origin, Origins, read_origin
from tests.sinks.making import ORDERS, TIMESTAMP_MS, message, run_of

RETRIES = ("group.retry.1", "group.retry.2")
DEAD = Forward("dead", retry=False)
STOPPING = FailurePolicy("stop", RETRIES)
DEAD_LETTERING = FailurePolicy("dead-letter", RETRIES, "dead")
SKIPPING = FailurePolicy("skip", RETRIES)

RETRYABLE, MESSAGE, FATAL = (Failure("reason", kind) for kind in Kind)

HEADERS = st.lists(st.tuples(st.text(max_size=20), st.none() | st.binary(max_size=20)), max_size=8)


class _MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (ValueError("no such order"), Kind.RETRYABLE, "ValueError: no such order"),
        (RetryableError("later"), Kind.RETRYABLE, "RetryableError: later"),
        (MessageError("not JSON"), Kind.MESSAGE, "MessageError: not JSON"),
        (FatalError("no database"), Kind.FATAL, "FatalError: no database"),
        (SystemExit(3), Kind.RETRYABLE, "SystemExit: 3"),
        (TimeoutError(), Kind.RETRYABLE, "TimeoutError"),
        (ValueError("\ud800"), Kind.RETRYABLE, "ValueError: ?"),
        (_MuteError(), Kind.RETRYABLE, "_MuteError"),
    ],
)
def test_what_a_handler_raises_says_who_must_act(error: BaseException, kind: Kind, reason: str) -> None:
    assert Failure.of(error, attempts=3) == Failure(reason, kind, 3)


def test_a_reason_is_not_as_long_as_a_payload() -> None:
    assert len(Failure.of(ValueError("x" * 10_000_000), 1).reason) < 1_100


@pytest.mark.parametrize(
    ("policy", "failure", "topic", "fate"),
    [
        (STOPPING, RETRYABLE, "orders", Forward(RETRIES[0], retry=True)),
        (STOPPING, RETRYABLE, RETRIES[0], Forward(RETRIES[1], retry=True)),
        (STOPPING, RETRYABLE, RETRIES[1], Stop()),
        (STOPPING, MESSAGE, "orders", Stop()),
        (STOPPING, FATAL, "orders", Stop()),
        (DEAD_LETTERING, RETRYABLE, "orders", Forward(RETRIES[0], retry=True)),
        (DEAD_LETTERING, RETRYABLE, RETRIES[1], DEAD),
        (DEAD_LETTERING, MESSAGE, "orders", DEAD),
        (DEAD_LETTERING, MESSAGE, RETRIES[0], DEAD),
        (DEAD_LETTERING, FATAL, "orders", Stop()),
        (SKIPPING, MESSAGE, "orders", Skip()),
        (SKIPPING, RETRYABLE, RETRIES[1], Skip()),
        (SKIPPING, FATAL, RETRIES[1], Stop()),
        (FailurePolicy("skip"), RETRYABLE, "orders", Skip()),
    ],
)
def test_the_policy_decides_by_who_must_act_and_how_far_the_retries_are(
    policy: FailurePolicy, failure: Failure, topic: str, fate: Fate
) -> None:
    assert policy.fate(run_of(message(), partition=Partition(topic, 0)), failure) == fate


@pytest.mark.parametrize("on_failure", ["stop", "skip", "dead-letter"])
def test_a_refused_record_is_a_dead_letter_whatever_becomes_of_others(on_failure: str) -> None:
    policy = FailurePolicy(on_failure, RETRIES, "dead")  # type: ignore[arg-type]  # any of them
    refused = replace(run_of(message()), refused="its timestamp lies too far ahead")
    assert policy.fate(refused, MESSAGE) == DEAD


def test_a_record_of_a_source_topic_is_its_own_origin() -> None:
    headers: list[Header] = [("own", b"1")]
    origin = Origins(RETRIES).of(run_of(message(headers=headers), first_offset=7), 0)
    assert origin == Origin(*ORDERS, 7, TIMESTAMP_MS, headers, attempts=0)


def test_a_record_of_a_retry_topic_has_the_origin_that_it_had_at_first_and_all_its_attempts() -> None:
    first = Origin("orders", 2, 99, -1, [("own", None), ("own", b"\xff")])
    headers = first.after(Failure("reason", attempts=3))
    retried = run_of(message(headers=headers), partition=Partition(RETRIES[0], 5))
    assert Origins(RETRIES).of(retried, 0) == replace(first, attempts=3)
    again = Origins(RETRIES).of(retried, 0).after(Failure("another", attempts=2))
    assert again == [
        *first.headers,
        *first.as_headers(),
        ("delayed-consumer.error", b"another"),
        ("delayed-consumer.attempts", b"5"),
    ]


@pytest.mark.parametrize("spoil", ["none", "missing", "order", "number", "bytes"])
def test_headers_that_only_look_like_ours_are_the_records_own(spoil: str) -> None:
    headers = Origin("orders", 2, 99, 0, []).after(Failure("reason"))
    spoilt: dict[str, list[Header]] = {
        "none": [],
        "missing": headers[1:],
        "order": headers[::-1],
        "number": [*headers[:1], (headers[1][0], b"two"), *headers[2:]],
        "bytes": [(headers[0][0], b"\xff"), *headers[1:]],
    }
    assert read_origin(spoilt[spoil]) is None


@settings(deadline=None)
@given(
    st.text(max_size=20).filter(lambda text: text.isprintable()),
    st.integers(0, 2**31 - 1),
    st.integers(0, 2**63 - 1),
    st.integers(-1, 2**63 - 1),
    HEADERS,
    st.text(max_size=2_000),
    st.integers(0, 1_000),
)
def test_an_origin_survives_its_way_through_headers(
    topic: str, partition: int, offset: int, timestamp_ms: int, headers: list[Header], reason: str, attempts: int
) -> None:
    origin = Origin(topic, partition, offset, timestamp_ms, headers)
    written = origin.after(Failure(reason, attempts=attempts))
    assert read_origin(written) == replace(origin, attempts=attempts)
    error = written[-2][1] or b""
    assert len(error) <= 1_000
    assert reason.encode(errors="replace").startswith(error.decode().encode()), "cut between two characters"
