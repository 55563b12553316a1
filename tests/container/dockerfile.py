"""The Dockerfile as its stages and their instructions; only as much of the format as ours uses."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Instruction:
    name: str
    arguments: str

    def exec_form(self) -> list[str]:
        """The words of ``["program", "argument"]``, after the options of a HEALTHCHECK."""
        words = json.loads(self.arguments[self.arguments.index("[") :])
        assert isinstance(words, list)
        return words

    def pairs(self) -> dict[str, str]:
        """The names and values of an ENV or LABEL."""
        return dict(word.split("=", 1) for word in shlex.split(self.arguments))


@dataclass(frozen=True)
class Stage:
    name: str
    base: str
    instructions: tuple[Instruction, ...]


def stages() -> dict[str, Stage]:
    """The stages by name, in order; every one must have a name."""
    text = (ROOT / "Dockerfile").read_text()
    return {stage.name: stage for stage in map(_stage, re.split(r"^(?=FROM )", text, flags=re.MULTILINE)[1:])}


def _stage(text: str) -> Stage:
    start, *instructions = _instructions(text)
    base, _as, name = start.arguments.split()
    return Stage(name, base, tuple(instructions))


def _instructions(text: str) -> Iterator[Instruction]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, arguments = line.split(maxsplit=1)
        yield Instruction(name, arguments)
