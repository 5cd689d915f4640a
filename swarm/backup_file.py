"""A backup as a file: a tar of the manifest, to be read by people, and the packed swarm folder. It holds private keys."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from proxmox_swarm.swarm.errors import BackupUnusable

FORMAT = 1
MANIFEST = "manifest.json"
CONTENT = "swarm.tar.gz"


@dataclass(frozen=True)
class Manifest:
    """What a backup is of. ``taken`` is in UTC; ``contents`` counts what the swarm had, and is empty without a quorum.

    ``node_id`` is the swarm's id of the node: state and certificate in the backup are that node's and no other's.
    ``autolock``: the keys in it are encrypted, and the unlock key of that time is needed with it.
    """

    cluster_id: str
    node: str
    address: str
    node_id: str
    engine: str
    taken: str
    commit: int
    autolock: bool
    contents: Mapping[str, int]
    sha256: str


def write_backup(file: Path, manifest: Manifest, content: bytes) -> Path:
    """Write the file whole or not at all, for its owner alone; where it is now. Raises OSError.

    A file that is there stays: it may be all that is left of a swarm. The new one is then FILE.2, or FILE.3, …
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.new")
    beside.unlink(missing_ok=True)
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as target:
            with tarfile.open(fileobj=target, mode="w") as archive:
                told = {"format": FORMAT, **asdict(manifest)}
                _add(archive, MANIFEST, json.dumps(told, indent=2).encode() + b"\n")
                _add(archive, CONTENT, content)
            target.flush()
            os.fsync(target.fileno())
        name = _reserved(file)
        beside.replace(name)
        return name
    finally:
        beside.unlink(missing_ok=True)


def _reserved(file: Path) -> Path:
    """An empty file of this name, or with the first number that is free: nobody else takes it from then on."""
    name, number = file, 1
    while True:
        try:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            number += 1
            name = file.with_name(f"{file.name}.{number}")
        else:
            return name


def read_backup(file: Path) -> tuple[Manifest, bytes]:
    """Manifest and packed swarm folder. Raises BackupUnusable when it is no backup of ours, or damaged."""
    try:
        with tarfile.open(file, mode="r:") as archive:
            told = json.loads(_read(archive, MANIFEST))
            content = _read(archive, CONTENT)
        found = told.pop("format")
        if found != FORMAT:
            raise _unusable(file, f"its format is {found}, this version knows {FORMAT}")
        manifest = Manifest(**told)
    except (OSError, tarfile.TarError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise _unusable(file, f"it cannot be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != manifest.sha256:
        raise _unusable(file, "its content is not what its manifest says (sha256 differs)")
    return manifest, content


def _unusable(file: Path, reason: str) -> BackupUnusable:
    return BackupUnusable(
        f"reading the backup {file}", came_back=reason, do_now="Take another one: nothing was changed."
    )


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o600
    archive.addfile(member, io.BytesIO(content))


def _read(archive: tarfile.TarFile, name: str) -> Any:
    member = archive.extractfile(name)
    if member is None:
        raise KeyError(name)
    return member.read()
