"""Reads a Kafka topic N seconds late: never early, about a millisecond late, nothing lost."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

# At once, not when it is asked for: whoever imports the module of its name would put that in its place.
from delayed_consumer.batch import batch

__version__ = "0.1.0"

__all__ = ["DelayedConsumer", "FatalError", "MessageError", "Record", "RetryableError", "Settings", "batch"]

if TYPE_CHECKING:
    from delayed_consumer.consumer import DelayedConsumer
    from delayed_consumer.errors import FatalError, MessageError, RetryableError
    from delayed_consumer.record import Record
    from delayed_consumer.settings import Settings
else:
    _MODULES = {
        "DelayedConsumer": "consumer",
        "FatalError": "errors",
        "MessageError": "errors",
        "Record": "record",
        "RetryableError": "errors",
        "Settings": "settings",
    }

    def __getattr__(name):
        """Imports what is asked for: the commands of the shell need little of it, and start several times as fast."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
