"""The environment as one frozen Settings, read once; every problem in one message."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, Self

from pydantic import (
    ByteSize,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from delayed_consumer import client_properties
from delayed_consumer.errors import ConfigError
from delayed_consumer.http_setting_values import (
    AnswerBytes,
    BasicUser,
    BearerToken,
    ContentType,
    HttpUrl,
    RequestHeaders,
    SigningSecret,
)
from delayed_consumer.masking import MASK, mask_text
from delayed_consumer.setting_problems import explain, unusable_names
from delayed_consumer.setting_rules import cautions, conflicts
from delayed_consumer.setting_values import (
    TEN_YEARS_SECONDS,
    Bytes,
    Delays,
    HandlerName,
    Lower,
    Properties,
    RetryDelays,
    Seconds,
    Servers,
    Subscriptions,
    Text,
    TopicName,
    Upper,
    any_match,
    raise_if_error,
)
from delayed_consumer.variables import CONF_FIELD, Origin, Variables, look_alikes, origin

# Stand-ins for required settings that are missing or wrong, so that the others can be checked against each other
# in the same message. Nothing is said about a stand-in and no Settings with one is ever returned.
_STAND_INS = {"kafka_bootstrap_servers": "localhost", "kafka_topics": "stand-in"}


class Settings(BaseSettings):
    """What the service was told. Each field is the variable of the same name in capitals.

    ``Settings()`` reads the environment, ``Settings(delay_seconds=60)`` all but the delay,
    ``Settings(variables)`` these variables instead of the environment's.

    Raises:
        ConfigError: with every problem, of single values and among them.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", validate_default=False)

    delay_seconds: Seconds = Field(
        900, ge=0, le=TEN_YEARS_SECONDS, description="Delay after the record's timestamp, in seconds."
    )
    delay_seconds_by_topic: Delays = Field({}, description="Delays of single topics in seconds, as a JSON object.")

    kafka_bootstrap_servers: Servers = Field(description="Brokers to ask first, as host:port separated by commas.")
    kafka_topics: Subscriptions = Field(
        description="Topics to read, separated by commas; one that starts with ^ is a regular expression."
    )
    kafka_group_id: Text = Field("delayed-consumer", description="Consumer group that commits the offsets.")
    kafka_group_instance_id: Text | None = Field(None, description="Name of this instance for static membership.")
    kafka_security_protocol: Upper[Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]] = Field(
        "PLAINTEXT", description="Protocol spoken with the brokers."
    )
    kafka_sasl_mechanism: Upper[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"]] | None = (
        Field(None, description="How to authenticate; required by the SASL protocols.")
    )
    kafka_sasl_username: Text | None = Field(None, description="User name of PLAIN and SCRAM; also as NAME_FILE.")
    kafka_sasl_password: SecretStr | None = Field(None, description="Password of PLAIN and SCRAM; also as NAME_FILE.")
    kafka_ssl_ca_location: Text | None = Field(
        None, description="File or directory of the certificate authorities that sign the brokers' certificates."
    )
    kafka_ssl_certificate_location: Text | None = Field(None, description="File of this client's own certificate.")
    kafka_ssl_key_location: Text | None = Field(None, description="File of this client's private key.")
    kafka_ssl_key_password: SecretStr | None = Field(
        None, description="Password of this client's private key; also as NAME_FILE."
    )
    kafka_conf: Properties = Field(
        {}, description="Any other client property: KAFKA_CONF_SESSION_TIMEOUT_MS is session.timeout.ms."
    )

    start_from: Lower[Literal["earliest", "latest"]] = Field(
        "earliest", description="Where a group without a commit starts."
    )
    on_data_loss: Lower[Literal["stop", "continue"]] = Field(
        "stop", description="What to do when the committed offset is no longer in the log."
    )
    delivery: Lower[Literal["at-most-once", "at-least-once", "exactly-once"]] = Field(
        "at-least-once", description="What a crash may do to a record: lose it, repeat it, or neither."
    )
    commit_interval_seconds: Seconds = Field(
        5, ge=0.01, le=3600, description="How often the offsets of delivered records are committed, in seconds."
    )
    commit_every_records: int = Field(
        0, ge=0, description="Also commit as soon as this many records are done; 0 turns it off."
    )

    sink: Lower[Literal["log", "topic", "http", "python"]] = Field(
        "log", description="Where a record goes when it is due."
    )
    sink_topic: TopicName | None = Field(None, description="Topic that SINK=topic relays to.")
    sink_topic_timestamp: Lower[Literal["delivery", "source"]] = Field(
        "delivery", description="Timestamp of a relayed record: that of its delivery or its own."
    )
    sink_handler: HandlerName | None = Field(
        None, description="Function that SINK=python calls with each record, as package.module:function."
    )
    sink_url: HttpUrl | None = Field(None, description="URL that SINK=http posts each record to.")
    sink_http_content_type: ContentType = Field(
        "application/octet-stream", description="Content-Type of what SINK=http posts."
    )
    sink_http_headers: RequestHeaders = Field(
        {}, description="Further headers of each request, as a JSON object; also as NAME_FILE."
    )
    sink_http_bearer_token: BearerToken | None = Field(
        None, description="Token that authenticates each request; also as NAME_FILE."
    )
    sink_http_username: BasicUser | None = Field(
        None, description="User name that authenticates each request; also as NAME_FILE."
    )
    sink_http_password: SecretStr | None = Field(
        None, description="Password that authenticates each request; also as NAME_FILE."
    )
    sink_http_signing_secret: SigningSecret | None = Field(
        None, description="Secret that signs each request as Standard Webhooks do; also as NAME_FILE."
    )
    sink_http_ca_location: Text | None = Field(
        None, description="File or directory of the authorities that sign the target's certificate, not the system's."
    )
    sink_http_connect_timeout_seconds: Seconds = Field(
        5, gt=0, le=3600, description="How long connecting to the target may take, in seconds."
    )
    sink_http_read_timeout_seconds: Seconds = Field(
        30, gt=0, le=3600, description="How long the target may be silent before it answers or in between, in seconds."
    )
    sink_http_timeout_seconds: Seconds = Field(
        60, gt=0, le=86_400, description="How long one request may take in all, to the end of its answer, in seconds."
    )
    sink_http_max_response_bytes: AnswerBytes = Field(
        ByteSize(65_536), description="How much of an answer is read before its connection is closed, in bytes."
    )
    sink_http_format: Lower[Literal["raw", "cloudevents"]] = Field(
        "raw", description="What a request is beside its headers of ours: the value, or also a CloudEvent."
    )
    sink_http_cloudevents_type: Text = Field(
        "delayed-consumer.record", description="Attribute type of the CloudEvents."
    )
    sink_http_cloudevents_source: Text | None = Field(
        None, description="Attribute source of the CloudEvents; without it /kafka/<topic>."
    )
    sink_concurrency: int | None = Field(
        None,
        ge=1,
        le=1_000,
        description="How many records SINK=http and SINK=python handle side by side; without it one per partition.",
    )
    sink_timeout_seconds: Seconds | None = Field(
        None,
        gt=0,
        le=86_400,
        description="How long one attempt of SINK=http or SINK=python may take before it counts as failed, in seconds.",
    )
    ordering: Lower[Literal["partition", "key", "none"]] = Field(
        "partition", description="What must stay in order while records are handled side by side."
    )
    lookahead_seconds: Seconds = Field(
        4, ge=0.5, le=3600, description="How far ahead of their due time records are read into memory, in seconds."
    )
    hold_max_bytes: Bytes = Field(
        ByteSize(67_108_864), description="Bound of what is in memory over all partitions, in bytes or as 64MiB."
    )
    hold_max_records: int = Field(
        200_000, ge=100, description="Bound of what is in memory over all partitions, in records."
    )

    max_attempts: int = Field(
        3, ge=1, le=100, description="Attempts at once before a record counts as failed, the first one included."
    )
    retry_delays_seconds: RetryDelays = Field(
        (), description="Further attempts by way of retry topics: the delay of each in seconds, separated by commas."
    )
    on_failure: Lower[Literal["stop", "dead-letter", "skip"]] = Field(
        "stop", description="What to do with a record when all attempts are used up."
    )
    dead_letter_topic: TopicName | None = Field(None, description="Topic that takes the records that are given up.")
    max_future_seconds: Seconds = Field(
        86_400,
        ge=0,
        le=TEN_YEARS_SECONDS,
        description="How far ahead of the clock a timestamp is usual, in seconds.",
    )
    on_future_timestamp: Lower[Literal["wait", "cap", "dead-letter"]] = Field(
        "wait",
        description="What to do with an unusual timestamp: wait, cap (due the delay after it was read) or dead-letter.",
    )
    start_timeout_seconds: Seconds = Field(
        60, gt=0, le=86_400, description="How long the brokers may be unreachable at the start, in seconds."
    )
    shutdown_grace_seconds: Seconds = Field(
        20, ge=0, le=86_400, description="How long a delivery in flight gets at a stop, in seconds."
    )

    http_host: Text = Field("127.0.0.1", description="Address that the status server listens on.")
    http_port: int = Field(8080, ge=0, le=65_535, description="Port of the status server; 0 turns it off.")
    log_level: Lower[Literal["debug", "info", "warning", "error", "critical"]] = Field(
        "info", description="Least important level that is logged."
    )
    log_format: Lower[Literal["auto", "json", "text"]] = Field(
        "auto", description="Format of the log on stderr; auto is text on a terminal, else json."
    )

    _origins: Mapping[str, Origin] = PrivateAttr(default_factory=dict)
    _look_alikes: Sequence[str] = PrivateAttr(default=())

    def __init__(self, environ: Mapping[str, str] | None = None, /, **arguments: Any) -> None:
        if environ is None:
            environ = os.environ
        super().__init__(environ=environ, **arguments)
        given = as_variables(arguments)
        present = {name for name, value in environ.items() if value}
        self._origins = {name: origin(name, given, present) for name in as_variables(self._given())}
        self._look_alikes = look_alikes(environ, type(self).model_fields)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the variables. Pydantic's own reader would pass over a misspelt name."""
        arguments = init_settings()
        environ = arguments.pop("environ")
        return InitSettingsSource(settings_cls, arguments), Variables(settings_cls, environ)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_what_could_not_be_read(cls, value: Any) -> Any:
        return raise_if_error(value)

    @model_validator(mode="wrap")
    @classmethod
    def _report_every_problem(cls, values: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        problems: list[str] = []
        unusable: frozenset[str] = frozenset()
        try:
            settings = validate(values)
        except ValidationError as error:
            problems = explain(error, cls.model_fields)
            unusable = unusable_names(error)
            usable = {name: value for name, value in values.items() if name not in unusable}
            settings = validate(_STAND_INS | usable)
        problems += conflicts(settings, unusable)
        if problems:
            raise ConfigError(problems)
        return settings

    @classmethod
    def status_address(cls) -> tuple[str, int]:
        """HTTP_HOST and HTTP_PORT of the environment, whatever else is in it or missing."""
        ours = {name: value for name, value in os.environ.items() if name in {"HTTP_HOST", "HTTP_PORT"}}
        alone = cls(ours, **_STAND_INS)
        return alone.http_host, alone.http_port

    def warnings(self) -> list[str]:
        """What is permitted and probably not meant: a password sent unencrypted, a setting that SINK does not use."""
        return [*cautions(self), *self._look_alikes]

    def origin(self, variable: str) -> Origin:
        """Where the value of this variable came from, for example of KAFKA_TOPICS or KAFKA_CONF_CLIENT_ID."""
        return self._origins.get(variable, "default")

    def __repr_args__(self) -> Iterable[tuple[str, Any]]:
        return self.masked().items()

    def masked(self) -> dict[str, Any]:
        """Every setting by its field's name, as JSON has it, without secrets."""
        return {name: _masked(getattr(self, name)) for name in type(self).model_fields}

    def consumes(self, topic: str) -> bool:
        """Whether KAFKA_TOPICS names ``topic`` or has a regular expression that matches it."""
        return any_match(self.kafka_topics, topic)

    @property
    def retry_topics(self) -> tuple[str, ...]:
        """The topics of RETRY_DELAYS_SECONDS, in the order that a record goes through them."""
        return tuple(f"{self.kafka_group_id}.retry.{stage + 1}" for stage in range(len(self.retry_delays_seconds)))

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """All that the service reads: KAFKA_TOPICS and the retry topics."""
        return (*self.kafka_topics, *self.retry_topics)

    def delay_ms(self, topic: str) -> int:
        """The delay of this topic's records, rounded up: a fraction of a millisecond must make nothing early."""
        retries = dict(zip(self.retry_topics, self.retry_delays_seconds, strict=True))
        seconds = retries.get(topic, self.delay_seconds_by_topic.get(topic, self.delay_seconds))
        return math.ceil(Decimal(str(seconds)) * 1000)  # in binary 16.1 s would be 16101 ms

    def client_config(self) -> dict[str, str | int | bool]:
        """The properties that every client of ours has: consumer, producer and admin client. Holds secrets."""
        own = {
            "bootstrap.servers": self.kafka_bootstrap_servers,
            "security.protocol": self.kafka_security_protocol,
            "sasl.mechanism": self.kafka_sasl_mechanism,
            "sasl.username": self.kafka_sasl_username,
            "sasl.password": self.kafka_sasl_password,
            "ssl.ca.location": self.kafka_ssl_ca_location,
            "ssl.certificate.location": self.kafka_ssl_certificate_location,
            "ssl.key.location": self.kafka_ssl_key_location,
            "ssl.key.password": self.kafka_ssl_key_password,
        }
        given = {name: _revealed(value) for name, value in own.items() if value is not None}
        return {**self._passed_through(client_properties.is_common), **given}

    def consumer_config(self) -> dict[str, str | int | bool]:
        """The same with those of KAFKA_CONF_* that only a consumer has; others warn about them."""
        return {**self.client_config(), **self._passed_through(client_properties.CONSUMER_ONLY.__contains__)}

    def producer_config(self) -> dict[str, str | int | bool]:
        """The same with those of KAFKA_CONF_* that only a producer has; others warn about them."""
        return {**self.client_config(), **self._passed_through(client_properties.PRODUCER_ONLY.__contains__)}

    def transaction_config(self) -> dict[str, str | int | bool]:
        """The same for the producer of DELIVERY=exactly-once."""
        return {**self.producer_config(), **self._passed_through(client_properties.TRANSACTIONS_ONLY.__contains__)}

    def _given(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.model_fields_set}

    def _passed_through(self, wanted: Callable[[str], bool]) -> dict[str, str | int | bool]:
        return {name: _revealed(value) for name, value in self.kafka_conf.items() if wanted(name)}


def connection_variables() -> dict[str, str]:
    """Those of the environment that say how to reach a cluster, for a service that is given all others."""
    prefixes = ("KAFKA_SECURITY_", "KAFKA_SASL_", "KAFKA_SSL_", "KAFKA_CONF_")
    return {name: value for name, value in os.environ.items() if name.startswith(prefixes)}


def as_variables(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Values by field's name as values by variable's name, those of KAFKA_CONF_* one by one."""
    variables = {name.upper(): value for name, value in settings.items() if name != CONF_FIELD}
    passed_through = settings.get(CONF_FIELD, {})
    return variables | {client_properties.variable_of(name): value for name, value in passed_through.items()}


def _revealed(value: str | SecretStr) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _masked(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, Mapping):
        return {key: _masked(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return [_masked(one) for one in value]
    return mask_text(value) if isinstance(value, str) else value
