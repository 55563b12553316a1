"""What the value of one setting may be: the types of the fields of Settings.

A value comes from a variable as text or from a caller as Python's own type; both are accepted.
Every reason for a refusal says what would be accepted.
"""

from __future__ import annotations

import ipaddress
import json
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, SecretStr

from delayed_consumer import client_properties
from delayed_consumer.masking import looks_secret

TEN_YEARS_SECONDS = 315_576_000  # far above any retention, far below what overflows in milliseconds

_TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_HANDLER_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_HOST_NAME = re.compile(r"[a-zA-Z0-9._-]{1,253}")
_COMMA = "and a comma always separates two topics"
_POSIX_CLASSES = {"alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z"}
# What means something else to the client, whose expressions are POSIX extended: \d is the letter d; the others fail.
_NOT_POSIX = re.compile(r"\\[dD]|\(\?|\{(?!\d+(,\d*)?\})")


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def check_topic_name(name: str) -> str:
    """Raises ValueError unless Kafka would take it as the name of a topic."""
    if not _TOPIC_NAME.fullmatch(name) or name in {".", ".."}:
        raise ValueError("not a topic: a name is 1 to 249 of the characters a-z A-Z 0-9 . _ -")
    return name


def topic_pattern(subscription: str) -> re.Pattern[str] | None:
    """The regular expression of a subscription that starts with ``^``, for Python; None: it is a plain name."""
    if not subscription.startswith("^"):
        return None
    for name, characters in _POSIX_CLASSES.items():
        subscription = subscription.replace(f"[:{name}:]", characters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class that Python lacks may still be one that POSIX has
        return re.compile(subscription)


def _check_subscription(subscription: str) -> str:
    if subscription.startswith("^"):
        return _check_pattern(subscription)
    try:
        return check_topic_name(subscription)
    except ValueError as error:
        raise ValueError(f"{error}; ^ starts a regular expression, {_COMMA}") from None


def _check_pattern(subscription: str) -> str:
    foreign = _NOT_POSIX.search(subscription)
    if foreign:
        raise ValueError(f"{foreign[0]} is not part of POSIX extended regular expressions, {_COMMA}")
    try:
        topic_pattern(subscription)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return subscription


def _check_handler_name(value: str) -> str:
    if not _HANDLER_NAME.fullmatch(value):
        raise ValueError("not the name of a function; write package.module:function")
    return value


def _check_text(value: str) -> str:
    if not value or not value.isprintable():
        raise ValueError("must be printable characters, at least one")
    return value


def _check_distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"named more than once: {', '.join(twice)}")
    return values


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _check_distinct(tuple(key for key, _ in pairs))
    return dict(pairs)


def parse_json_object(value: Any, *, example: str = '{"orders": 60}') -> Any:
    """The object that a text is in JSON; what is no text as it is. Raises ValueError that shows ``example``."""
    if not isinstance(value, str):
        return value
    try:
        parsed = json.loads(value, object_pairs_hook=_without_duplicates)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON ({error}); write an object such as {example}") from None
    if not isinstance(parsed, dict):
        raise ValueError(f"not a JSON object; write one such as {example}")
    return parsed


def _check_servers(value: str) -> str:
    servers = [server.strip() for server in value.split(",")]
    for server in servers:
        _check_server(server)
    return ",".join(servers)


def _check_server(server: str) -> None:
    if "://" in server:
        raise ValueError("write host:port without a scheme; the protocol is KAFKA_SECURITY_PROTOCOL")
    host, colon, port = server.rpartition(":")
    if not colon or server.endswith("]"):
        host, port = server, "9092"  # the client's default
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ValueError("a port is a number from 1 to 65535; write host:port, separated by commas")
    if not _is_host(host):
        raise ValueError("not a host; write host:port, separated by commas, an IPv6 address in brackets: [::1]:9092")


def _is_host(host: str) -> bool:
    if host.startswith("[") and host.endswith("]"):
        return _is_ip_address(host[1:-1], 6)
    return _HOST_NAME.fullmatch(host) is not None


def _is_ip_address(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False


def is_loopback(server: str) -> bool:
    """Whether ``host:port`` is this machine, so that what is sent there cannot be overheard."""
    host = re.sub(r":\d+$", "", server).strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _as_text(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _hide_secrets(properties: Any) -> Any:
    if not isinstance(properties, Mapping):
        return properties
    return {name: _hidden(str(name), value) for name, value in properties.items()}


def _hidden(name: str, value: Any) -> Any:
    if isinstance(value, SecretStr | ValueError):
        return value
    return SecretStr(_as_text(value)) if looks_secret(name) else _as_text(value)


def raise_if_error(value: Any) -> Any:
    """A value that could not be read is the error that says why; it is raised where pydantic collects errors."""
    if isinstance(value, ValueError):
        raise value
    return value


Choice = TypeVar("Choice", bound=str)

Lower = Annotated[Choice, BeforeValidator(_lower)]
Upper = Annotated[Choice, BeforeValidator(_upper)]

Text = Annotated[str, AfterValidator(_check_text)]
TopicName = Annotated[str, AfterValidator(check_topic_name)]
Subscriptions = Annotated[
    tuple[Annotated[str, AfterValidator(_check_subscription)], ...],
    BeforeValidator(_split),
    AfterValidator(_check_distinct),
    Field(min_length=1),
]
Servers = Annotated[str, AfterValidator(_check_servers)]
Seconds = Annotated[float, Field(allow_inf_nan=False)]  # without bounds: they would go before those of a field
Delays = Annotated[
    Mapping[TopicName, Annotated[float, Field(ge=0, le=TEN_YEARS_SECONDS, allow_inf_nan=False, strict=True)]],
    BeforeValidator(parse_json_object),
]
RetryDelays = Annotated[
    tuple[Annotated[float, Field(gt=0, le=TEN_YEARS_SECONDS, allow_inf_nan=False)], ...],
    BeforeValidator(_split),
    Field(max_length=20),
]
HandlerName = Annotated[str, AfterValidator(_check_handler_name)]
Bytes = Annotated[ByteSize, Field(ge=65_536, le=2**40)]
_Property = Annotated[str | SecretStr, BeforeValidator(raise_if_error)]
Properties = Annotated[
    Mapping[Annotated[str, AfterValidator(client_properties.check_name)], _Property],
    BeforeValidator(_hide_secrets),
]


def any_match(subscriptions: Iterable[str], topic: str) -> bool:
    """Whether one of these names or regular expressions takes in ``topic``."""
    patterns = ((subscription, topic_pattern(subscription)) for subscription in subscriptions)
    return any(pattern.search(topic) if pattern else name == topic for name, pattern in patterns)
