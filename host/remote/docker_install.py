"""Install Docker on a Debian or Ubuntu host that has none.

``args``: ``version`` (None: the newest), ``source`` ("docker-ce" or "debian"), ``key_url``, ``repository``,
``fingerprint``, ``timeout``. Result: ``version`` of dockerd.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

KEYRING = Path("/etc/apt/keyrings/docker.asc")
SOURCE = Path("/etc/apt/sources.list.d/docker.list")


def run(*argv: str, timeout: float) -> str:
    """Run a program that has to succeed."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    result = subprocess.run(
        argv,
        check=False,
        capture_output=True,
        text=True,
        timeout=max(timeout, 1),
        stdin=subprocess.DEVNULL,
        env=environment,
    )
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(argv[:3])}: {(result.stderr or result.stdout).strip()[-1500:]}")
    return result.stdout


def dockerd() -> str | None:
    """Where dockerd is: Docker's packages put it into /usr/bin, Debian's into /usr/sbin."""
    return shutil.which("dockerd", path="/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin")


def primary_fingerprints(armored: str) -> list[str]:
    """Fingerprints of the primary keys in an armored OpenPGP block (RFC 4880, 4.2 and 12.2, version 4 keys)."""
    body = armored.split("-----BEGIN PGP PUBLIC KEY BLOCK-----", 1)[-1].split("-----END", 1)[0]
    lines = body.strip().splitlines()
    if "" in [line.strip() for line in lines]:
        lines = lines[[line.strip() for line in lines].index("") + 1 :]
    try:
        data = base64.b64decode("".join(line.strip() for line in lines if not line.startswith("=")))
    except binascii.Error:
        return []
    found = []
    while data:
        tag = data[0]
        if tag & 0x40:
            kind, first = tag & 0x3F, data[1]
            if first < 192:
                start, length = 2, first
            elif first < 224:
                start, length = 3, ((first - 192) << 8) + data[2] + 192
            else:
                start, length = 6, int.from_bytes(data[2:6], "big")
        else:
            kind, size = (tag >> 2) & 0x0F, 1 << (tag & 3)
            start, length = 1 + size, int.from_bytes(data[1 : 1 + size], "big")
        packet = data[start : start + length]
        if kind == 6 and packet[:1] == b"\x04":
            found.append(
                hashlib.sha1(b"\x99" + len(packet).to_bytes(2, "big") + packet).hexdigest().upper()  # noqa: S324
            )
        data = data[start + length :]
    return found


def release() -> dict[str, str]:
    """/etc/os-release."""
    pairs = (line.partition("=") for line in Path("/etc/os-release").read_text().splitlines())
    return {key: value.strip('"') for key, _, value in pairs}


def add_repository(args: dict[str, Any]) -> None:
    """Put Docker's own repository in place, its key checked against the pinned fingerprint."""
    system = release()
    distribution = "ubuntu" if system.get("ID") == "ubuntu" else "debian"
    with urllib.request.urlopen(args["key_url"].format(distribution=distribution), timeout=30) as answer:  # noqa: S310
        armored = answer.read().decode("ascii", errors="replace")
    found = primary_fingerprints(armored)
    if found != [args["fingerprint"]]:
        raise SystemExit(
            f"the key at {args['key_url']} is {found or 'unreadable'}, not {args['fingerprint']}: not used"
        )
    KEYRING.parent.mkdir(parents=True, exist_ok=True)
    KEYRING.write_text(armored)
    KEYRING.chmod(0o644)
    url = args["repository"].format(distribution=distribution)
    SOURCE.write_text(f"deb [signed-by={KEYRING}] {url} {system['VERSION_CODENAME']} stable\n")


def wait_for_dockerd(end: float) -> None:
    """Wait until dockerd answers a ping on its socket."""
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(5)
                connection.connect("/var/run/docker.sock")
                connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                if b" 200 " in connection.recv(100):
                    return
        except OSError:
            pass
        if time.monotonic() > end:
            raise SystemExit("dockerd is installed but does not answer; see journalctl -u docker")
        time.sleep(0.1)


def main(args: dict[str, Any]) -> dict[str, Any]:
    """Install, waiting for whoever else is installing, and wait until dockerd answers."""
    end = time.monotonic() + args["timeout"]
    if Path("/usr/bin/cloud-init").exists():
        # First boot installs packages too; its own failure is not ours to judge.
        subprocess.run(["cloud-init", "status", "--wait"], check=False, capture_output=True, timeout=args["timeout"])
    if args["source"] == "docker-ce":
        add_repository(args)
        packages = ["docker-ce", "docker-ce-cli", "containerd.io"]
    else:
        packages = ["docker.io", "docker-cli"]
    apt = ["apt-get", "-q", "-y", "-o", f"DPkg::Lock::Timeout={int(args['timeout'])}"]
    run(*apt, "update", timeout=end - time.monotonic())
    if args["version"]:
        # Package versions carry an epoch and a suffix: 5:29.8.2-1~debian.13~trixie.
        known = run("apt-cache", "madison", packages[0], timeout=30).splitlines()
        versions = [line.split("|")[1].strip() for line in known if "|" in line]
        match = next((v for v in versions if v.split(":", 1)[-1].startswith(args["version"])), None)
        if match is None:
            raise SystemExit(f"{packages[0]} {args['version']} is not offered; there are {', '.join(versions[:8])}")
        packages = [f"{name}={match}" if name in (packages[0], "docker-ce-cli") else name for name in packages]
    elif args["source"] == "debian":
        # docker-cli is a package of its own from Debian 13 on.
        offered = run("apt-cache", "madison", "docker-cli", timeout=30).strip()
        packages = packages if offered else packages[:1]
    run(*apt, "install", "--no-install-recommends", *packages, timeout=end - time.monotonic())
    # An unattended upgrade would restart every engine of the cluster on the same night.
    run("apt-mark", "hold", *[name.split("=")[0] for name in packages], timeout=30)
    wait_for_dockerd(end)
    return {"version": run(dockerd() or "dockerd", "--version", timeout=30).split()[2].rstrip(",")}
