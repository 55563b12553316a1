"""The program as a shell sees it: output, exit code, and one line of reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from delayed_consumer import __version__
from delayed_consumer.cli import COMMANDS

ROOT = Path(__file__).parents[1]
TIMEOUT_SECONDS = 30


def program(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A run of the program with these settings and nothing else of the environment."""
    return subprocess.run(
        [sys.executable, "-m", "delayed_consumer", *arguments],
        env={"PATH": os.environ["PATH"], **settings},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


@pytest.mark.parametrize("arguments", [(), ("run",), ("check-config",)])
def test_bad_settings_are_78_and_every_problem_is_named(arguments: tuple[str, ...]) -> None:
    ended = program(*arguments, DELAY_SECONDS="-1", KAFKA_TOPIC="orders", SINK="carrier-pigeon")
    assert ended.returncode == 78
    assert ended.stdout == ""
    lines = ended.stderr.splitlines()
    for name in ("DELAY_SECONDS", "KAFKA_TOPICS", "KAFKA_BOOTSTRAP_SERVERS", "SINK"):
        assert any(name in line for line in lines), f"{name} is not named"
    assert all(line.startswith("delayed-consumer: ") for line in lines)


def test_an_unknown_command_is_2() -> None:
    ended = program("fly")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "fly" in ended.stderr


@pytest.mark.parametrize("arguments", [("demo", "--seconds", "0"), ("demo", "--rate", "many"), ("lag", "--xml")])
def test_an_option_that_cannot_be_used_is_2(arguments: tuple[str, ...]) -> None:
    assert program(*arguments).returncode == 2


def test_version_names_what_is_at_work() -> None:
    ended = program("version")
    assert ended.returncode == 0
    names = [line.split()[0] for line in ended.stdout.splitlines()]
    assert names == ["delayed-consumer", "confluent-kafka", "librdkafka", "Python"]
    assert f"delayed-consumer {__version__}\n" in ended.stdout


def test_help_names_every_command() -> None:
    ended = program("--help")
    assert ended.returncode == 0
    assert set(COMMANDS) <= set(ended.stdout.split())


def test_brokers_that_are_not_there_are_69() -> None:
    """Port 1 of this machine: nobody listens there."""
    ended = program(
        KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1", KAFKA_TOPICS="orders", START_TIMEOUT_SECONDS="0.2", HTTP_PORT="0"
    )
    assert ended.returncode == 69
    assert ended.stdout == ""


def test_a_service_that_is_not_there_is_not_healthy() -> None:
    ended = program("healthcheck", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1", KAFKA_TOPICS="orders", HTTP_PORT="1")
    assert ended.returncode == 1


def test_a_reader_that_has_left_ends_the_program_with_1() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "delayed_consumer", "version"],
            cwd=ROOT,
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, b"")
