"""SINK=http: one POST for each record; what the answer means for it."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from socket import gaierror
from ssl import SSLCertVerificationError
from typing import NoReturn

from urllib3 import BaseHTTPResponse, Timeout
from urllib3.exceptions import HTTPError

from delayed_consumer.clock import Clock
from delayed_consumer.errors import ConfigError, MessageError, RetryableError
from delayed_consumer.record import Record
from delayed_consumer.settings import Settings
from delayed_consumer.sinks.http_address import read_url
from delayed_consumer.sinks.http_connection import NO_RETRIES, connect_to
from delayed_consumer.sinks.http_request import Headers

_MAY_WORK_LATER = {408, 425, 429}  # and 500 to 599
_LONGEST_RETRY_AFTER_SECONDS = 300.0  # a target that asks for a day would block the partition for it
_MOST_CONNECTIONS = 1_000  # where SINK_CONCURRENCY sets no bound there is one per partition


class HttpHandler:
    """Posts a record and returns when the target has taken it. Called from many threads at once."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Connects to nothing yet. Raises ConfigError for unusable certificates."""
        self._clock = clock
        self._target = read_url(str(settings.sink_url))
        self._headers = Headers(settings, clock)
        self._most_answer_bytes = int(settings.sink_http_max_response_bytes)
        try:
            self._pool = connect_to(
                self._target,
                connections=settings.sink_concurrency or _MOST_CONNECTIONS,
                timeout=Timeout(
                    connect=settings.sink_http_connect_timeout_seconds, read=settings.sink_http_read_timeout_seconds
                ),
                deadline=(clock, min(settings.sink_http_timeout_seconds, settings.sink_timeout_seconds or 86_400)),
                ca_location=settings.sink_http_ca_location,
            )
        except OSError as error:
            raise ConfigError([f"SINK_HTTP_CA_LOCATION: no certificates there ({error.strerror or error})"]) from error

    def __call__(self, record: Record) -> None:
        """Returns after a whole answer of 2xx.

        Raises:
            RetryableError: for 408, 425, 429, 5xx, and where no whole answer came.
            MessageError: for any other answer, redirects among them, which are never followed.
            FatalError: the target's name has come to mean an address that is refused.
        """
        try:
            answer = self._post(record)
            if not 200 <= answer.status < 300:
                self._refused(answer)
            self._read_out(answer)
        except (HTTPError, OSError) as error:
            raise RetryableError(f"{self._target}: {_reason(error)}") from None  # the cause may show the URL's secrets

    def close(self) -> None:
        self._pool.close()

    def _post(self, record: Record) -> BaseHTTPResponse:
        return self._pool.urlopen(
            "POST",
            self._target.path,
            body=record.value or b"",
            headers=self._headers.of(record),
            retries=NO_RETRIES,
            redirect=False,
            assert_same_host=False,  # a path that starts with // is no host
            preload_content=False,
            decode_content=False,
        )

    def _read_out(self, answer: BaseHTTPResponse) -> None:
        """To its end, so that the connection can be used again; one too long for that is cut off."""
        left_bytes = self._most_answer_bytes + 1
        # Where the length was not told, only a read of nothing tells whether it was all.
        while left_bytes and not answer.closed and (part := answer.read(left_bytes)):
            left_bytes -= len(part)
        if not left_bytes:
            answer.close()
        answer.release_conn()

    def _refused(self, answer: BaseHTTPResponse) -> NoReturn:
        with suppress(HTTPError, OSError):  # the status says enough
            self._read_out(answer)
        reason = f"{self._target} answered {answer.status}"
        if answer.status in _MAY_WORK_LATER or answer.status >= 500:
            after_seconds = retry_after_seconds(answer.headers.get("Retry-After"), self._clock.now_ms())
            raise RetryableError(reason, after_seconds=after_seconds)
        raise MessageError(reason)


def retry_after_seconds(text: str | None, now_ms: float) -> float | None:
    """What a Retry-After header asks for, in seconds or as a date, bounded; None where it makes no sense."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        seconds = float(text)
    else:
        try:
            when = parsedate_to_datetime(text)
        except (ValueError, IndexError, OverflowError):  # whatever it is, it is no date
            return None
        seconds = when.replace(tzinfo=when.tzinfo or UTC).timestamp() - now_ms / 1000
    return min(max(0.0, seconds), _LONGEST_RETRY_AFTER_SECONDS)


def _reason(error: BaseException) -> str:
    """Why there is no answer, in words of the system's or ours: neither the URL nor anything that the target sent."""
    while (cause := _cause(error)) is not None:
        error = cause
    if isinstance(error, SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, gaierror):
        return f"its name cannot be resolved: {error.strerror}"
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return "no whole answer in time"
    return f"no whole answer: {getattr(error, 'strerror', None) or type(error).__name__}"


def _cause(error: BaseException) -> BaseException | None:
    inside = next((one for one in error.args if isinstance(one, BaseException)), None)
    return inside or error.__cause__
