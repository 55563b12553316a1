"""What a client reports beside its answers: why it cannot connect, and that it may not."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from confluent_kafka import KafkaError

from delayed_consumer.errors import AuthError, ServiceError, UnreachableError

ClientProperties = Mapping[str, str | int | float | bool]

DENIED = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)


class Connection:
    """The state of the connection to one cluster, fed by the clients' error callbacks.

    A refused password is told only there: the question itself just gets no answer.
    """

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self._failed: KafkaError | None = None
        self._denied: KafkaError | None = None

    def on_error(self, error: KafkaError) -> None:
        if is_denial(error):
            self._denied = error
        elif error.code() != KafkaError._ALL_BROKERS_DOWN:  # the reason of each came before it
            self._failed = error

    def raise_if_denied(self) -> None:
        if self._denied is not None:
            raise self.translated(self._denied)

    def translated(self, error: KafkaError, what: str = "") -> ServiceError:
        """Our exception for a question about ``what`` that got ``error``, or that got no answer."""
        if is_denial(error):
            return AuthError(f"the brokers at {self._servers} refuse us{what and ' '}{what}: {error.str()}")
        return UnreachableError(f"the brokers at {self._servers} do not answer: {(self._failed or error).str()}")


def is_denial(error: KafkaError) -> bool:
    """Whether somebody must give us a right or another password."""
    return error.code() in DENIED


def silent_logger() -> logging.Logger:
    """For a client whose log nobody wants: without a logger it writes to stderr."""
    logger = logging.Logger("delayed_consumer.probe")
    logger.addHandler(logging.NullHandler())
    return logger
