"""`demo --crash` as a user runs it: what it shows, and that it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import Kafka
from tests.support.topics import admin
from tests.support.wait import wait_until

ROOT = Path(__file__).parents[2]
COUNTS = re.compile(r"(\S+-once)\D+([\d,]+)\D+([\d,]+)\D+([\d,]+)\D+([\d,]+)")


class Demo:
    """A demo that runs; ``output`` is all it has said, once it has ended."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "delayed_consumer", "demo", "--crash", "--seconds", "3", *arguments],
            env={"PATH": os.environ["PATH"]},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""

    def services(self) -> list[psutil.Process]:
        """None as long as there are less than two."""
        services = psutil.Process(self.process.pid).children(recursive=True)
        return services if len(services) > 1 else []

    def wait(self) -> int:
        self.output = self.process.communicate(timeout=100)[0]
        return self.process.returncode

    def counts(self) -> dict[str, list[int]]:
        """Delivered before the kill and after it, repeated and lost, for each guarantee."""
        table = self.output.partition("What the crash did")[2]
        return {name: [int(one.replace(",", "")) for one in counts] for name, *counts in COUNTS.findall(table)}


@pytest.fixture
def demos() -> Iterator[list[Demo]]:
    started: list[Demo] = []
    yield started
    for demo in started:
        demo.process.kill()
        demo.process.communicate()
        print(demo.output)


def test_a_crash_on_the_embedded_broker_shows_what_it_repeats_and_what_it_loses(demos: list[Demo]) -> None:
    demos.append(demo := Demo())
    assert demo.wait() == 0
    assert_kept(demo, "at-most-once", "at-least-once")
    assert "exactly-once was left out" in demo.output


def test_a_crash_on_a_real_cluster_shows_all_three_and_leaves_no_topic(kafka: Kafka, demos: list[Demo]) -> None:
    demos.append(demo := Demo("--bootstrap", kafka.bootstrap))
    assert demo.wait() == 0
    assert_kept(demo, "at-most-once", "at-least-once", "exactly-once")
    assert topics_of_demos(kafka) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process_and_no_topic(
    kafka: Kafka, demos: list[Demo], number: signal.Signals
) -> None:
    demos.append(demo := Demo("--bootstrap", kafka.bootstrap))
    services = wait_until(demo.services)
    demo.process.send_signal(number)
    assert demo.wait() == 130
    wait_until(lambda: not any(one.is_running() for one in services))
    assert topics_of_demos(kafka) == []


def test_services_end_with_a_demo_that_is_killed(demos: list[Demo]) -> None:
    demos.append(demo := Demo())
    services = wait_until(demo.services)
    demo.process.kill()
    wait_until(lambda: not any(one.is_running() for one in services))


def assert_kept(demo: Demo, *guarantees: str) -> None:
    counts = demo.counts()
    assert set(counts) == set(guarantees), demo.output
    for guarantee, (before, after, repeated, lost) in counts.items():
        assert min(before, after) > 0
        assert before + after == 600 + repeated - lost
        assert repeated == 0 or guarantee == "at-least-once"
        assert lost == 0 or guarantee == "at-most-once"


def topics_of_demos(kafka: Kafka) -> list[str]:
    return [one for one in admin(kafka.bootstrap).list_topics(timeout=20).topics if "demo" in one]
