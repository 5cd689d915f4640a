"""Mounts a machine's root: an overlay of its own directory over the image all machines share."""

import asyncio
import os
from pathlib import Path

from proxmox_swarm.lab.machines.command import CommandError, run


class BaseImages:
    """Images mounted read-only, each once, for as long as a machine uses it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._users: dict[Path, int] = {}
        self._points: dict[Path, Path] = {}
        self._lock = asyncio.Lock()
        self._count = 0

    async def acquire(self, image: Path) -> Path:
        """The directory where ``image`` is mounted."""
        async with self._lock:
            if image not in self._points:
                self._count += 1
                point = self._directory / str(self._count)
                point.mkdir(parents=True, exist_ok=True)
                # noload: the journal is clean, and replaying one would need to write
                await run("mount", "-t", "ext4", "-o", "ro,loop,noload", str(image), str(point))
                self._points[image] = point
            self._users[image] = self._users.get(image, 0) + 1
            return self._points[image]

    async def release(self, image: Path) -> None:
        """One user less; the last one unmounts."""
        async with self._lock:
            self._users[image] -= 1
            if self._users[image] == 0:
                del self._users[image]
                point = self._points.pop(image)
                await run("umount", str(point))
                point.rmdir()


async def mount_root(base: Path, volume: Path, point: Path) -> None:
    """Mounts ``base`` with the changes kept in ``volume`` at ``point``; a fresh volume gets its directories."""
    for path in (base, volume):
        if set(",:\\") & set(str(path)):
            raise CommandError(f"overlayfs takes no path with a comma, colon or backslash: {path}")
    _make_directories(volume, point)
    options = f"lowerdir={base},upperdir={volume / 'upper'},workdir={volume / 'work'}"
    await run("mount", "-t", "overlay", "-o", options, "overlay", str(point))


async def unmount_root(point: Path) -> None:
    """Takes a machine's root away; a process that still ends does not hold it up."""
    await run("umount", "--lazy", str(point))
    os.rmdir(point)  # noqa: PTH106 (microseconds, once a machine)


def _make_directories(volume: Path, point: Path) -> None:
    # upper is the machine's own "/", which everyone inside may read
    for name, mode in (("upper", 0o755), ("work", 0o700), ("docker", 0o710)):
        (volume / name).mkdir(mode=mode, parents=True, exist_ok=True)
    point.mkdir(parents=True, exist_ok=True)
