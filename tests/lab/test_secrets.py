"""No join token and no private key in clear: in state, its history and backups, logs, or command lines during `up`."""

from __future__ import annotations

import base64
import binascii
import contextlib
import gzip
import json
import re
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.support import ROOT, Site, assert_whole

SECRET = re.compile(rb"SWMTKN-1-[0-9a-z]{40,}|SWMKEY-1-|BEGIN [A-Z ]*PRIVATE KEY")
BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{40,}={0,2}")


def layers(data: bytes, depth: int = 4) -> Iterator[bytes]:
    """The data, and all that is packed in it: gzip, base64, JSON strings in JSON strings."""
    yield data
    if depth == 0:
        return
    if data[:2] == b"\x1f\x8b":
        with contextlib.suppress(OSError, EOFError, zlib.error):
            yield from layers(gzip.decompress(data), depth - 1)
    with contextlib.suppress(ValueError, RecursionError):
        yield from _strings(json.loads(data), depth)
    for found in BASE64.findall(data):
        try:
            decoded = base64.b64decode(found.translate(bytes.maketrans(b"-_", b"+/")) + b"==", validate=False)
        except binascii.Error:
            continue
        if len(decoded) > 20:
            yield from layers(decoded, depth - 1)


def _strings(value: Any, depth: int) -> Iterator[bytes]:
    if isinstance(value, str) and value[:1] in '{["':
        yield from layers(value.encode(), depth - 1)
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _strings(entry, depth)
    elif isinstance(value, list):
        for entry in value:
            yield from _strings(entry, depth)


def leaks(data: bytes) -> list[bytes]:
    return sorted({match[:40] for layer in layers(data) for match in SECRET.findall(layer)})


PEM = b"-----BEGIN OPENSSH " + b"PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ"


@pytest.mark.parametrize(
    "hidden",
    [
        PEM,
        base64.b64encode(PEM),
        gzip.compress(PEM),
        json.dumps({"a": json.dumps({"b": base64.b64encode(gzip.compress(PEM)).decode()})}).encode(),
        b"SWMTKN-1-" + b"0" * 50 + b"-" + b"a" * 25,
    ],
    ids=["plain", "base64", "gzip", "nested", "token"],
)
def test_the_search_finds_what_is_hidden(hidden: bytes) -> None:
    assert leaks(hidden)


class Watch(threading.Thread):
    """Reads every process's command line while something runs."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.is_set():
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(file.read_bytes())
                except OSError:
                    continue
            time.sleep(0.01)


def _of(digest: str, found: list[bytes]) -> list[bytes]:
    """What is no token of another lab's swarm: tests beside this one type such tokens by hand."""
    token = b"SWMTKN-1-"
    return [leak for leak in found if not leak.startswith(token) or leak.startswith(token + digest.encode())]


def test_no_secret_in_clear(site: Site) -> None:
    watch = Watch()
    watch.start()
    first = site.make("up")
    site.make("up")
    watch.done.set()
    watch.join()
    assert_whole(site)
    assert len(watch.seen) > 50
    digest = site.outputs()["caDigest"][:20]
    found = {line[:80]: leak for line in watch.seen if (leak := _of(digest, leaks(line.replace(b"\0", b" "))))}
    assert not found, "on a command line"
    assert not leaks((first.stdout + first.stderr).encode())

    state = site.state()
    assert "SWMTKN" not in json.dumps(state)
    secret = [r for r in state["resources"] if r["type"].endswith("FirstBoot")]
    assert len(secret) == 7
    assert all(r["outputs"]["host_private_key"]["ciphertext"] for r in secret)  # there, and encrypted

    # Left out: the lab's own secrets, the storages of its Proxmox VE (disks, snippets) and the image they are made from.
    # Everything that Pulumi or we write besides is searched.
    own = ("secrets/", "storage/", "images/", "run/vm", "run/machines")
    searched = 0
    for file in [*site.folder.rglob("*"), *ROOT.glob("Pulumi*.yaml")]:
        inside = str(file.relative_to(site.folder)) if file.is_relative_to(site.folder) else file.name
        if not file.is_file() or file.is_symlink() or inside.startswith(own) or "plugins" in inside:
            continue
        searched += 1
        assert not leaks(file.read_bytes()), file
    assert any(site.folder.glob("state/.pulumi/history/**/*.json"))
    assert any(site.folder.glob("log/*"))
    assert searched > 10


def test_private_files_are_private(cluster: Site) -> None:
    assert cluster.folder.stat().st_mode & 0o077 == 0
    for file in (file for file in (cluster.folder / "secrets").iterdir() if file.suffix != ".pub"):
        assert file.stat().st_mode & 0o077 == 0, file
