"""A flame picture of a running process, taken from outside by py-spy, so that what is measured runs as it does."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SAMPLES_PER_SECOND = 200
_END_SECONDS = 30.0


def missing() -> str | None:
    """Why there can be no picture here, or None."""
    return None if _program() is not None else "--profile needs py-spy: pip install py-spy"


@contextmanager
def profiled(pid: int, picture: Path) -> Iterator[None]:
    """Samples the process meanwhile, idle threads left out; then writes an SVG.

    Raises:
        RuntimeError: py-spy may not look into the process, or is not there.
    """
    program = _program()
    if program is None:
        raise RuntimeError(missing())
    picture.parent.mkdir(parents=True, exist_ok=True)
    options = ["--nonblocking", "--threads", "--rate", str(_SAMPLES_PER_SECOND), "--output", str(picture)]
    recorder = subprocess.Popen(
        [program, "record", "--pid", str(pid), *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        yield
        recorder.send_signal(signal.SIGINT)
        _, said = recorder.communicate(timeout=_END_SECONDS)
    finally:
        recorder.kill()
        recorder.wait()
    if not picture.exists():
        raise RuntimeError(f"py-spy took no picture: {said.strip()[-500:]}")


def _program() -> str | None:
    """On the PATH, or beside the interpreter that runs this."""
    return shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
