"""Nothing is left behind when this process ends, not even after SIGKILL."""

from __future__ import annotations

import subprocess
from pathlib import Path

KILL = 'kill -KILL "$1"'
# Again until it works: a process that is just being killed may still write into the directory.
REMOVE = 'until rm -rf "$1"; do sleep 0.2; done'


class DeathWatch:
    """Runs a shell script, with ``argument`` as ``$1``, when this process is gone, unless `close` calls it off.

    A shell waits at a pipe whose other end this process alone holds. PR_SET_PDEATHSIG would be shorter but fires when
    the *thread* that started the child ends, and is Linux only.
    """

    def __init__(self, script: str, argument: str | Path) -> None:
        self._shell = subprocess.Popen(
            ["sh", "-c", f"read -r _; {script}", "sh", str(argument)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches us, not the shell
        )

    def close(self) -> None:
        """Once more does nothing."""
        self._shell.kill()
        if self._shell.stdin is not None:
            self._shell.stdin.close()
        self._shell.wait()
