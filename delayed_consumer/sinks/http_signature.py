"""Signatures of Standard Webhooks, by which a target knows that a request is ours."""

from __future__ import annotations

import base64
import hmac


def signing_key(secret: str) -> bytes:
    """A secret of Standard Webhooks, ``whsec_`` and base64, or any other text. Raises ValueError for bad base64."""
    if not secret.startswith("whsec_"):
        return secret.encode()
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    if not key:
        raise ValueError("an empty key")
    return key


def signature(key: bytes, name: str, timestamp_seconds: int, body: bytes) -> dict[str, str]:
    """The headers of Standard Webhooks: every attempt is signed anew, with the time at which it is made."""
    digest = hmac.digest(key, f"{name}.{timestamp_seconds}.".encode() + body, "sha256")
    return {
        "webhook-id": name,
        "webhook-timestamp": str(timestamp_seconds),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
