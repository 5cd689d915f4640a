"""Remove secrets from any text before a person, a log or a state file can see it."""

from __future__ import annotations

import re

#: Join tokens (swarmkit ca/config.go), unlock keys (encryption.HumanReadableKey), and PEM private keys.
_SECRETS = (
    (re.compile(r"SWMTKN-[0-9A-Za-z-]+"), "SWMTKN-…"),
    (re.compile(r"SWMKEY-[0-9A-Za-z+/=-]+"), "SWMKEY-…"),
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
        "(private key)",
    ),
)


def redact(text: str) -> str:
    """The text without join tokens, unlock keys and private keys."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text
