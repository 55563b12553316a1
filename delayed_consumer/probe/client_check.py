"""Whether the client takes the properties that are passed through to it."""

from __future__ import annotations

import re

from confluent_kafka import Consumer, KafkaException

from delayed_consumer.client_properties import REFUSED, variable_of
from delayed_consumer.errors import ConfigError
from delayed_consumer.probe.connection import ClientProperties, silent_logger


def check_client_config(config: ClientProperties) -> None:
    """Lets librdkafka judge names and values of the properties, and connects to nothing.

    Raises:
        ConfigError: with a problem for each property that it refuses, named as its variable.
    """
    judged = {name: value for name, value in config.items() if name != "bootstrap.servers"}
    problems = []
    while (reason := _refusal(judged)) is not None:
        refused = _culprits(judged, reason)
        problems.append(f"{', '.join(map(_variable, refused)) or 'KAFKA_CONF_*'}: {reason}")
        if judged.keys().isdisjoint(refused):
            break  # something is missing rather than wrong
        for name in refused:
            judged.pop(name, None)
    if problems:
        raise ConfigError(problems)


def _refusal(config: ClientProperties) -> str | None:
    try:
        Consumer({**config, "group.id": "nobody"}, logger=silent_logger()).close()
    except KafkaException as error:
        return str(error.args[0].str()).strip()
    return None


def _culprits(judged: ClientProperties, reason: str) -> list[str]:
    """The properties that the reason names; it may use another name than ours: then the one refused by itself."""
    words = set(re.findall(r"[a-z0-9]+(?:\.[a-z0-9]+)+", reason))
    named = [name for name in (*judged, *sorted(REFUSED.keys() - judged.keys())) if name in words]
    return named or [name for name, value in judged.items() if _refusal({name: value}) == reason]


def _variable(name: str) -> str:
    own = re.match(r"use (KAFKA_\w+)", REFUSED.get(name, ""))  # such as "use KAFKA_SECURITY_PROTOCOL"
    return own[1] if own else variable_of(name)
