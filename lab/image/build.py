"""Builds one raw ext4 image from Debian packages."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from proxmox_swarm.lab.image import recipe

IMAGE = "image.raw"
SHA512 = "image.raw.sha512"
DOCKER = "docker"
GIB = 1 << 30

# Its mounts of /proc, /sys and /dev live and die with these namespaces, also when the build is killed: deleting a
# half-made tree can never reach through them. The network is the machine's own: packages come from the mirror.
ISOLATED = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")

BUILD_TIMEOUT = 1200.0


class BuildError(RuntimeError):
    """A build step failed; the text holds the end of its output."""


def build(root: Path, made: Path, step: Callable[[str], None]) -> None:
    """Makes the tree at ``root`` and from it ``made``/image.raw and ``made``/docker. Raises `BuildError`."""
    step(f"Debian {recipe.SUITE}, {len(recipe.PACKAGES)} packages from {recipe.MIRROR}")
    _run(
        [
            *ISOLATED,
            "mmdebstrap",
            "--mode=root",
            "--variant=minbase",
            "--include=" + ",".join(recipe.PACKAGES),
            f'--customize-hook={recipe.CUSTOMIZE} "$1"',
            recipe.SUITE,
            str(root),
            *recipe.SOURCES,
        ],
        step,
    )
    shutil.copy2(root / "usr/bin/docker", made / DOCKER)
    step("writing the ext4 image")
    used = _bytes_used(root)
    # a quarter for metadata and for the journal; the size is declared in whole GiB, so never below two
    size = max(2, -(-int(used * 1.25) // GIB))
    _run(["mke2fs", "-q", "-t", "ext4", "-L", "rootfs", "-d", str(root), str(made / IMAGE), f"{size}G"], step)


def _bytes_used(root: Path) -> int:
    total = 0
    for directory, _, names in os.walk(root):
        for name in names:
            total += os.lstat(os.path.join(directory, name)).st_blocks * 512  # noqa: PTH118 (tens of thousands)
    return total


def _run(command: list[str], step: Callable[[str], None]) -> None:
    name = next(word for word in command if word in ("mmdebstrap", "mke2fs"))
    tail: list[str] = []
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    environment["PATH"] = environment.get("PATH", "") + ":/usr/sbin:/sbin"
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except FileNotFoundError as error:
        raise BuildError(f"{error.filename} is not installed: apt-get install mmdebstrap e2fsprogs") from error
    with process:
        assert process.stdout is not None  # noqa: S101 (PIPE above)
        for line in process.stdout:
            tail = [*tail[-19:], line.rstrip()]
            if line.startswith("I: ") and not line.startswith("I: success"):
                step(line[3:].strip())
    if process.returncode:
        raise BuildError(f"{name} failed with exit code {process.returncode}:\n" + "\n".join(tail))
