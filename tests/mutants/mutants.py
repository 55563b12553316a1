"""The planted bugs: small edits of the source, each of which a test must notice."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_LIST = Path(__file__).with_name("mutants.toml")


@dataclass(frozen=True, slots=True)
class Mutant:
    """``old`` occurs once in ``file``; with ``new`` in its place the test ``red`` must fail."""

    name: str
    file: str
    old: str
    new: str
    red: str

    def plant(self, tree: Path) -> None:
        path = tree / self.file
        path.write_text(self.planted(path.read_text(encoding="utf-8")), encoding="utf-8")

    def planted(self, source: str) -> str:
        if source.count(self.old) != 1:
            raise ValueError(f"{self.name}: the text to replace occurs {source.count(self.old)} times in {self.file}")
        return source.replace(self.old, self.new)


def mutants() -> list[Mutant]:
    """As they are listed in mutants.toml."""
    return [Mutant(**one) for one in tomllib.loads(_LIST.read_text(encoding="utf-8"))["mutant"]]
