"""Which settings contradict each other, and which are permitted but probably not meant."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import TYPE_CHECKING

from delayed_consumer import http_setting_rules
from delayed_consumer.client_properties import TRANSACTIONS_ONLY, variable_of
from delayed_consumer.masking import mask_text
from delayed_consumer.setting_values import check_topic_name, is_loopback

if TYPE_CHECKING:
    from delayed_consumer.settings import Settings

Rule = Callable[["Settings"], Iterator[str]]

_LOGIN = ("kafka_sasl_username", "kafka_sasl_password")
_CREDENTIALS = ("kafka_sasl_mechanism", *_LOGIN)
_TLS_FILES = ("kafka_ssl_ca_location", "kafka_ssl_certificate_location", "kafka_ssl_key_location")
_TLS = (*_TLS_FILES, "kafka_ssl_key_password")
# The client builds a command line for kinit from these.
_KERBEROS = ("sasl.kerberos.principal", "sasl.kerberos.keytab", "sasl.kerberos.service.name")
_GROUP_TIMES_MS = {"heartbeat.interval.ms": 3_000, "session.timeout.ms": 45_000}  # with the client's defaults
_STATISTICS = "statistics.interval.ms"
_SHELL_SAFE = re.compile(r"[A-Za-z0-9@/._-]+")

_OF_HANDLERS = {"sink_concurrency", "sink_timeout_seconds", "ordering", "max_attempts"}
# Which of the settings that are not for every SINK mean something to each.
USED_BY_SINK: Mapping[str, AbstractSet[str]] = {
    "log": set(),
    "topic": {"sink_topic", "sink_topic_timestamp"},
    "http": {
        "sink_url",
        "sink_http_content_type",
        "sink_http_headers",
        "sink_http_bearer_token",
        "sink_http_username",
        "sink_http_password",
        "sink_http_signing_secret",
        "sink_http_ca_location",
        "sink_http_connect_timeout_seconds",
        "sink_http_read_timeout_seconds",
        "sink_http_timeout_seconds",
        "sink_http_max_response_bytes",
        "sink_http_format",
        "sink_http_cloudevents_type",
        "sink_http_cloudevents_source",
        *_OF_HANDLERS,
    },
    "python": {"sink_handler", *_OF_HANDLERS},
}


def conflicts(settings: Settings, unusable: AbstractSet[str]) -> list[str]:
    """Every contradiction among settings, but for those that involve one of ``unusable``."""
    return [problem for rule, fields in _RULES.items() if not unusable & set(fields) for problem in rule(settings)]


def cautions(settings: Settings) -> list[str]:
    """What is permitted and probably not meant: it weakens something or does nothing. Worth a line at every start."""
    return [
        *_unencrypted(settings),
        *http_setting_rules.unencrypted(settings),
        *_unverified(settings),
        *_late_heartbeats(settings),
        *_blind(settings),
        *_unused(settings),
        *_unused_by_sink(settings),
    ]


def _unencrypted(settings: Settings) -> Iterator[str]:
    servers = [server for server in settings.kafka_bootstrap_servers.split(",") if not is_loopback(server)]
    if not servers or _encrypts(settings):
        return
    protocol = settings.kafka_security_protocol
    what = "the password and every record" if protocol == "SASL_PLAINTEXT" else "every record"
    yield f"KAFKA_SECURITY_PROTOCOL={protocol} sends {what} unencrypted to {', '.join(servers)}; use SASL_SSL or SSL"


def _unverified(settings: Settings) -> Iterator[str]:
    weak = {
        "enable.ssl.certificate.verification": ("false", "any broker is believed, whatever certificate it shows"),
        "ssl.endpoint.identification.algorithm": ("none", "a certificate is believed whatever host it was made for"),
        "enable.sasl.oauthbearer.unsecure.jwt": ("true", "tokens without a signature are used; for tests only"),
    }
    for name, (value, consequence) in weak.items():
        if str(settings.kafka_conf.get(name, "")).lower() == value:
            yield f"{variable_of(name)}={value}: {consequence}"


def _unused(settings: Settings) -> Iterator[str]:
    if settings.dead_letter_topic and "dead-letter" not in {settings.on_failure, settings.on_future_timestamp}:
        yield (
            f"DEAD_LETTER_TOPIC={settings.dead_letter_topic} gets nothing: "
            f"ON_FAILURE is {settings.on_failure} and ON_FUTURE_TIMESTAMP is {settings.on_future_timestamp}"
        )
    used = USED_BY_SINK[settings.sink]
    if "ordering" in used and settings.ordering != "partition" and settings.sink_concurrency is None:
        yield f"ORDERING={settings.ordering} has no effect without SINK_CONCURRENCY: one worker per partition"


def _unused_by_sink(settings: Settings) -> Iterator[str]:
    """What was given for another SINK, a value that is the default included."""
    others = frozenset[str]().union(*USED_BY_SINK.values()) - USED_BY_SINK[settings.sink]
    unused = sorted(name.upper() for name in settings.model_fields_set & others)
    if unused:
        yield f"{', '.join(unused)} without effect: SINK is {settings.sink}"


def _late_heartbeats(settings: Settings) -> Iterator[str]:
    given = {name: str(settings.kafka_conf.get(name, default)) for name, default in _GROUP_TIMES_MS.items()}
    if not all(value.isdecimal() for value in given.values()):
        return  # the client says what is wrong with it
    (heartbeat, heartbeat_ms), (session, session_ms) = given.items()
    if int(heartbeat_ms) >= int(session_ms):
        yield (
            f"{variable_of(heartbeat)}, {heartbeat_ms}, is not below {variable_of(session)}, {session_ms}: the brokers "
            "may expel the instance between two heartbeats"
        )


def _blind(settings: Settings) -> Iterator[str]:
    """See `BrokerWatch`."""
    if str(settings.kafka_conf.get(_STATISTICS, "")) == "0":
        yield f"{variable_of(_STATISTICS)}=0: a client that has forgotten all brokers is not noticed, and not replaced"


def _encrypts(settings: Settings) -> bool:
    return settings.kafka_security_protocol in {"SSL", "SASL_SSL"}


def _set(settings: Settings, names: Sequence[str]) -> list[str]:
    """Those of these fields that have a value, as variables."""
    return [name.upper() for name in names if getattr(settings, name) is not None]


def _target(settings: Settings, sink: str, field: str, what: str) -> Iterator[str]:
    """Where ``sink`` delivers to is one setting, which means nothing to the others."""
    variable, given = field.upper(), getattr(settings, field) is not None
    if settings.sink == sink and not given:
        yield f"SINK={sink} needs {variable}, {what}"
    if settings.sink != sink and given:
        yield f"{variable} has no effect with SINK={settings.sink}; set SINK={sink} or leave it out"


def _transactions(settings: Settings) -> Iterator[str]:
    if settings.delivery == "exactly-once" and settings.sink != "topic":
        yield (
            f"DELIVERY=exactly-once needs SINK=topic, SINK is {settings.sink}: "
            "only what is written to Kafka can be in one transaction with the offsets"
        )


def _transactional_id(settings: Settings) -> Iterator[str]:
    given = [name for name in sorted(TRANSACTIONS_ONLY) if name in settings.kafka_conf]
    if given and settings.delivery != "exactly-once":
        yield (
            f"{', '.join(map(variable_of, given))} without effect: DELIVERY is {settings.delivery}; "
            "set exactly-once or leave it out"
        )


def _retry_topic_names(settings: Settings) -> Iterator[str]:
    for topic in settings.retry_topics[-1:]:  # the longest name
        try:
            check_topic_name(topic)
        except ValueError as error:
            yield f"RETRY_DELAYS_SECONDS: {topic!r} is named after KAFKA_GROUP_ID and is {error}"


def _dead_letters(settings: Settings) -> Iterator[str]:
    users = {"ON_FAILURE": settings.on_failure, "ON_FUTURE_TIMESTAMP": settings.on_future_timestamp}
    for name, value in users.items():
        if value == "dead-letter" and settings.dead_letter_topic is None:
            yield f"{name}=dead-letter needs DEAD_LETTER_TOPIC, the topic that takes the records"


def _into_itself(settings: Settings) -> Iterator[str]:
    targets = {"SINK_TOPIC": settings.sink_topic, "DEAD_LETTER_TOPIC": settings.dead_letter_topic}
    for name, target in targets.items():
        if target is not None and (settings.consumes(target) or target in settings.retry_topics):
            yield (
                f"{name}={target} is one of the topics that are read: "
                "what is written there would be read again, for ever; name another one"
            )
    if settings.dead_letter_topic is not None and settings.dead_letter_topic == settings.sink_topic:
        yield f"DEAD_LETTER_TOPIC={settings.dead_letter_topic} is SINK_TOPIC too; name another one"


def _own_retry_topics(settings: Settings) -> Iterator[str]:
    for topic in settings.retry_topics:
        if topic in settings.kafka_topics:
            yield f"KAFKA_TOPICS names {topic}, which RETRY_DELAYS_SECONDS has read anyway; leave it out"


def _delays_of_other_topics(settings: Settings) -> Iterator[str]:
    for topic in settings.delay_seconds_by_topic:
        if not settings.consumes(topic):
            yield f"DELAY_SECONDS_BY_TOPIC names {topic}, which KAFKA_TOPICS does not take in; leave it out"


def _credentials_without_sasl(settings: Settings) -> Iterator[str]:
    given = _set(settings, _CREDENTIALS)
    protocol = settings.kafka_security_protocol
    if given and not protocol.startswith("SASL_"):
        yield f"{', '.join(given)} without effect: KAFKA_SECURITY_PROTOCOL is {protocol}; set SASL_SSL"


def _sasl_without_mechanism(settings: Settings) -> Iterator[str]:
    protocol = settings.kafka_security_protocol
    if protocol.startswith("SASL_") and settings.kafka_sasl_mechanism is None:
        yield f"KAFKA_SECURITY_PROTOCOL={protocol} needs KAFKA_SASL_MECHANISM, for example SCRAM-SHA-512"


def _half_a_login(settings: Settings) -> Iterator[str]:
    mechanism = settings.kafka_sasl_mechanism or ""
    given = _set(settings, _LOGIN)
    if len(given) == 1 or (not given and mechanism.startswith(("PLAIN", "SCRAM"))):
        missing = [name.upper() for name in _LOGIN if name.upper() not in given]
        yield f"{given[0] if given else f'KAFKA_SASL_MECHANISM={mechanism}'} needs {' and '.join(missing)}"


def _tls_files_without_tls(settings: Settings) -> Iterator[str]:
    given = _set(settings, _TLS)
    if given and not _encrypts(settings):
        protocol = settings.kafka_security_protocol
        yield f"{', '.join(given)} without effect: KAFKA_SECURITY_PROTOCOL is {protocol}; set SSL or SASL_SSL"


def _missing_files(settings: Settings) -> Iterator[str]:
    """The client itself would name neither the file nor the reason; ``probe`` is its word for the usual places."""
    for name in _TLS_FILES:
        path = getattr(settings, name)
        if path is not None and path != "probe" and not os.access(path, os.R_OK):
            yield f"{name.upper()}={mask_text(path)!r}: there is no such file, or we may not read it"


def _half_a_certificate(settings: Settings) -> Iterator[str]:
    certificate = settings.kafka_ssl_certificate_location or settings.kafka_conf.get("ssl.certificate.pem")
    key = settings.kafka_ssl_key_location or settings.kafka_conf.get("ssl.key.pem")
    if certificate and not key:
        yield "KAFKA_SSL_CERTIFICATE_LOCATION needs KAFKA_SSL_KEY_LOCATION, the private key of that certificate"
    if key and not certificate:
        yield "KAFKA_SSL_KEY_LOCATION needs KAFKA_SSL_CERTIFICATE_LOCATION, the certificate of that private key"
    if settings.kafka_ssl_key_password is not None and not key:
        yield "KAFKA_SSL_KEY_PASSWORD needs KAFKA_SSL_KEY_LOCATION, the private key that it opens"


def _slow_wake_up(settings: Settings) -> Iterator[str]:
    wait_ms = str(settings.kafka_conf.get("fetch.wait.max.ms", ""))
    if wait_ms.isdecimal() and int(wait_ms) > settings.lookahead_seconds * 500:
        yield (
            f"KAFKA_CONF_FETCH_WAIT_MAX_MS={wait_ms} is more than half of LOOKAHEAD_SECONDS: "
            "a resumed partition could be read too late; lower the one or raise the other"
        )


def _shell_characters(settings: Settings) -> Iterator[str]:
    for name in _KERBEROS:
        if not _SHELL_SAFE.fullmatch(str(settings.kafka_conf.get(name, "-"))):
            yield f"{variable_of(name)}: the client hands it to a shell; use letters, digits and @ / . _ - only"


# Each rule with the settings that it looks at.
_RULES: Mapping[Rule, Sequence[str]] = {
    partial(_target, sink="topic", field="sink_topic", what="the topic to relay to"): ("sink", "sink_topic"),
    partial(_target, sink="python", field="sink_handler", what="the function to call, as package.module:function"): (
        "sink",
        "sink_handler",
    ),
    partial(_target, sink="http", field="sink_url", what="where to post the records"): ("sink", "sink_url"),
    _transactions: ("delivery", "sink"),
    _transactional_id: ("delivery", "kafka_conf"),
    _retry_topic_names: ("retry_delays_seconds", "kafka_group_id"),
    _dead_letters: ("on_failure", "on_future_timestamp", "dead_letter_topic"),
    _into_itself: ("sink_topic", "dead_letter_topic", "kafka_topics", "kafka_group_id", "retry_delays_seconds"),
    _own_retry_topics: ("kafka_topics", "kafka_group_id", "retry_delays_seconds"),
    _delays_of_other_topics: ("delay_seconds_by_topic", "kafka_topics"),
    _credentials_without_sasl: ("kafka_security_protocol", *_CREDENTIALS),
    _sasl_without_mechanism: ("kafka_security_protocol", "kafka_sasl_mechanism"),
    _half_a_login: _CREDENTIALS,
    _tls_files_without_tls: ("kafka_security_protocol", *_TLS),
    _missing_files: _TLS_FILES,
    _half_a_certificate: (*_TLS, "kafka_conf"),
    _slow_wake_up: ("kafka_conf", "lookahead_seconds"),
    _shell_characters: ("kafka_conf",),
    **http_setting_rules.RULES,
}
