"""SIGKILL again and again, in the middle of the work: what each guarantee promises of it, no more and no less.

As many kills as CHAOS_KILLS says, 100 a guarantee by default; `make chaos` runs more.
"""

from __future__ import annotations

import os
import random
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import pytest

from load.oracle import Verdict
from tests.conftest import SEED, Kafka
from tests.support.kills import AtKill, Delivery, Life, Lives, at_kills, judged, relayed, share
from tests.support.topics import Topic, create_topic

KILLS = int(os.environ.get("CHAOS_KILLS", "100"))
SIDE_BY_SIDE = 4
PARTITIONS = 4
DELAY_SECONDS = 0.3
DELAY_MS = 300
SETTINGS = {
    "DELAY_SECONDS": DELAY_SECONDS,
    "COMMIT_INTERVAL_SECONDS": 0.2,
    "KAFKA_CONF_SESSION_TIMEOUT_MS": 6000,
    "KAFKA_CONF_HEARTBEAT_INTERVAL_MS": 500,
}

pytestmark = pytest.mark.timeout(120 + 6 * KILLS)


@dataclass(frozen=True)
class Outlet:
    """Where an instance delivers to, and how many records a second fall due for it."""

    sink: str
    rate: float
    settings: Mapping[str, object]


LOG = Outlet("log", 400, {})
TOPIC = Outlet("topic", 400, {})
BUSY_TOPIC = Outlet("topic", 1_200, {})  # so that there is hardly a moment without a transaction
# It does not keep up while it is killed all the time, so there is always one in its handler.
PYTHON = Outlet("python", 100, {"SINK_HANDLER": "tests.support.slow_handler:write_slowly"})


@dataclass(frozen=True)
class Story:
    """What became of one instance: its lives, and whatever of its work nobody is to see."""

    outlet: Outlet
    topic: Topic
    lives: Sequence[Life]
    aborted: Sequence[Delivery]

    @property
    def at_kills(self) -> list[AtKill]:
        return list(at_kills(self.lives, PARTITIONS))

    @property
    def verdict(self) -> Verdict:
        return judged(self.topic, self.lives, DELAY_MS)


Kill = Callable[[str, Sequence[Outlet]], list[Story]]


@pytest.fixture
def kill(kafka: Kafka, dice: random.Random) -> Kill:
    """Runs an instance for each outlet, side by side, and kills them KILLS times in all."""

    def live(outlet: Outlet, delivery: str, dice: random.Random) -> Story:
        topic = create_topic(kafka.bootstrap, PARTITIONS)
        settings = {**SETTINGS, **outlet.settings, "DELIVERY": delivery, "SINK": outlet.sink}
        target = None
        if outlet.sink == "topic":
            target = create_topic(kafka.bootstrap, PARTITIONS)
            settings["SINK_TOPIC"] = target.name
        lives = Lives(topic, settings, dice)
        lives.live(-(-KILLS // SIDE_BY_SIDE), outlet.rate)
        aborted: list[Delivery] = []
        if target is not None:
            visible, aborted = relayed(target, DELAY_MS)
            share(lives.lives, visible)
        return Story(outlet, topic, lives.lives, aborted)

    def all_live(delivery: str, outlets: Sequence[Outlet]) -> list[Story]:
        with ThreadPoolExecutor(len(outlets)) as pool:
            return list(pool.map(lambda one: live(one, delivery, random.Random(dice.random())), outlets))

    return all_live


def test_at_least_once_loses_nothing_and_repeats_only_what_was_not_committed(kill: Kill) -> None:
    in_flight = 0
    for story in kill("at-least-once", [LOG, TOPIC, PYTHON, PYTHON]):
        verdict, at_kills = story.verdict, story.at_kills
        assert_each_life_in_order(story)
        assert_each_life_begins_where_the_last_one_committed(story)
        assert (verdict.faults, verdict.lost) == (0, 0), verdict.findings
        assert sum(one.undelivered for one in at_kills) == 0, "committed before it was delivered"
        assert verdict.duplicates <= sum(one.uncommitted for one in at_kills)
        in_flight += tell("at-least-once", story, sum(one.uncommitted > 0 for one in at_kills))
    assert in_flight >= KILLS // 3, "too few kills landed while work was in flight"


def test_at_most_once_repeats_nothing_and_loses_only_what_was_committed(kill: Kill) -> None:
    in_flight = 0
    for story in kill("at-most-once", [LOG, TOPIC, PYTHON, PYTHON]):
        verdict, at_kills = story.verdict, story.at_kills
        assert_each_life_in_order(story)
        assert_each_life_begins_where_the_last_one_committed(story)
        assert (verdict.faults - verdict.lost, verdict.duplicates) == (0, 0), verdict.findings
        assert sum(one.uncommitted for one in at_kills) == 0, "delivered before it was committed"
        assert verdict.lost <= sum(one.undelivered for one in at_kills)
        in_flight += tell("at-most-once", story, sum(one.undelivered > 0 for one in at_kills))
    assert in_flight >= KILLS // 6, "too few kills landed while work was in flight"


def test_exactly_once_neither_repeats_nor_loses(kill: Kill) -> None:
    """In flight is what was written in a transaction that nobody ended: readers of all see it, and only they."""
    in_flight = 0
    for story in kill("exactly-once", [BUSY_TOPIC] * SIDE_BY_SIDE):
        verdict = story.verdict
        assert_each_life_in_order(story)
        assert (verdict.faults, verdict.duplicates) == (0, 0), verdict.findings
        in_flight += tell("exactly-once", story, len(lives_of(story.aborted, story.lives)))
    assert in_flight >= KILLS // 20, "too few kills landed while work was in flight"


def lives_of(deliveries: Sequence[Delivery], lives: Sequence[Life]) -> set[int]:
    return {bisect_right([life.begun_ms for life in lives], one.delivered_ms) for one in deliveries}


def assert_each_life_in_order(story: Story) -> None:
    """And nothing is left out in between."""
    for life in story.lives:
        for number in range(PARTITIONS):
            offsets = life.offsets(number)
            assert offsets == list(range(offsets[0], offsets[0] + len(offsets))) if offsets else True


def assert_each_life_begins_where_the_last_one_committed(story: Story) -> None:
    for before, life in pairwise(story.lives):
        firsts = {number: life.offsets(number)[0] for number in range(PARTITIONS) if life.offsets(number)}
        assert firsts == {number: before.committed[number] for number in firsts}


def tell(guarantee: str, story: Story, in_flight: int) -> int:
    """Returns ``in_flight``: how many kills landed while something was."""
    verdict = story.verdict
    print(
        f"{guarantee}, SINK={story.outlet.sink}: {len(story.lives) - 1} kills, {in_flight} with work in flight; "
        f"{verdict.expected:,} records, {verdict.duplicates:,} repeated, {verdict.lost:,} lost (seed {SEED})"
    )
    return in_flight
