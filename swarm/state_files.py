"""The swarm's state as files on a manager's disk: how far its raft log is, and moving it as a whole."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Protocol

from proxmox_swarm.host.connection import connect
from proxmox_swarm.host.remote import raft_position
from proxmox_swarm.host.script import run_script, run_with_data
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm.access import DOCKERD_TIMEOUT

KEY_FILE = "certificates/swarm-node.key"
CONNECT_TIMEOUT = 20.0
LOOK_TIMEOUT = 60.0
#: For moving an archive; raft's state is some megabytes.
TRANSFER_TIMEOUT = 600.0


@dataclass(frozen=True, order=True)
class RaftPosition:
    """How much a manager's raft state knows; the greatest is the newest.

    ``commit`` comes first, for that much is left of it by a force: swarmkit drops what lies behind it
    (manager/state/raft/storage.go, loadAndStart), and of what is committed all logs hold the same. Where it is equal the log
    is compared as raft compares it in an election (term, then index): dockerd writes the commit index a little late.
    """

    commit: int
    term: int
    index: int
    node_id: str = field(compare=False)
    written: int = field(compare=False)

    def __str__(self) -> str:
        ago = f"{self.written} s" if self.written < 120 else f"{self.written // 60} min"
        return f"entry {self.commit} committed, {self.index} the last, of term {self.term}; written {ago} ago"


@dataclass(frozen=True)
class StateOnDisk:
    """The swarm folder of a host, in dockerd's data folder ``root``. ``position`` is None without raft state.

    ``attached``: dockerd starts with it. ``recovering``: a recovery was begun here and has not ended. ``locked``: its keys
    are encrypted with the unlock key. ``docker`` is systemd's word for dockerd's state.
    """

    root: str
    position: RaftPosition | None
    attached: bool
    recovering: bool
    locked: bool
    docker: str


@dataclass(frozen=True)
class Packed:
    """A swarm folder, packed while dockerd was stopped for ``down`` seconds, and how far the raft state in it is.

    ``locked``: the keys in it are encrypted with the unlock key.
    """

    data: bytes = field(repr=False)
    sha256: str
    down: float
    position: RaftPosition | None = None
    locked: bool = False


class StateFiles(Protocol):
    """What is done with a host's swarm folder, in dockerd's data folder ``root``. Everything raises HostError."""

    def look(self, target: Target) -> StateOnDisk:
        """Look, beside a dockerd that may be running."""

    def save(self, target: Target, root: str, *, detach: bool = False) -> Packed:
        """Pack it, with dockerd stopped and started again.

        With ``detach`` dockerd then does not find its swarm: it is in none until an init forces a new cluster.
        """

    def put(self, target: Target, root: str, packed: Packed) -> str | None:
        """Put a packed folder in place, detached. Returns where the one that was there is now."""

    def read_key(self, target: Target, root: str) -> bytes:
        """The file with the node's private key, and those of raft's log in its headers; b"" where there is none."""

    def write_key(self, target: Target, root: str, key: bytes) -> None:
        """Put another such file in place, while dockerd is in no swarm."""

    def undo(self, target: Target, root: str) -> str | None:
        """Give up a recovery that was begun here: dockerd finds its own state again; state that was put there is moved.

        Returns where that is now.
        """

    def finish(self, target: Target, root: str) -> None:
        """Restart dockerd, which keeps a force in memory, and end the recovery that was begun here."""


def position_in(packed: bytes) -> RaftPosition | None:
    """How far the raft state in a packed swarm folder is."""
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        files = {member.name: member for member in archive if member.isreg()}
        logs = sorted(name for name in files if name.startswith("./raft/wal-v3-encrypted/") and name.endswith(".wal"))
        snapshots = [PurePosixPath(name).name for name in files if name.startswith("./raft/snap-v3-encrypted/")]
        contents = (content.read() for name in logs if (content := archive.extractfile(files[name])) is not None)
        found = raft_position.position(contents, snapshots)
    return RaftPosition(**found, written=0) if found else None


def key_in(packed: bytes) -> bytes:
    """The key file in a packed swarm folder; b"" where there is none."""
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        found = next((member for member in archive if member.name == f"./{KEY_FILE}"), None)
        content = archive.extractfile(found) if found is not None else None
        return content.read() if content is not None else b""


class SshStateFiles:
    """The real thing."""

    def look(self, target: Target) -> StateOnDisk:  # noqa: D102 - see StateFiles, as for all below
        what = "reading how far its raft state is"
        with connect(target, CONNECT_TIMEOUT) as host:
            found = run_script(host, "raft_position", {}, what=what, timeout=LOOK_TIMEOUT)
        raft = found.pop("raft")
        return StateOnDisk(position=RaftPosition(**raft) if raft else None, **found)

    def save(self, target: Target, root: str, *, detach: bool = False) -> Packed:  # noqa: D102
        args = {"root": root, "save": True, "detach": detach, "timeout": DOCKERD_TIMEOUT}
        result, data = _work(target, args, b"", "packing its raft state")
        locked = b"ENCRYPTED" in key_in(data)
        return Packed(data, result["sha256"], result["down"], position_in(data), locked)

    def put(self, target: Target, root: str, packed: Packed) -> str | None:  # noqa: D102
        args = {"root": root, "put": True, "sha256": packed.sha256, "timeout": DOCKERD_TIMEOUT}
        result, _ = _work(target, args, packed.data, "putting raft state in place")
        aside: str | None = result["aside"]
        return aside

    def read_key(self, target: Target, root: str) -> bytes:  # noqa: D102
        with connect(target, CONNECT_TIMEOUT) as host:
            return host.read_file(f"{root}/swarm/{KEY_FILE}") or b""

    def write_key(self, target: Target, root: str, key: bytes) -> None:  # noqa: D102
        with connect(target, CONNECT_TIMEOUT) as host:
            host.write_file(f"{root}/swarm/{KEY_FILE}", key, 0o600)

    def undo(self, target: Target, root: str) -> str | None:  # noqa: D102
        result, _ = _work(
            target, {"root": root, "undo": True, "timeout": DOCKERD_TIMEOUT}, b"", "attaching its raft state"
        )
        aside: str | None = result["aside"]
        return aside

    def finish(self, target: Target, root: str) -> None:  # noqa: D102
        _work(target, {"root": root, "finish": True, "timeout": DOCKERD_TIMEOUT}, b"", "restarting dockerd")


def _work(target: Target, args: dict[str, object], data: bytes, what: str) -> tuple[dict[str, Any], bytes]:
    timeout = TRANSFER_TIMEOUT + 2 * DOCKERD_TIMEOUT
    with connect(target, CONNECT_TIMEOUT) as host:
        result, sent = run_with_data(host, "swarm_files", args, data, what=what, timeout=timeout)
    return result, sent


SSH_FILES: StateFiles = SshStateFiles()
