"""What the values of SINK_URL and SINK_HTTP_* may be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, SecretStr

from delayed_consumer.setting_values import parse_json_object
from delayed_consumer.sinks.http_address import read_url
from delayed_consumer.sinks.http_signature import signing_key

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[!-~]([ -~\t]*[!-~])?")
_CONTENT_TYPE = re.compile(r"[!#$&^_.+0-9A-Za-z-]+/[!#$&^_.+0-9A-Za-z-]+( *;[ -~]*)?")
_MOST_HEADERS = 30  # servers refuse a request with more than about 100
# Those that frame a request or belong to a connection, and those that are set for each record.
_OWN_HEADERS = {
    "connection",
    "content-length",
    "expect",
    "host",
    "idempotency-key",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
_OWN_PREFIXES = ("x-kafka-", "webhook-", "ce-")


def _check_url(value: str) -> str:
    read_url(value)
    return value


def _check_content_type(value: str) -> str:
    if not _CONTENT_TYPE.fullmatch(value):
        raise ValueError("not a media type; write one such as application/json")
    return value


def _check_token(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]+", value.get_secret_value()):
        raise ValueError("must be printable ASCII characters without spaces")
    return value


def _check_signing_secret(value: SecretStr) -> SecretStr:
    try:
        signing_key(value.get_secret_value())
    except ValueError:
        raise ValueError("after whsec_ there must be the key in base64") from None
    return value


def _check_user(value: str) -> str:
    if not value or ":" in value or not value.isprintable():
        raise ValueError("must be printable characters without a colon, at least one")
    return value


def _hidden_headers(value: Any) -> Any:
    """Each value hidden before anything can be found wrong with it and be shown."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    headers = parse_json_object(text, example='{"X-Api-Key": "..."}')
    if not isinstance(headers, Mapping):
        raise ValueError("must be names and values")
    for name, header in headers.items():
        _check_header(str(name), header.get_secret_value() if isinstance(header, SecretStr) else header)
    _check_names([str(name).lower() for name in headers])
    return {name: one if isinstance(one, SecretStr) else SecretStr(one) for name, one in headers.items()}


def _check_header(name: str, value: Any) -> None:
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a header")
    if name.lower() == "content-type":
        raise ValueError("Content-Type is given as SINK_HTTP_CONTENT_TYPE")
    if name.lower() in _OWN_HEADERS or name.lower().startswith(_OWN_PREFIXES):
        raise ValueError(f"{name} is set for each request or connection and cannot be given")
    if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
        raise ValueError(f"the value of {name} must be a string of printable ASCII characters")


def _check_names(names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"named more than once: {', '.join(twice)}")
    if len(names) > _MOST_HEADERS:
        raise ValueError(f"at most {_MOST_HEADERS} headers")


HttpUrl = Annotated[str, AfterValidator(_check_url)]
ContentType = Annotated[str, AfterValidator(_check_content_type)]
AnswerBytes = Annotated[ByteSize, Field(ge=0, le=2**30)]
BearerToken = Annotated[SecretStr, AfterValidator(_check_token)]
BasicUser = Annotated[str, AfterValidator(_check_user)]
SigningSecret = Annotated[SecretStr, AfterValidator(_check_signing_secret)]
RequestHeaders = Annotated[Mapping[str, SecretStr], BeforeValidator(_hidden_headers)]
