"""How far the raft state on this host's disk has come, read beside a dockerd that may be running, and without changing it.

``args``: none. Result: ``root`` of dockerd's data, ``raft`` (null without any, else ``node_id``, ``commit``, ``term`` and
``index`` of the last entry, ``written``: seconds since the log was last written to), ``attached`` (dockerd will start with
it), ``recovering`` (a recovery was begun here and has not ended), ``locked`` (its keys are encrypted with the unlock key),
``docker`` (systemd's word for dockerd's state).

The log is etcd's: frames of a length and a record (server/storage/wal/decoder.go), each a protobuf message. Of an entry
swarmkit encrypts the data alone; term, index and commit are in clear (manager/state/raft/storage/walwrap.go).
"""

from __future__ import annotations

import json
import re
import struct
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

DAEMON = Path("/etc/docker/daemon.json")
ROOT = "/var/lib/docker"
METADATA, ENTRY, STATE, SNAPSHOT = 1, 2, 3, 5
FRAME = struct.Struct("<Q")
LENGTH = (1 << 56) - 1
SNAPSHOT_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.snap")


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A protobuf number, and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at


def fields(data: bytes) -> dict[int, Any]:
    """The fields of a protobuf message by their numbers: numbers, and byte strings as they are."""
    found: dict[int, Any] = {}
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            found[key >> 3], at = varint(data, at)
        elif key & 7 == 2:
            size, at = varint(data, at)
            if at + size > len(data):
                raise ValueError("cut off")
            found[key >> 3] = data[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {key & 7}")
    return found


def records(log: bytes) -> Iterator[tuple[int, dict[int, Any]]]:
    """Kind and content of each record up to the first that is not whole: files are made longer than they are full."""
    at = 0
    while at + FRAME.size <= len(log):
        (frame,) = FRAME.unpack_from(log, at)
        size = frame & LENGTH
        start, at = at + FRAME.size, at + FRAME.size + size + (frame >> 56 & 7 if frame >> 63 else 0)
        if not size or at > len(log):
            return
        try:
            record = fields(log[start : start + size])
            yield record.get(1, 0), fields(record.get(3, b"")) if record.get(1) in (1, 2, 3, 5) else {}
        except (ValueError, IndexError):
            return


def position(logs: Iterable[bytes], snapshots: Iterable[str]) -> dict[str, Any] | None:
    """The node whose logs (in their order) and snapshots (by their names) these are, its commit index, the last entry."""
    node_id, commit, last = "", 0, (0, 0)
    for log in logs:
        for kind, content in records(log):
            if kind == METADATA:
                node_id = content.get(2, b"").decode()
            elif kind == ENTRY:  # a later one with the same index has replaced the earlier
                last = (content.get(2, 0), content.get(3, 0))
            elif kind == STATE:
                commit = content.get(3, 0)
    for snapshot in snapshots:
        if name := SNAPSHOT_NAME.fullmatch(snapshot):
            term, index = int(name[1], 16), int(name[2], 16)
            commit = max(commit, index)
            last = (term, index) if index > last[1] else last
    return {"node_id": node_id, "commit": commit, "term": last[0], "index": last[1]} if node_id else None


def read(raft: Path) -> dict[str, Any] | None:
    """The position of the raft state in a folder, and for how many seconds nothing has been written there."""
    logs = sorted((raft / "wal-v3-encrypted").glob("*.wal"))
    snapshots = (path.name for path in (raft / "snap-v3-encrypted").glob("*.snap"))
    found = position((log.read_bytes() for log in logs), snapshots)
    if found is None:
        return None
    return {**found, "written": max(0, round(time.time() - max(log.stat().st_mtime for log in logs)))}


def root() -> Path:
    """Where dockerd keeps its data; it may be too broken to be asked."""
    try:
        settings = json.loads(DAEMON.read_text())
    except (OSError, ValueError):
        settings = {}
    return Path(settings.get("data-root") or settings.get("graph") or ROOT)


def main(args: dict[str, Any]) -> dict[str, Any]:
    """Look, and change nothing."""
    del args
    swarm = root() / "swarm"
    key = swarm / "certificates" / "swarm-node.key"
    state = subprocess.run(["systemctl", "is-active", "docker.service"], check=False, capture_output=True, text=True)
    return {
        "root": str(swarm.parent),
        "raft": read(swarm / "raft"),
        "attached": (swarm / "docker-state.json").exists(),
        "recovering": (swarm / "proxmox-swarm-recovery").exists(),
        "locked": key.exists() and "ENCRYPTED" in key.read_text(errors="replace"),
        "docker": state.stdout.strip(),
    }
