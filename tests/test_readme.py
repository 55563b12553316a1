"""The README is true: its settings table is the model's, and every promise names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from delayed_consumer.settings import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def settings_table() -> str:
    """The table as the README must have it; to renew it: ``python -m tests.test_readme``."""
    rows = [f"| {_variable(name)} | {_default(field)} | {_meaning(field)} |" for name, field in _fields()]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows])


def test_the_settings_table_is_the_model() -> None:
    assert settings_table() in README


def test_every_test_that_the_readme_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", README)
    assert len(named) >= 10
    missing = [f"{path}::{name}" for path, name in named if f"def {name}(" not in (ROOT / path).read_text()]
    assert not missing


def test_every_file_that_the_readme_links_to_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


def _fields() -> list[tuple[str, FieldInfo]]:
    return list(Settings.model_fields.items())


def _variable(name: str) -> str:
    return "KAFKA_CONF_*" if name == "kafka_conf" else name.upper()


def _meaning(field: FieldInfo) -> str:
    choices = _choices(field.annotation)
    return f"{field.description} {' or '.join(f'`{one}`' for one in choices)}".strip()


def _choices(annotation: Any) -> tuple[str, ...]:
    """What a field of a few words takes, however its type is wrapped."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next((found for part in get_args(annotation) if (found := _choices(part))), ())


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return "" if field.default in (None, {}, ()) else str(field.default)


if __name__ == "__main__":
    print(settings_table())
