"""What a comparison was made on and with."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from load.broker_jars import VERSION
from load.report import machine

_PACKAGES = ("aiokafka", "psycopg")
_PROGRAMS = {"java": ("java", "-version"), "postgres": ("postgres", "--version")}
_GIB = 1024**3


@dataclass(frozen=True)
class About:
    command: str
    when: str
    machine: Mapping[str, object]
    rounds: int
    left_out: Mapping[str, str]  # the reason, by the contender's name

    def in_words(self) -> str:
        return "; ".join([self.when, *(f"{name} {value}" for name, value in self.machine.items())])


def about(rounds: int, left_out: Mapping[str, str]) -> About:
    command = shlex.join(["python", "-m", "load", *_without_out(sys.argv[1:])])
    return About(command, time.strftime("%d %B %Y"), described_machine(), rounds, left_out)


def _without_out(arguments: Sequence[str]) -> list[str]:
    """Where the report was written to is nothing to who repeats it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--out")
    return parser.parse_known_args(arguments)[1]


def described_machine() -> dict[str, object]:
    """The versions of what is not installed are left out."""
    return {
        **machine(),
        "processor": _processor(),
        "memory_gib": round(psutil.virtual_memory().total / _GIB, 1),
        "load_average_before": round(os.getloadavg()[0], 2),
        "apache_kafka": VERSION,
        **{name: found for name in _PACKAGES if (found := _package_version(name)) is not None},
        **{name: found for name, call in _PROGRAMS.items() if (found := _first_line(call)) is not None},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _package_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _first_line(call: tuple[str, ...]) -> str | None:
    """Of what a program says; Java says its version on stderr."""
    try:
        done = subprocess.run(call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.partition("\n")[0]
