"""Which versions are at work."""

from __future__ import annotations

import sys
from importlib.metadata import version

from confluent_kafka import libversion

from delayed_consumer import __version__


def versions() -> dict[str, str]:
    """Of this package (``version``), its Kafka client and Python; the names are labels of `build_info`."""
    return {
        "version": __version__,
        "confluent_kafka": version("confluent-kafka"),
        "librdkafka": str(libversion()[0]),
        "python": sys.version.split()[0],
    }
