"""Dead letters as the service writes them, and the command that deals with them as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from delayed_consumer.failures import Failure
from delayed_consumer.origin import Origin
from tests.support.topics import Headers, Record, Topic, now_ms

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 90


def dead_letter(
    topic: str,
    *,
    partition: int = 0,
    offset: int = 0,
    error: str = "boom",
    origin_ms: int | None = None,
    died_ms: int | None = None,
    key: bytes | None = b"key",
    value: bytes | None = b"value",
    headers: Headers | None = None,
    attempts: int = 3,
    at: int = 0,
) -> Record:
    """Of a record of ``topic``. ``at``: the partition of the dead-letter topic that it is in."""
    died_ms = now_ms() if died_ms is None else died_ms
    origin = Origin(topic, partition, offset, died_ms if origin_ms is None else origin_ms, headers or [])
    return Record(died_ms, value, key, origin.after(Failure(error, attempts=attempts)), at)


def environment(letters: Topic, **settings: str) -> dict[str, str]:
    """What the command needs, and nothing else of the environment of whoever runs the tests."""
    return {
        "PATH": os.environ["PATH"],
        "KAFKA_BOOTSTRAP_SERVERS": letters.bootstrap,
        "KAFKA_TOPICS": "orders",
        "DEAD_LETTER_TOPIC": letters.name,
        **settings,
    }


def command(letters: Topic, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A run of `dead-letters` with these arguments."""
    return run(arguments, environment(letters, **settings))


def run(arguments: tuple[str, ...], settings: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "delayed_consumer", "dead-letters", *arguments],
        env={**settings},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def listed(letters: Topic, *arguments: str) -> dict[str, Any]:
    """The document of `list --json`."""
    ended = command(letters, "list", "--json", *arguments)
    assert (ended.returncode, ended.stderr) == (0, "")
    document: dict[str, Any] = json.loads(ended.stdout)
    return document


def ids(document: Mapping[str, Any]) -> list[str]:
    return [one["id"] for one in document["dead_letters"]]
