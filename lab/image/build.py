"""Builds one raw ext4 image from Debian packages."""

import os
import shlex
import shutil
import subprocess
import threading
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

BUILD_TIMEOUT = 1200.0  # seconds; the packages are about 150 MB to fetch


class BuildError(RuntimeError):
    """A build step failed; the text holds the end of its output."""


def build(root: Path, made: Path, step: Callable[[str], None]) -> None:
    """Makes the tree at ``root`` and from it ``made``/image.raw and ``made``/docker. Raises `BuildError`."""
    step(f"Debian {recipe.SUITE}, {len(recipe.PACKAGES)} packages from {recipe.MIRROR}")
    options = ["--mode=root", "--variant=minbase", "--include=" + ",".join(recipe.PACKAGES)]
    if proxy := _apt_proxy():
        settings = root.with_name("apt.conf")  # a file: a proxy's address may hold a password
        settings.touch(mode=0o600)
        settings.write_text("".join(f"{line};\n" for line in proxy))
        options.append(f"--aptopt={settings}")
    options += [f'--customize-hook=sh {shlex.quote(str(recipe.CUSTOMIZE))} "$1"']
    _run([*ISOLATED, "mmdebstrap", *options, recipe.SUITE, str(root), *recipe.SOURCES], step)
    shutil.copy2(root / "usr/bin/docker", made / DOCKER)
    step("writing the ext4 image")
    # a quarter more for metadata and some room; the size is declared in whole GiB, so never below two
    size = max(2, -(-int(_bytes_used(root) * 1.25) // GIB))
    # no journal: the image is only ever read
    options = ["-q", "-t", "ext4", "-O", "^has_journal", "-L", "rootfs", "-d", str(root)]
    _run(["mke2fs", *options, str(made / IMAGE), f"{size}G"], step)


def _apt_proxy() -> list[str]:
    """This machine's own proxy settings for packages; they do not stay in the image."""
    lines = []
    for name in ("Acquire::http::Proxy", "Acquire::https::Proxy", "Acquire::http::Proxy-Auto-Detect"):
        value = subprocess.run(
            ["apt-config", "dump", "--format", "%v%n", name], capture_output=True, text=True, check=False, timeout=30
        ).stdout.strip()
        if value:
            lines.append(f'{name} "{value}"')
    return lines


def _bytes_used(root: Path) -> int:
    total = 0
    for directory, _, names in os.walk(root):
        for name in names:
            total += os.lstat(os.path.join(directory, name)).st_blocks * 512  # noqa: PTH118 (tens of thousands)
    return total


def _run(command: list[str], step: Callable[[str], None]) -> None:
    name = next(word for word in command if word in ("mmdebstrap", "mke2fs"))
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    environment["PATH"] = environment.get("PATH", "") + ":/usr/sbin:/sbin"
    if shutil.which(name, path=environment["PATH"]) is None:
        raise BuildError(f"building the machine image needs {name}, which is not installed")
    output: list[str] = []
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    timer = threading.Timer(BUILD_TIMEOUT, process.kill)
    timer.start()
    try:
        with process:
            assert process.stdout is not None  # noqa: S101 (PIPE above)
            for line in process.stdout:
                output = [*output[-39:], line.rstrip()]
                if line.startswith("I: ") and not line.startswith(("I: success", "I: main()", "I: running --")):
                    step(line[3:].strip())
    finally:
        timer.cancel()
    if process.returncode:
        raise BuildError(_failure(name, process.returncode, output))


def _failure(name: str, code: int, output: list[str]) -> str:
    reason = next((line for line in output if line.startswith(("E: Failed to fetch", "E: Unable"))), None)
    reason = reason or next((line for line in reversed(output) if line.startswith("E: ")), f"exit code {code}")
    text = f"building the machine image failed in {name}: {reason.removeprefix('E: ')}"
    if "fetch" in text:
        text += "; this machine must reach the Debian mirror, or set PROXMOX_SWARM_DEBIAN_MIRROR and http_proxy"
    return "\n".join([text, *output[-20:]])
