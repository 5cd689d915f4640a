"""The storages of the three hosts: files on ``local``, disk images on ``tank`` (ZFS) and ``local-lvm`` (LVM-thin).

A boot volume is a directory (the machine's own layer over the image it was imported from, with the declared size kept in
the state); every other image is a sparse file of its size.
"""

from __future__ import annotations

import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxmox_swarm.lab.pve.errors import PveError
from proxmox_swarm.lab.pve.properties import TIB
from proxmox_swarm.lab.pve.state import HOSTS, State, Volume


@dataclass(frozen=True)
class Definition:
    """A storage of the cluster: its type, what it may hold, on which hosts it is."""

    name: str
    type: str
    content: tuple[str, ...]
    nodes: tuple[str, ...]

    def config(self) -> dict[str, Any]:
        """The answer of ``storage/{storage}``."""
        answer: dict[str, Any] = {
            "storage": self.name, "type": self.type, "content": ",".join(self.content), "digest": "0" * 40
        }  # fmt: skip
        match self.type:
            case "dir":
                answer["path"] = "/var/lib/vz"
            case "zfspool":
                answer |= {"pool": self.name, "sparse": 1, "nodes": ",".join(self.nodes)}
            case "lvmthin":
                answer |= {"vgname": "pve", "thinpool": "data"}
        return answer


DEFINITIONS = {
    d.name: d
    for d in (
        Definition("local", "dir", ("iso", "snippets", "import", "vztmpl"), HOSTS),
        Definition("local-lvm", "lvmthin", ("images",), HOSTS),
        Definition("tank", "zfspool", ("images",), ("pve01", "pve03")),
    )
}
#: Where a ``dir`` storage keeps each kind of file, below its path.
FOLDERS = {"iso": "template/iso", "vztmpl": "template/cache", "snippets": "snippets", "import": "import"}
_CAPACITY = 2 * TIB


@dataclass(frozen=True)
class StoredFile:
    """A file on a ``dir`` storage."""

    volid: str
    content: str
    path: Path

    @property
    def format(self) -> str:
        """Its format as Proxmox VE names it."""
        if self.content == "snippets":
            return "snippet"
        return {"iso": "iso", "vztmpl": "tgz"}.get(self.content, self.path.suffix.lstrip(".") or "raw")

    def listing(self) -> dict[str, Any]:
        """One entry of ``storage/{storage}/content``."""
        info = self.path.stat()
        return {
            "volid": self.volid, "content": self.content, "format": self.format, "size": info.st_size,
            "ctime": int(info.st_mtime),
        }  # fmt: skip


class Storages:
    """The storages' contents below one directory: ``<root>/<host>/<storage>/…``."""

    def __init__(self, root: Path, state: State) -> None:
        self._root = root
        self.state = state
        self._trash = root / ".trash"
        shutil.rmtree(self._trash, ignore_errors=True)
        self._trash.mkdir(parents=True, mode=0o700)
        self._remover = ThreadPoolExecutor(1, thread_name_prefix="trash")
        for host in HOSTS:
            for folder in FOLDERS.values():
                (self.path(host, "local") / folder).mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, node: str, storage: str) -> Path:
        """The directory that stands for a storage on a host."""
        return self._root / node / storage

    def definition(self, storage: str, node: str | None = None, content: str | None = None) -> Definition:
        """The storage, checked to be on ``node`` and to hold ``content``. Raises as Proxmox VE answers."""
        found = DEFINITIONS.get(storage)
        if found is None:
            raise PveError(f"storage '{storage}' does not exist")
        if node is not None and node not in found.nodes:
            raise PveError(f"storage '{storage}' is not available on node '{node}'")
        if content is not None and content not in found.content:
            raise PveError(f"storage '{storage}' does not support content-type '{content}'")
        return found

    def on(self, node: str) -> list[Definition]:
        """The storages a host has."""
        return [d for d in DEFINITIONS.values() if node in d.nodes]

    def used(self, node: str, storage: str) -> int:
        """Bytes given out."""
        images = sum(v.size for v in self.state.volumes if (v.node, v.storage) == (node, storage))
        return images + sum(f.path.stat().st_size for f in self.files(node, storage))

    def usage(self, node: str, storage: str) -> dict[str, int]:
        """``total``, ``used`` and ``avail`` in bytes."""
        used = self.used(node, storage)
        return {"total": _CAPACITY, "used": used, "avail": max(_CAPACITY - used, 0)}

    # -- files -------------------------------------------------------------------------------------------------------

    def files(self, node: str, storage: str) -> Iterator[StoredFile]:
        """The files of a ``dir`` storage."""
        if DEFINITIONS[storage].type != "dir":
            return
        for content, folder in FOLDERS.items():
            for path in sorted((self.path(node, storage) / folder).iterdir()):
                if path.is_file() and not path.name.startswith("."):
                    yield StoredFile(f"{storage}:{content}/{path.name}", content, path)

    def file(self, node: str, volid: str) -> StoredFile | None:
        """The file of that volume id."""
        storage = volid.partition(":")[0]
        if storage not in DEFINITIONS:
            return None
        return next((f for f in self.files(node, storage) if f.volid == volid), None)

    def place(self, node: str, storage: str, content: str, name: str) -> Path:
        """Where a new file belongs."""
        if "/" in name or name in {".", ".."}:
            raise PveError("Parameter verification failed.", 400, {"filename": "illegal file name"})
        return self.path(node, storage) / FOLDERS[content] / name

    # -- images ------------------------------------------------------------------------------------------------------

    def volume_path(self, volume: Volume) -> Path:
        """The sparse file of a volume, or the directory of a boot volume."""
        return self.path(volume.node, volume.storage) / volume.name

    def allocate(
        self, node: str, storage: str, vmid: int, size: int, image: Path | None = None, suffix: str | None = None
    ) -> Volume:
        """Make a volume for ``vmid`` of ``size`` bytes; with ``image`` it is a boot volume over that image."""
        self.definition(storage, node, "images")
        name = f"vm-{vmid}-{suffix}" if suffix else self._free_name(node, storage, vmid)
        if self.state.volume(node, f"{storage}:{name}"):
            raise PveError(f"volume '{storage}:{name}' already exists")
        volume = Volume(node, storage, name, vmid, size, int(time.time()), str(image) if image else None)
        path = self.volume_path(volume)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._remove(path)
        if image:
            path.mkdir(mode=0o700)
        else:
            with path.open("wb") as stream:
                stream.truncate(size)
            path.chmod(0o600)
        self.state.volumes.append(volume)
        return volume

    def grow(self, volume: Volume, size: int, live: bool) -> None:
        """Make a volume larger. With ``live`` the machine that has the data disk sees the new size at once; that is so
        when it was resized through that machine, not through another one that owns it.
        """
        volume.size = size
        path = self.volume_path(volume)
        if path.is_file():
            with path.open("r+b") as stream:
                stream.truncate(size)
            for device in _loop_devices(path) if live else ():
                subprocess.run(["losetup", "--set-capacity", device], check=False, capture_output=True)

    def free(self, volume: Volume) -> None:
        """Destroy a volume and what it holds."""
        self._remove(self.volume_path(volume))
        self.state.volumes.remove(volume)

    def wipe(self, node: str) -> None:
        """Destroy all that a host's storages hold."""
        for volume in [v for v in self.state.volumes if v.node == node]:
            self.free(volume)
        for found in self.on(node):
            for file in list(self.files(node, found.name)):
                file.path.unlink()

    def of_vm(self, node: str, vmid: int) -> list[Volume]:
        """The volumes named after a VM: what Proxmox VE takes for its own, whoever refers to them."""
        return [v for v in self.state.volumes if v.node == node and v.vmid == vmid]

    def _free_name(self, node: str, storage: str, vmid: int) -> str:
        taken = {v.name for v in self.state.volumes if (v.node, v.storage) == (node, storage)}
        return next(name for n in range(1000) if (name := f"vm-{vmid}-disk-{n}") not in taken)

    def _remove(self, path: Path) -> None:
        """Gone at once; what a machine wrote (Docker's layers, thousands of files) is deleted in the background."""
        if path.is_dir() and not path.is_symlink():
            doomed = self._trash / uuid.uuid4().hex
            path.rename(doomed)
            self._remover.submit(shutil.rmtree, doomed, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Wait until what was destroyed is deleted."""
        self._remover.shutdown()


def _loop_devices(path: Path) -> list[str]:
    listed = subprocess.run(
        ["losetup", "--noheadings", "--output", "NAME", "--associated", str(path)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    return listed.stdout.split()
