"""A manager's key file that is encrypted with the unlock key, opened as swarmkit would."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.poly1305 import Poly1305
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from proxmox_swarm.swarm import secretbox
from proxmox_swarm.swarm.locked_key import opened
from proxmox_swarm.swarm.secretbox import open_box

#: The example of "Cryptography in NaCl", section 10, as its tests/secretbox has it.
KEY = bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
NONCE = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")
BOX = bytes.fromhex(
    "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b4da7f011"
    "ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de"
    "56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5"
)
CLEAR = bytes.fromhex(
    "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f41db66cce"
    "314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde048977eb48f59ffd4924ca1c60902e52f0a089bc76897040"
    "e082f937763848645e0705"
)
DEK = bytes(range(32))


def sealed(data: bytes) -> bytes:
    stream = secretbox._stream(KEY, NONCE, 32 + len(data))
    box = bytes(a ^ b for a, b in zip(data, stream[32:], strict=True))
    return Poly1305.generate_tag(stream[:32], box) + box


RECORD = base64.b64encode(b"\x08\x01\x12\x30" + sealed(DEK) + b"\x1a\x18" + NONCE).decode()


def unlock_key(raw: bytes = KEY) -> str:
    return "SWMKEY-1-" + base64.b64encode(raw).decode().rstrip("=")


@pytest.fixture(scope="module")
def private() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def locked(private: ec.EllipticCurvePrivateKey, **headers: str) -> bytes:
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(KEY)).decode()
    first, rest = pem.split("\n", 1)
    lines = "".join(f"{name.replace('_', '-')}: {value}\n" for name, value in headers.items())
    return f"{first}\n{lines}\n{rest}".encode()


def test_a_secretbox_is_opened_and_a_changed_one_is_not() -> None:
    assert open_box(KEY, NONCE, BOX) == CLEAR
    assert open_box(KEY, NONCE, sealed(DEK)) == DEK
    for wrong in (BOX[:-1], BOX[:20] + b"x" + BOX[21:], b""):
        with pytest.raises(ValueError, match=r"fit|size"):
            open_box(KEY, NONCE, wrong)
    with pytest.raises(ValueError, match="fit"):
        open_box(bytes(32), NONCE, BOX)


def test_the_right_key_opens_the_private_key_and_those_of_the_log(private: ec.EllipticCurvePrivateKey) -> None:
    file = locked(private, kek_version="47", raft_dek=RECORD, raft_dek_needs_rotation="true")
    clear = opened(file, [unlock_key(bytes(32)), "nonsense", unlock_key()])
    assert clear is not None
    lines = clear.decode().splitlines()
    headers = dict(line.split(": ") for line in lines if ": " in line)
    assert (headers["kek-version"], headers["raft-dek-needs-rotation"]) == ("0", "true")
    record = base64.b64decode(headers["raft-dek"])
    assert record == b"\x12\x20" + DEK, "field 2 of a record whose algorithm is left out: in clear"
    bare = "\n".join(line for line in lines if ": " not in line).replace("KEY-----\n\n", "KEY-----\n")
    found = load_pem_private_key(bare.encode(), password=None)
    form = (Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    assert found.private_bytes(*form) == private.private_bytes(*form)


def test_no_key_that_fits_opens_nothing(private: ec.EllipticCurvePrivateKey) -> None:
    file = locked(private, kek_version="47", raft_dek=RECORD)
    assert opened(file, [unlock_key(bytes(32)), ""]) is None
    assert opened(file, []) is None
    assert opened(b"-----BEGIN PRIVATE KEY-----", [unlock_key()]) is None


def test_a_log_key_sealed_in_another_way_is_not_guessed_at(private: ec.EllipticCurvePrivateKey) -> None:
    """A FIPS engine seals with Fernet, algorithm 2."""
    fernet = base64.b64encode(b"\x08\x02\x12\x03abc").decode()
    assert opened(locked(private, kek_version="1", raft_dek=fernet), [unlock_key()]) is None
