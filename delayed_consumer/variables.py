"""The environment as values for Settings: files of secrets, what Kubernetes injects, names that are nearly ours."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from delayed_consumer import client_properties
from delayed_consumer.masking import looks_secret

Origin = Literal["default", "environment", "file", "argument"]

CONF_FIELD = "kafka_conf"  # the field that all of KAFKA_CONF_* are collected in
FROM_FILES = (  # also as NAME_FILE
    "kafka_sasl_username",
    "kafka_sasl_password",
    "kafka_ssl_key_password",
    "sink_http_headers",
    "sink_http_bearer_token",
    "sink_http_username",
    "sink_http_password",
    "sink_http_signing_secret",
)

# First words that others use as well (LOG_DIR, HTTP_PROXY, COMMIT_SHA, START_TIME). Under these only a name that
# is nearly one of ours is an error; every other first word is ours alone.
_SHARED_WORDS = {"COMMIT", "DEAD", "DELIVERY", "HTTP", "LOG", "MAX", "ON", "ORDERING", "RETRY", "SHUTDOWN", "START"}
_NEARLY = 0.8  # similarity: LOG_LEVL is LOG_LEVEL, HTTP_PROXY (0.74) is not HTTP_PORT
_ALMOST = 0.9  # without even the first word in common: KAKFA_TOPICS is KAFKA_TOPICS
_SECRET_FILE_MAX_BYTES = 65_536

# Kubernetes gives every container these for every service, with the service's name in front.
_INJECTED_NAME = re.compile(
    r"KAFKA_(PORT|SERVICE)(_.*)?|.*_SERVICE_(HOST|PORT(_.*)?)|.*_PORT_\d+_(TCP|UDP|SCTP)(_.*)?", re.DOTALL
)
_INJECTED_VALUE = re.compile(r"(tcp|udp|sctp)://[^/]*:\d+", re.DOTALL)


class Variables(PydanticBaseSettingsSource):
    """The values of the variables that are set; an empty one counts as not set.

    A value that cannot be had (a secret's file cannot be read) is the ValueError that says so. A name that is
    no setting's comes as it is, without its value, for the model to refuse.
    """

    def __init__(self, settings: type[BaseSettings], environ: Mapping[str, str]) -> None:
        super().__init__(settings)
        self._environ = {name: value for name, value in environ.items() if value and not _is_injected(name, value)}

    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields
        given = {name: value for name in fields if (value := self._value(name)) is not None}
        return given | {name: None for name in self._environ if is_misspelt(name, fields)}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """The value as it was given, its key, and False: it is not JSON for pydantic-settings to decode."""
        return self._value(field_name), field_name, False

    def _value(self, field: str) -> Any:
        if field == CONF_FIELD:
            return self._passed_through() or None
        return self._read_or_file(field.upper()) if field in FROM_FILES else self._read(field.upper())

    def _read(self, variable: str) -> str | SecretStr | ValueError | None:
        value = self._environ.get(variable)
        if value is None:
            return None
        try:
            value.encode()
        except UnicodeEncodeError:  # Python keeps other bytes as lone surrogates
            return ValueError("must be UTF-8")
        return SecretStr(value) if looks_secret(variable) else value.strip()

    def _read_or_file(self, variable: str) -> str | SecretStr | ValueError | None:
        path = self._environ.get(f"{variable}_FILE")
        if path is None:
            return self._read(variable)
        if variable in self._environ:
            return ValueError(f"given twice: set {variable} or {variable}_FILE")
        try:
            content = _content(Path(path))
        except (OSError, ValueError) as error:
            return ValueError(f"{variable}_FILE cannot be used: {_reason(error)}")
        return SecretStr(content) if looks_secret(variable) else content

    def _passed_through(self) -> dict[str, str | SecretStr | ValueError | None]:
        variables = {_without_file(name) for name in self._environ if name.startswith(client_properties.PREFIX)}
        return {client_properties.property_of(name): self._read_or_file(name) for name in sorted(variables)}


def origin(variable: str, arguments: Container[str], environ: Container[str]) -> Origin:
    """Where a setting came from that is not at its default; ``arguments`` as variables, too."""
    if variable in arguments:
        return "argument"
    return "environment" if variable in environ else "file"


def is_misspelt(name: str, fields: Iterable[str]) -> bool:
    """Whether this variable is meant for us and no setting has its name."""
    if name in known_names(fields) or name.startswith(client_properties.PREFIX):
        return False
    word, underscore, _ = name.partition("_")
    if not underscore or word not in _first_words(fields):
        return False
    return word not in _SHARED_WORDS or nearest(name, fields) is not None


def look_alikes(environ: Iterable[str], fields: Iterable[str]) -> list[str]:
    """A warning for each variable whose first word is no word of ours but the whole is nearly a name of ours."""
    known, words = known_names(fields), _first_words(fields)
    others = [name for name in environ if name.partition("_")[0] not in words]
    near = [(name, get_close_matches(name, known, n=1, cutoff=_ALMOST)) for name in others]
    return [f"{name} is not a setting; did you mean {meant[0]}?" for name, meant in near if meant]


def nearest(name: str, fields: Iterable[str]) -> str | None:
    """The name of ours that was most likely meant: similar, or with the unit that was left out."""
    known = known_names(fields)
    longer = [one for one in known if one.startswith(f"{name}_")]
    return next(iter(longer or get_close_matches(name, known, n=1, cutoff=_NEARLY)), None)


def known_names(fields: Iterable[str]) -> list[str]:
    """Every variable that means something to the service, but for KAFKA_CONF_*."""
    names = [field.upper() for field in fields if field != CONF_FIELD]
    return [*names, *(f"{field.upper()}_FILE" for field in FROM_FILES)]


def _first_words(fields: Iterable[str]) -> set[str]:
    return {name.partition("_")[0] for name in known_names(fields)}


def _is_injected(name: str, value: str) -> bool:
    return bool(_INJECTED_NAME.fullmatch(name) or (name.endswith("_PORT") and _INJECTED_VALUE.match(value)))


def _without_file(variable: str) -> str:
    secret = variable.removesuffix("_FILE")
    return secret if client_properties.property_of(secret) in client_properties.SECRETS else variable


def _content(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_SECRET_FILE_MAX_BYTES + 1)
    if len(content) > _SECRET_FILE_MAX_BYTES:
        raise ValueError(f"it is longer than {_SECRET_FILE_MAX_BYTES} bytes")
    text = content.decode().removesuffix("\n").removesuffix("\r")
    if not text or "\0" in text:
        raise ValueError("it is empty or holds a NUL character")
    return text


def _reason(error: OSError | ValueError) -> str:
    """Neither the path, which may be the secret itself by mistake, nor the content."""
    if isinstance(error, OSError):
        return error.strerror or "it cannot be read"
    return "it is not UTF-8" if isinstance(error, UnicodeError) else str(error)
