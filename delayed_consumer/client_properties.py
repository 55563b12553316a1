"""The client properties that KAFKA_CONF_* may pass through: which are refused and why, and whose they are.

Names and owners as in librdkafka 2.16's CONFIGURATION.md. A property that is not named here is passed on
and judged by librdkafka itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

PREFIX = "KAFKA_CONF_"

_RUNS_CODE = "it loads code or runs commands inside the service"
_COMMITS = "the service decides what is committed and when, or records would be lost"
_RELAY = "a relayed record is done when every replica has it, exactly as often as it was sent"
_TEST_ONLY = "it is for the tests of the client"

REFUSED: Mapping[str, str] = {
    "bootstrap.servers": "use KAFKA_BOOTSTRAP_SERVERS",
    "metadata.broker.list": "use KAFKA_BOOTSTRAP_SERVERS",
    "group.id": "use KAFKA_GROUP_ID",
    "group.instance.id": "use KAFKA_GROUP_INSTANCE_ID",
    "security.protocol": "use KAFKA_SECURITY_PROTOCOL",
    "sasl.mechanism": "use KAFKA_SASL_MECHANISM",
    "sasl.mechanisms": "use KAFKA_SASL_MECHANISM",
    "sasl.username": "use KAFKA_SASL_USERNAME",
    "sasl.password": "use KAFKA_SASL_PASSWORD or KAFKA_SASL_PASSWORD_FILE",
    "sasl.jaas.config": "use KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD",
    "ssl.ca.location": "use KAFKA_SSL_CA_LOCATION",
    "ssl.certificate.location": "use KAFKA_SSL_CERTIFICATE_LOCATION",
    "ssl.key.location": "use KAFKA_SSL_KEY_LOCATION",
    "ssl.key.password": "use KAFKA_SSL_KEY_PASSWORD or KAFKA_SSL_KEY_PASSWORD_FILE",
    "auto.offset.reset": "use START_FROM and ON_DATA_LOSS",
    "auto.commit.interval.ms": "use COMMIT_INTERVAL_SECONDS",
    "plugin.library.paths": _RUNS_CODE,
    "interceptors": _RUNS_CODE,
    "sasl.kerberos.kinit.cmd": _RUNS_CODE,
    "ssl.engine.location": _RUNS_CODE,
    "ssl.engine.id": _RUNS_CODE,
    "ssl.providers": _RUNS_CODE,
    "enable.auto.commit": _COMMITS,
    "auto.commit.enable": _COMMITS,
    "enable.auto.offset.store": _COMMITS,
    "offset.store.method": _COMMITS,
    "offset.store.path": _COMMITS,
    "offset.store.sync.interval.ms": _COMMITS,
    "share.acknowledgement.mode": _COMMITS,
    "isolation.level": "records of aborted transactions are never delivered",
    "enable.partition.eof": "the service must know when a partition was read to its end",
    "acks": _RELAY,
    "request.required.acks": _RELAY,
    "enable.idempotence": _RELAY,
    "delivery.report.only.error": _RELAY,
    "enable.gapless.guarantee": "the records of a refused batch go again before what is behind them",
    "log.queue": "the client's log goes the way of the service's own",
    "internal.termination.signal": "signals belong to the service",
    "test.mock.num.brokers": _TEST_ONLY,
    "test.mock.broker.rtt": _TEST_ONLY,
}

# The producer and the admin client warn about these, the consumer about the next ones.
CONSUMER_ONLY = frozenset(
    {
        "check.crcs",
        "consume.callback.max.messages",
        "coordinator.query.interval.ms",
        "fetch.error.backoff.ms",
        "fetch.max.bytes",
        "fetch.message.max.bytes",
        "fetch.min.bytes",
        "fetch.queue.backoff.ms",
        "fetch.wait.max.ms",
        "group.protocol",
        "group.protocol.type",
        "group.remote.assignor",
        "heartbeat.interval.ms",
        "max.partition.fetch.bytes",
        "max.poll.interval.ms",
        "max.poll.records",
        "partition.assignment.strategy",
        "queued.max.messages.kbytes",
        "queued.min.messages",
        "session.timeout.ms",
    }
)
PRODUCER_ONLY = frozenset(
    {
        "batch.num.messages",
        "batch.size",
        "compression.codec",
        "compression.level",
        "compression.type",
        "delivery.timeout.ms",
        "linger.ms",
        "message.send.max.retries",
        "message.timeout.ms",
        "partitioner",
        "produce.offset.report",
        "queue.buffering.backpressure.threshold",
        "queue.buffering.max.kbytes",
        "queue.buffering.max.messages",
        "queue.buffering.max.ms",
        "queuing.strategy",
        "request.timeout.ms",
        "retries",
        "sticky.partitioning.linger.ms",
    }
)
# Of the producer that relays under DELIVERY=exactly-once: any other one with its id would fence it.
TRANSACTIONS_ONLY = frozenset({"transactional.id", "transaction.timeout.ms"})

# Secrets that may also come as KAFKA_CONF_<PROPERTY>_FILE. Named one by one, because the client has properties
# of its own that end in `.file`.
SECRETS = frozenset(
    {
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.client.credentials.client.secret",
        "sasl.oauthbearer.config",
        "sasl.oauthbearer.assertion.private.key.passphrase",
        "sasl.oauthbearer.assertion.private.key.pem",
        "ssl.key.pem",
        "ssl.keystore.password",
    }
)

_NAME = re.compile(r"[a-z0-9]+(\.[a-z0-9]+)*")


def property_of(variable: str) -> str:
    """``KAFKA_CONF_SESSION_TIMEOUT_MS`` is ``session.timeout.ms``."""
    return variable.removeprefix(PREFIX).lower().replace("_", ".")


def variable_of(name: str) -> str:
    """The variable that passes this property through."""
    return PREFIX + name.upper().replace(".", "_")


def is_common(name: str) -> bool:
    """Whether every kind of client has this property."""
    return name not in CONSUMER_ONLY | PRODUCER_ONLY | TRANSACTIONS_ONLY


def check_name(name: str) -> str:
    """Raises ValueError with the reason why this property is not passed through."""
    if name in REFUSED:
        raise ValueError(f"refused: {REFUSED[name]}")
    if not _NAME.fullmatch(name):  # names with an underscore are callbacks and pointers of the C interface
        raise ValueError("not the name of a client property: it is letters and digits in words, such as client.id")
    return name
