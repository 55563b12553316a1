"""Whose certificates SINK=http believes."""

from __future__ import annotations

import ssl
from pathlib import Path


def tls_context(ca_location: str | None) -> ssl.SSLContext:
    """Verifies certificates and host names, against the system's authorities or those of a file or directory.

    Raises OSError when none can be read there.
    """
    if ca_location is not None and Path(ca_location).is_dir():
        return ssl.create_default_context(capath=ca_location)
    return ssl.create_default_context(cafile=ca_location)
