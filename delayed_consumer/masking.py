"""What of a setting may be shown: never a secret, nor one that was misspelt, passed through or put in a URL."""

from __future__ import annotations

import re
from difflib import get_close_matches

MASK = "***"

_SECRET_WORDS = ("password", "passphrase", "passwd", "pass", "pwd", "secret", "token", "credentials", "private", "pem")
# Properties and settings whose values hold secrets though no word of their names says so.
_SECRET_NAMES = {"sasl.oauthbearer.config", "sasl.oauthbearer.extensions", "sasl.jaas.config", "sink.http.headers"}
_SPELLING = 0.75  # similarity: SECERT and PASWORD are secrets, SECURITY is not
_QUERY_SECRET = re.compile(r"([?&][^=&]*(?:pass|secret|token|key|sig)[^=&]*=)[^&]*", re.IGNORECASE)


def looks_secret(name: str) -> bool:
    """Whether the value of this variable or client property must not be shown, by the words of its name."""
    dotted = name.lower().replace("_", ".").removeprefix("kafka.conf.")
    if dotted in _SECRET_NAMES:
        return True
    return any(get_close_matches(word, _SECRET_WORDS, n=1, cutoff=_SPELLING) for word in dotted.split("."))


def mask_text(value: str) -> str:
    """``value`` without what may be a key, a user and password before an ``@``, or a secret in a URL's query."""
    if "-----BEGIN" in value:
        return MASK
    if "@" in value:
        value = f"{MASK}@{value.rpartition('@')[2]}"
    return _QUERY_SECRET.sub(rf"\g<1>{MASK}", value)
