"""What goes wrong, sorted by who must act: what ends the service, with its exit codes, and what handlers raise."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """The exit codes, as in sysexits.h where it has a fitting one."""

    OK = 0
    GAVE_UP = 1
    USAGE = 2
    UNREACHABLE = 69
    BUG = 70
    FENCED = 75
    DENIED = 77
    CONFIG = 78


class ServiceError(Exception):
    """The service cannot go on; the text is the one line of reason that the user gets."""

    exit_code: ClassVar[int] = ExitCode.BUG


class ConfigError(ServiceError):
    """Settings that cannot be used; the operator must change them.

    The text holds every problem, one a line, so that none is found only after the last one was repaired.
    """

    exit_code: ClassVar[int] = ExitCode.CONFIG

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class UnreachableError(ServiceError):
    """The brokers, or what the sink delivers to, did not answer within the start limit."""

    exit_code: ClassVar[int] = ExitCode.UNREACHABLE


class AuthError(ServiceError):
    """The brokers refused who we are, or what we asked to do; somebody must give us the right."""

    exit_code: ClassVar[int] = ExitCode.DENIED


class FencedError(ServiceError):
    """Another process has our instance id or transactional id; one of the two must be given another one."""

    exit_code: ClassVar[int] = ExitCode.FENCED


class GaveUpError(ServiceError):
    """A record could not be delivered and the policy says stop; nothing is committed past it."""

    exit_code: ClassVar[int] = ExitCode.GAVE_UP


class DataLossError(GaveUpError):
    """Records were deleted from the log before they were delivered and ON_DATA_LOSS says stop."""


class HandlerError(Exception):
    """What a handler may raise to say who must act. Any other exception counts as a `RetryableError`."""


class RetryableError(HandlerError):
    """It may work later: tried again up to MAX_ATTEMPTS times at once, then by way of RETRY_DELAYS_SECONDS.

    Attributes:
        after_seconds: the next attempt not sooner than that; None leaves it to the usual back-off.
    """

    def __init__(self, *reason: object, after_seconds: float | None = None) -> None:
        super().__init__(*reason)
        self.after_seconds = after_seconds


class MessageError(HandlerError):
    """The record itself is wrong: it is never tried again, and ON_FAILURE says what becomes of it."""


class FatalError(HandlerError):
    """No record can be delivered: the service stops, and nothing is committed past the record."""
