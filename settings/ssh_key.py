"""SSH public keys: one line, of a type that is still accepted, whole, and not a private key by mistake."""

from __future__ import annotations

import base64
import binascii
import struct

from proxmox_swarm.settings.checks import refuse
from proxmox_swarm.settings.errors import holds_secret

FIELDS = {
    "ssh-ed25519": 2,
    "ssh-rsa": 3,
    "ecdsa-sha2-nistp256": 3,
    "ecdsa-sha2-nistp384": 3,
    "ecdsa-sha2-nistp521": 3,
    "sk-ssh-ed25519@openssh.com": 3,
    "sk-ecdsa-sha2-nistp256@openssh.com": 4,
}
"""Accepted types, with the number of fields in each one's blob (RFC 4253 §6.6, RFC 5656, RFC 8709, OpenSSH PROTOCOL.u2f)."""

MIN_RSA_BITS = 2048


def ssh_public_key(value: str) -> str:
    """The key's line with single spaces."""
    if holds_secret(value):
        refuse("this is a PRIVATE key: take it out of the file, make a new one, and give the line of its .pub file")
    words = value.split()
    if len(value.strip().splitlines()) != 1 or len(words) < 2 or not value.isprintable():
        refuse("not one line of an OpenSSH public key")
    kind, body = words[:2]
    if kind not in FIELDS:
        refuse("not a type of key that is accepted")
    try:
        fields = _fields(base64.b64decode(body, validate=True))
    except (binascii.Error, ValueError):
        refuse("the key's base64 part is damaged or cut off")
    if fields[:1] != [kind.encode()] or len(fields) != FIELDS[kind]:
        refuse("the key's base64 part is not a key of the type before it")
    if kind == "ssh-ed25519" and len(fields[1]) != 32:
        refuse("the key's base64 part is damaged or cut off")
    if kind == "ssh-rsa" and int.from_bytes(fields[2], "big").bit_length() < MIN_RSA_BITS:
        refuse(f"an RSA key shorter than {MIN_RSA_BITS} bits")
    return " ".join(words)


def host_key(value: str) -> str:
    """A host's public key without its comment. First boots are given keys of this one type."""
    kind, body = ssh_public_key(value).split()[:2]
    return f"{kind} {body}" if kind == "ssh-ed25519" else refuse("not an ssh-ed25519 key")


def _fields(blob: bytes) -> list[bytes]:
    """The length-prefixed fields of a key's blob (RFC 4251 §5). Raises ValueError where one is cut off."""
    fields: list[bytes] = []
    offset = 0
    while offset < len(blob):
        if offset + 4 > len(blob):
            raise ValueError("cut off")
        (length,) = struct.unpack_from(">I", blob, offset)
        start, offset = offset + 4, offset + 4 + length
        if offset > len(blob):
            raise ValueError("cut off")
        fields.append(blob[start:offset])
    return fields
