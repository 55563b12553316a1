"""Plants each bug in a copy of the tree and runs the test that must notice it: `python -m tests.mutants [word...]`.

With words only the mutants whose names contain one of them. Exit code 1 if a mutant survives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from tests.mutants.mutants import ROOT, Mutant, mutants

COPIED = ("delayed_consumer", "load", "tests", "pyproject.toml")
TEST_TIMEOUT_SECONDS = 15
HANGS_AFTER_SECONDS = 60  # a property test that hangs does so again while hypothesis looks for a smaller example
_PASSED, _FAILED = 0, 1

Fate = Literal["red", "hangs", "SURVIVED", "NOT RUN"]


def main(words: Collection[str]) -> int:
    chosen = [one for one in mutants() if not words or any(word in one.name for word in words)]
    with tempfile.TemporaryDirectory() as scratch:
        trees = Path(scratch)
        _must_pass({one.red for one in chosen}, _copy(trees / "healthy"))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            fates = pool.map(lambda one: _fate(one, trees), chosen)
            survived = _report(zip(chosen, fates, strict=True))
    sys.stdout.write(f"{len(chosen)} mutants, {survived} not noticed\n")
    return 1 if survived else 0


def _report(fates: Iterable[tuple[Mutant, Fate]]) -> int:
    """One line each, as they come. Returns how many were not noticed."""
    survived = 0
    for mutant, fate in fates:
        survived += fate in {"SURVIVED", "NOT RUN"}
        sys.stdout.write(f"{fate:8}  {mutant.name:62}  {mutant.red.rpartition('::')[2]}\n")
        sys.stdout.flush()
    return survived


def _fate(mutant: Mutant, trees: Path) -> Fate:
    tree = _copy(Path(tempfile.mkdtemp(dir=trees)) / "tree")
    mutant.plant(tree)
    try:
        code = _run([mutant.red], tree, HANGS_AFTER_SECONDS).returncode
    except subprocess.TimeoutExpired:
        return "hangs"
    finally:
        shutil.rmtree(tree)
    if code == _PASSED:
        return "SURVIVED"
    return "red" if code == _FAILED else "NOT RUN"


def _must_pass(tests: Collection[str], tree: Path) -> None:
    """A test that fails anyway proves nothing."""
    ended = _run(sorted(tests), tree)
    if ended.returncode != _PASSED:
        sys.exit(f"without any mutant:\n{ended.stdout}{ended.stderr}")


def _copy(tree: Path) -> Path:
    tree.mkdir(parents=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__", "out"))
        else:
            shutil.copy(source, tree / name)
    return tree


def _run(tests: Collection[str], tree: Path, timeout_seconds: float | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider", "-x", "-o", "addopts=-q"]
    return subprocess.run(
        [*command, f"--timeout={TEST_TIMEOUT_SECONDS}", *tests],
        # The same examples and the same dice every time.
        env={**os.environ, "CI": "true", "DELAYED_CONSUMER_TEST_SEED": "1"},
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_seconds,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
