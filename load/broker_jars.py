"""The jars of Apache Kafka, fetched once with Maven into a cache outside the tree."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION = "4.3.1"
_POM = Path(__file__).parent / "kafka" / "pom.xml"


def available() -> str | None:
    """None if a broker can be started here, else the reason why not as a sentence."""
    if shutil.which("java") is None:
        return "Java 17 or newer is needed to start Apache Kafka, and there is no `java` on the PATH."
    if shutil.which("mvn") is None and not _cached().exists():
        return "Maven is needed to fetch Apache Kafka, and there is no `mvn` on the PATH."
    return None


def kafka_jars() -> Path:
    """The directory of the jars; fetches them (55 MB) if they are not there yet.

    Raises:
        RuntimeError: Maven failed; the message has its output.
    """
    with cache_lock():
        if not _cached().exists():
            _fetch()
    return _cached()


def cache_directory() -> Path:
    """Where what was fetched or built is kept, outside the tree."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "delayed-consumer"


def _cached() -> Path:
    return cache_directory() / f"kafka-{VERSION}"


@contextmanager
def cache_lock() -> Iterator[None]:
    """Two runs at the same time fetch once."""
    cache_directory().mkdir(parents=True, exist_ok=True)
    with (cache_directory() / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch() -> None:
    """Into a temporary directory that is renamed at the end: the cache is whole or absent."""
    sys.stderr.write(f"fetching Apache Kafka {VERSION} with Maven into {_cached()} (55 MB, once) ...\n")
    with tempfile.TemporaryDirectory(dir=cache_directory()) as work:
        jars = Path(work) / "jars"
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={jars}"]
        # The pom is copied because Maven writes next to it.
        pom = shutil.copy(_POM, work)
        maven = subprocess.run(["mvn", "-B", "-q", "-f", pom, *goal], capture_output=True, text=True, check=False)
        if maven.returncode != 0:
            raise RuntimeError(f"Maven could not fetch Apache Kafka:\n{maven.stdout}{maven.stderr}")
        jars.rename(_cached())
