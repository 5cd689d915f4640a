"""Host keys that people have pinned themselves, for hosts that no stack knows yet."""

from __future__ import annotations

from pathlib import Path

import asyncssh

PREFERRED = "ssh-ed25519"


def pinned_key(file: Path, address: str) -> str | None:
    """The key of an address in a known-hosts file as ``ssh-ed25519 AAAA…``; another type where there is no such; or None."""
    if not file.is_file():
        return None
    found = asyncssh.match_known_hosts(asyncssh.read_known_hosts(str(file)), address, address, None)[0]
    keys = [" ".join(key.export_public_key().decode().split()[:2]) for key in found]
    return next((key for key in keys if key.startswith(PREFERRED)), keys[0] if keys else None)
