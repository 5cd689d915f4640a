"""A manager's key file as autolock leaves it, opened with the unlock key: what no engine does before it forces a cluster.

The private key is PKCS #8, encrypted with the unlock key; its PEM headers hold the keys of raft's log, each in a secretbox
(swarmkit ca/keyreadwriter.go, manager/deks.go). A manager that leads a locked swarm encrypts the file again at once.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from proxmox_swarm.host.remote.raft_position import fields
from proxmox_swarm.swarm.secretbox import KEY_SIZE, open_box

PREFIX = "SWMKEY-1-"
SECRETBOX = 1
_PEM = re.compile(
    r"-----BEGIN ENCRYPTED PRIVATE KEY-----\n(.*?)\n\n(.*?)-----END ENCRYPTED PRIVATE KEY-----", re.DOTALL
)


def opened(file: bytes, keys: Iterable[str]) -> bytes | None:
    """The key file in clear, by whichever of the unlock ``keys`` fits; None when none does."""
    for key in keys:
        try:
            return _opened(file.decode(), _raw(key))
        except ValueError:
            continue
    return None


def _raw(key: str) -> bytes:
    body = key.strip().removeprefix(PREFIX)
    raw = base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
    if len(raw) != KEY_SIZE:
        raise ValueError("no unlock key")
    return raw


def _opened(file: str, key: bytes) -> bytes:
    found = _PEM.search(file)
    if found is None:
        raise ValueError("no encrypted key")
    headers = dict(line.split(": ", 1) for line in found[1].splitlines())
    private = load_der_private_key(base64.b64decode(found[2]), password=key)
    body = base64.encodebytes(private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())).decode()
    # Version 0 is older than any: whatever key the swarm has then takes effect.
    headers = {name: _unsealed(name, value, key) for name, value in headers.items()} | {"kek-version": "0"}
    told = "".join(f"{name}: {value}\n" for name, value in sorted(headers.items()))
    return f"-----BEGIN PRIVATE KEY-----\n{told}\n{body}-----END PRIVATE KEY-----\n".encode()


def _unsealed(name: str, value: str, key: bytes) -> str:
    if name not in ("raft-dek", "raft-dek-pending"):
        return value
    record = fields(base64.b64decode(value))
    if record.get(1, 0) != SECRETBOX:
        raise ValueError("sealed in a way that is not known here")
    clear = open_box(key, record[3], record[2])
    if len(clear) != KEY_SIZE:
        raise ValueError("no key of a log")
    return base64.b64encode(
        b"\x12" + bytes([len(clear)]) + clear
    ).decode()  # field 2, in clear: algorithm 0 is left out
