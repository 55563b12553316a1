"""What the demo counts, and what it says of it."""

from __future__ import annotations

import io

import pytest

from delayed_consumer.demo.crash_view import CrashView, Row
from delayed_consumer.demo.tally import Tally
from tests.test_cli import program

GUARANTEES = ("at-most-once", "at-least-once", "exactly-once")
ON_TIME = [(0, 0, 1000.0), (0, 1, 1010.5)]


def tally(arrivals: list[tuple[int, int, float]]) -> Tally:
    """Two records were written, due at 1000 and at 1010 ms."""
    counted = Tally({(0, 0): 1000, (0, 1): 1010})
    for arrival in arrivals:
        counted.arrive(*arrival)
    return counted


def row(counted: Tally, guarantee: str, kept: bool) -> Row:
    return Row(guarantee, "done", 2, counted.delivered, 1, counted.repeated, counted.lost, None, kept)


@pytest.mark.parametrize(
    ("arrivals", "kept_by"),
    [
        (ON_TIME, {"at-most-once", "at-least-once", "exactly-once"}),
        ([*ON_TIME, ON_TIME[0]], {"at-least-once"}),
        (ON_TIME[:1], {"at-most-once"}),
        ([ON_TIME[0], ON_TIME[0]], set()),
        ([ON_TIME[0], (0, 1, 1009.9)], set()),
    ],
    ids=["each once", "one twice", "one lost", "one twice and one lost", "one early"],
)
def test_a_guarantee_is_kept_when_a_crash_did_what_it_may_and_nothing_else(
    arrivals: list[tuple[int, int, float]], kept_by: set[str]
) -> None:
    assert {one for one in GUARANTEES if tally(arrivals).keeps(one)} == kept_by


def test_what_was_delivered_before_the_kill_is_told_from_what_came_after() -> None:
    counted = tally(ON_TIME)
    assert [counted.before(moment_ms) for moment_ms in (1000.0, 1000.1, 2000.0)] == [0, 1, 2]


def summary(*rows: Row, left_out: bool = False) -> str:
    out = io.StringIO()
    with CrashView(out, None) as view:
        view.summary(rows, exactly_once_left_out=left_out)
    return out.getvalue()


def test_the_table_of_a_crash_shows_a_broken_promise() -> None:
    broken = tally(ON_TIME[:1])
    shown = summary(row(broken, "at-least-once", kept=False), row(broken, "at-most-once", kept=True))
    lines = {name: line for line in shown.splitlines() for name in GUARANTEES if name in line}
    assert "NO" in lines["at-least-once"]
    assert "yes" in lines["at-most-once"]
    assert max(map(len, shown.splitlines()[1:])) <= 80


def test_without_a_real_cluster_the_demo_says_how_to_see_exactly_once() -> None:
    kept = row(tally(ON_TIME), "at-least-once", kept=True)
    assert "demo --crash --bootstrap" in summary(kept, left_out=True)
    assert "--bootstrap" not in summary(kept)


@pytest.mark.parametrize("arguments", [("--delivery", "at-most-once"), ("--bootstrap", "localhost:1")])
def test_what_only_a_crash_needs_is_refused_without_one(arguments: tuple[str, ...]) -> None:
    ended = program("demo", *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--crash" in ended.stderr


def test_exactly_once_alone_is_refused_on_the_embedded_broker() -> None:
    ended = program("demo", "--crash", "--delivery", "exactly-once")
    assert (ended.returncode, ended.stdout) == (78, "")
    assert "--bootstrap" in ended.stderr
