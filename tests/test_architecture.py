"""Who may import whom, and who may read the environment or write to stdout."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "delayed_consumer"
MODULES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
CORE = [name for name in MODULES if name.startswith("core/")]

PURE = {"__future__", "bisect", "collections", "collections.abc", "dataclasses", "itertools", "typing"}
CLIENT_OWNERS = {
    "source.py",
    "sinks/topic.py",
    "sinks/forward.py",
    "sinks/relaying.py",
    "sinks/transactional_client.py",
    "sinks/transaction_writer.py",
    "dead_letters/reading.py",
    "dead_letters/outbox.py",
    "demo/cluster.py",
    "embedded.py",
    "versions.py",
}
ENVIRONMENT_OWNERS = {"settings.py"}
APP_OWNERS = {"app.py", "cli.py", "consumer.py", "demo/live.py"}
STDOUT_OWNERS = {"assembly.py", "cli.py", "demo/live.py", "lag.py", "check_config.py"}


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"), name)


def imports(name: str) -> Iterator[str]:
    """Every module that is imported, also within functions, by its full name."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            module = str(node.module)
            yield module
            if module == "delayed_consumer":
                yield from (f"{module}.{alias.name}" for alias in node.names)


def importers(*modules: str) -> set[str]:
    return {name for name in MODULES for one in imports(name) if one.startswith(tuple(f"{of}." for of in modules))} | {
        name for name in MODULES for one in imports(name) if one in modules
    }


def uses(name: str, *attributes: str) -> bool:
    """Whether a module has an expression such as ``os.environ``."""
    return any(isinstance(node, ast.Attribute) and ast.unparse(node) in attributes for node in ast.walk(tree(name)))


@pytest.mark.parametrize("name", CORE)
def test_the_core_imports_only_itself_and_what_is_pure(name: str) -> None:
    foreign = {one for one in imports(name) if one not in PURE and not one.startswith("delayed_consumer.core.")}
    assert not foreign


def test_there_is_a_core_to_look_at() -> None:
    assert {"core/due.py", "core/engine.py", "core/flow.py", "core/offsets.py", "core/window.py"} <= set(CORE)


def test_only_the_owners_of_a_client_import_it() -> None:
    owners = {name for name in importers("confluent_kafka") if not name.startswith("probe/")}
    assert owners <= CLIENT_OWNERS


def test_only_the_settings_read_the_environment() -> None:
    readers = {name for name in MODULES if uses(name, "os.environ", "os.getenv", "os.environb")}
    assert readers == ENVIRONMENT_OWNERS
    assert not {name for name in MODULES for one in names_imported_from_os(name) if "env" in one}


def names_imported_from_os(name: str) -> Iterator[str]:
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (alias.name for alias in node.names)


def test_only_the_commands_and_the_library_import_the_app() -> None:
    assert importers("delayed_consumer.app") <= APP_OWNERS


def test_the_package_does_not_need_what_is_around_it() -> None:
    assert not importers("load", "tests")


def test_only_commands_write_to_stdout() -> None:
    """stdout carries records and nothing else."""
    assert {name for name in MODULES if uses(name, "sys.stdout", "sys.__stdout__")} <= STDOUT_OWNERS
    calls = {
        (name, ast.unparse(node.func))
        for name in MODULES
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Call)
    }
    assert not {name for name, function in calls if function in {"print", "input"}}
