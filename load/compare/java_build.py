"""The Java contenders, built once with Maven into the cache where the broker's jars are."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from load.broker_jars import cache_directory, cache_lock
from load.progress import say

_SOURCES = Path(__file__).parent / "java"


class BuildError(Exception):
    """Maven could not build them. The message is its output."""


def missing() -> str | None:
    """Why the Java contenders cannot run here, or None; builds them if that was not done yet."""
    absent = [tool for tool in ("java", "javac", "mvn") if shutil.which(tool) is None]
    if absent and not _built().exists():
        return f"{' and '.join(absent)} not found on the PATH"
    try:
        _build()
    except BuildError as error:
        return f"Maven could not build it: {error}"
    return None


def command(main_class: str, *arguments: str) -> list[str]:
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    return ["java", quiet, "-cp", f"{_built()}/classes:{_built()}/libs/*", f"contenders.{main_class}", *arguments]


@cache
def _built() -> Path:
    """A directory for these very sources."""
    digest = hashlib.sha256()
    for file in sorted(_SOURCES.rglob("*.*")):
        digest.update(file.read_bytes())
    return cache_directory() / f"contenders-{digest.hexdigest()[:12]}"


def _build() -> None:
    """Into a temporary directory that is renamed at the end: the cache is whole or absent."""
    with cache_lock():
        if _built().exists():
            return
        say("building the Java contenders with Maven ...")
        with tempfile.TemporaryDirectory(dir=cache_directory()) as work:
            project = shutil.copytree(_SOURCES, Path(work) / "java")  # Maven writes next to its pom
            goals = [
                "compile",
                "dependency:copy-dependencies",
                "-DincludeScope=runtime",
                "-DoutputDirectory=target/libs",
            ]
            maven = subprocess.run(
                ["mvn", "-B", "-q", "-f", str(project / "pom.xml"), *goals], capture_output=True, text=True, check=False
            )
            if maven.returncode != 0:
                raise BuildError(f"{maven.stdout}{maven.stderr}".strip()[-500:])
            (project / "target").rename(_built())
