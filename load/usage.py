"""What a process costs, seen from outside: CPU, memory, bytes its sockets received."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from math import nan
from pathlib import Path
from typing import NamedTuple

import psutil

_EVERY_SECONDS = 0.25


class Usage(NamedTuple):
    at_ms: float  # wall clock
    cpu_seconds: float  # since the start, children included
    rss_bytes: int  # children included
    machine_busy_seconds: float  # of all cores and all processes since the machine's start


class Cpu(NamedTuple):
    """In percent of one core."""

    process: float
    machine: float  # everything that ran, the process included


def cpu_between(first: Usage, last: Usage) -> Cpu:
    percent = 100_000 / (last.at_ms - first.at_ms)
    return Cpu(
        percent * (last.cpu_seconds - first.cpu_seconds),
        percent * (last.machine_busy_seconds - first.machine_busy_seconds),
    )


class UsageSampler(threading.Thread):
    """Samples a process and its children until it ends or `stop`."""

    def __init__(self, pid: int) -> None:
        super().__init__(name="usage-sampler", daemon=True)
        self._process = psutil.Process(pid)
        self._stopped = threading.Event()
        self.samples: list[Usage] = []
        self._peak_rss_bytes = 0

    def run(self) -> None:
        try:
            while not self._stopped.wait(_EVERY_SECONDS):
                self.samples.append(self.now())
                self._peak_rss_bytes = max(self._peak_rss_bytes, _high_water_bytes(self._process.pid))
        except psutil.NoSuchProcess:  # it ended
            return

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def now(self) -> Usage:
        family = [self._process, *self._process.children(recursive=True)]
        times = [one.cpu_times() for one in family]
        cpu_seconds = sum(one.user + one.system for one in times)
        rss_bytes = sum(one.memory_info().rss for one in family)
        return Usage(time.time() * 1000, cpu_seconds, rss_bytes, _machine_busy_seconds())

    def cpu(self, from_ms: float, to_ms: float) -> Cpu:
        """CPU between two moments; nan with fewer than two samples in between."""
        inside = [one for one in self.samples if from_ms <= one.at_ms <= to_ms]
        return cpu_between(inside[0], inside[-1]) if len(inside) > 1 else Cpu(nan, nan)

    @property
    def peak_rss_bytes(self) -> int:
        """The highest sample, or the kernel's own high-water mark where there is one."""
        return max([self._peak_rss_bytes, *(one.rss_bytes for one in self.samples)])


def received_bytes(pid: int, port: int) -> float:
    """Bytes that the process's open connections to ``port`` received, from the kernel; nan where `ss` does not say."""
    if shutil.which("ss") is None:
        return nan
    command = ["ss", "-tinpHO", "dport", "=", f":{port}"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    lines = [line for line in listed.splitlines() if f"pid={pid}," in line]
    return float(sum(map(_received, lines))) if lines else nan


def _received(line: str) -> int:
    """A connection that received nothing has no such field."""
    found = re.search(r"bytes_received:(\d+)", line)
    return int(found.group(1)) if found else 0


def _machine_busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.system + getattr(times, "irq", 0.0) + getattr(times, "softirq", 0.0))


def _high_water_bytes(pid: int) -> int:
    """VmHWM; 0 where there is no /proc."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found.group(1)) * 1024 if found else 0
