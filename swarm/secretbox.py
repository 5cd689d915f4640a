"""NaCl's secretbox (XSalsa20 and Poly1305), opened: what swarmkit seals small things in. For a few bytes: it is not fast.

Bernstein, "Cryptography in NaCl" and "Extending the Salsa20 nonce"; boxes begin with their tag, as NaCl's do.
"""

from __future__ import annotations

import struct

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.poly1305 import Poly1305

KEY_SIZE, NONCE_SIZE, TAG_SIZE = 32, 24, 16
_SIGMA = struct.unpack("<4I", b"expand 32-byte k")
_COLUMNS = ((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11))
_ROWS = ((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14))


def open_box(key: bytes, nonce: bytes, box: bytes) -> bytes:
    """What was sealed. Raises ValueError when the key does not fit or the box was changed."""
    if len(key) != KEY_SIZE or len(nonce) != NONCE_SIZE or len(box) < TAG_SIZE:
        raise ValueError("key, nonce or box has the wrong size")
    tag, sealed = box[:TAG_SIZE], box[TAG_SIZE:]
    stream = _stream(key, nonce, KEY_SIZE + len(sealed))
    try:
        Poly1305.verify_tag(stream[:KEY_SIZE], sealed, tag)
    except InvalidSignature:
        raise ValueError("the key does not fit") from None
    return bytes(a ^ b for a, b in zip(sealed, stream[KEY_SIZE:], strict=True))


def _stream(key: bytes, nonce: bytes, size: int) -> bytes:
    """XSalsa20: a key of its own from the nonce's first 16 bytes, then Salsa20 with the other 8."""
    mixed = _rounds(_block(key, nonce[:16]))
    inner = struct.pack("<8I", *(mixed[i] for i in (0, 5, 10, 15, 6, 7, 8, 9)))
    blocks = []
    for number in range(-(-size // 64)):
        start = _block(inner, nonce[16:] + struct.pack("<Q", number))
        done = zip(_rounds(start), start, strict=True)
        blocks.append(struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in done)))
    return b"".join(blocks)[:size]


def _block(key: bytes, place: bytes) -> list[int]:
    k, n = struct.unpack("<8I", key), struct.unpack("<4I", place)
    return [_SIGMA[0], *k[:4], _SIGMA[1], *n, _SIGMA[2], *k[4:], _SIGMA[3]]


def _rounds(start: list[int]) -> list[int]:
    x = list(start)
    for _ in range(10):
        for a, b, c, d in (*_COLUMNS, *_ROWS):
            x[b] ^= _turned(x[a] + x[d], 7)
            x[c] ^= _turned(x[b] + x[a], 9)
            x[d] ^= _turned(x[c] + x[b], 13)
            x[a] ^= _turned(x[d] + x[c], 18)
    return x


def _turned(value: int, by: int) -> int:
    value &= 0xFFFFFFFF
    return (value << by | value >> (32 - by)) & 0xFFFFFFFF
