"""What pydantic finds wrong, as one line each that names the variable, shows what was given and says what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from delayed_consumer import client_properties
from delayed_consumer.masking import looks_secret, mask_text
from delayed_consumer.variables import CONF_FIELD, FROM_FILES, nearest

_SHOWN_CHARACTERS = 100


def explain(error: ValidationError, fields: Mapping[str, FieldInfo]) -> list[str]:
    """One line for each problem. Never a secret's value, nor the value of a name that is not ours."""
    return [_explain(details, fields) for details in error.errors()]


def unusable_names(error: ValidationError) -> frozenset[str]:
    """The fields, and the names that are none, that something is wrong with."""
    return frozenset(str(details["loc"][0]) for details in error.errors())


def _explain(details: ErrorDetails, fields: Mapping[str, FieldInfo]) -> str:
    name = str(details["loc"][0])
    variable = _variable(details["loc"])
    if details["type"] == "missing":
        return f"{variable} is required: {fields[name].description}"
    if details["type"] == "extra_forbidden":
        return _unknown(name, fields)
    return f"{variable}{_given(variable, details['input'])}: {_reason(details, fields[name])}"


def _variable(location: tuple[int | str, ...]) -> str:
    variable, *inside = str(location[0]).upper(), *location[1:]
    if not inside or isinstance(inside[0], int):  # an item of a list shows which it is by its value
        return variable
    key = str(inside[0])
    return client_properties.variable_of(key) if location[0] == CONF_FIELD else f"{variable}[{key}]"


def _given(variable: str, value: Any) -> str:
    if looks_secret(variable) or variable.startswith("KAFKA_CONF") or isinstance(value, SecretStr | ValueError):
        return ""
    shown = mask_text(value) if isinstance(value, str) else value
    text = repr(shown)
    return f"={text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + '...'}"


def _reason(details: ErrorDetails, field: FieldInfo) -> str:
    cause = details.get("ctx", {}).get("error")
    if cause is not None:  # one of our own checks, which says what to do
        return str(cause)
    return f"{details['msg'].replace('Input should be', 'must be')} ({field.description})"


def _unknown(name: str, fields: Mapping[str, FieldInfo]) -> str:
    variable = name.upper()
    return f"{name} is not a setting; {_hint(name, variable, fields)}"


def _hint(name: str, variable: str, fields: Mapping[str, FieldInfo]) -> str:
    if variable.endswith("_FILE") and variable.removesuffix("_FILE").lower() in fields:
        return f"only {', '.join(field.upper() for field in FROM_FILES)} may also come from a file"
    meant = nearest(variable, fields)
    if meant:
        return f"did you mean {meant if name == variable else meant.lower()}?"
    if variable.startswith("KAFKA_"):
        return f"any other property of the client is given as {client_properties.PREFIX}<PROPERTY>"
    return "leave it out"
