"""The list of planted bugs does not rot: each can still be planted, and the test that must notice it is there."""

from __future__ import annotations

import ast

import pytest

from tests.mutants.mutants import ROOT, Mutant, mutants


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_a_mutant_can_be_planted_and_the_test_that_must_notice_it_exists(mutant: Mutant) -> None:
    source = (ROOT / mutant.file).read_text(encoding="utf-8")
    planted = mutant.planted(source)
    assert planted != source
    ast.parse(planted)
    path, _, test = mutant.red.partition("::")
    assert test.split("::")[0].split("[")[0] in names_defined_in(path)


def names_defined_in(path: str) -> set[str]:
    body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    functions = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    return functions | {ast.unparse(target) for node in body if isinstance(node, ast.Assign) for target in node.targets}


def test_every_mutant_has_a_name_of_its_own() -> None:
    names = [one.name for one in mutants()]
    assert len(names) == len(set(names))
