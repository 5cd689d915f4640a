"""What only the host itself can tell about a swarm node: the room on its disks, its node certificate, how dockerd is.

``args``: ``mounts``, paths that a disk of their own is expected at. Result: ``now`` (the host's clock, seconds), ``disks``
(``path``, ``size`` and ``free`` in bytes, ``mounted``), ``certificate`` (PEM, None without one) and ``dockerd`` (systemd's
word: active, failed, …; "" if it gives none).
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

DAEMON = Path("/etc/docker/daemon.json")
CERTIFICATE = "swarm/certificates/swarm-node.crt"


def docker_root() -> Path:
    """Where dockerd keeps its data."""
    try:
        return Path(json.loads(DAEMON.read_text())["data-root"])
    except (OSError, ValueError, KeyError, TypeError):
        return Path("/var/lib/docker")


def disk(path: Path, mounted: bool) -> dict[str, Any] | None:
    """Size and room, for those who are not root, of the file system at a path; None where there is no such path."""
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    size = (found.f_blocks - found.f_bfree + found.f_bavail) * found.f_frsize
    return {"path": str(path), "size": size, "free": found.f_bavail * found.f_frsize, "mounted": mounted}


def unit() -> str:
    """What systemd says of dockerd: one that ends again and again as it starts is "failed"."""
    show = ("systemctl", "show", "--property=ActiveState", "--value", "docker.service")
    try:
        done = subprocess.run(show, check=False, capture_output=True, text=True, timeout=5, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def main(args: dict[str, Any]) -> dict[str, Any]:
    """Read it all."""
    root = docker_root()
    disks = [disk(Path("/"), True), disk(root, True)]
    for mount in map(Path, args["mounts"]):
        there = mount.is_mount()
        absent = {"path": str(mount), "size": 0, "free": 0, "mounted": False}
        disks.append((disk(mount, True) if there else None) or absent)
    certificate = root / CERTIFICATE
    return {
        "now": time.time(),
        "disks": [found for found in disks if found is not None],
        "certificate": certificate.read_text() if certificate.is_file() else None,
        "dockerd": unit(),
    }
