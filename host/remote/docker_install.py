"""Install Docker on a Debian or Ubuntu host that has none, from Docker's own repository, and keep it at its version.

``args``: ``version`` of the engine such as 29.8.2 (None: the newest), ``key_url``, ``repository``, ``fingerprint``,
``timeout``. Result: ``version`` of dockerd. daemon.json is in place already: dockerd starts with it once.
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

PACKAGES = ("docker-ce", "docker-ce-cli", "containerd.io")
#: There from before the first package to after the last check: an installation that a kill cut short is gone through again.
UNFINISHED = Path("/var/lib/proxmox-swarm/docker-install-unfinished")
CLOUD_INIT = Path("/usr/bin/cloud-init")
KEYRING = Path("/etc/apt/keyrings/docker.asc")
SOURCE = Path("/etc/apt/sources.list.d/docker.list")


def attempt(argv: tuple[str, ...], timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a program for as long as it may take."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    try:
        return subprocess.run(
            argv,
            check=False,
            capture_output=True,
            text=True,
            timeout=max(timeout, 1),
            stdin=subprocess.DEVNULL,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise SystemExit(
            f"{' '.join(argv[:3])} is still at work: raise the boot deadline, or see what it waits for"
        ) from None


def said(*argv: str, timeout: float) -> str:
    """What a program says, however it ends."""
    return attempt(argv, timeout).stdout


def run(*argv: str, timeout: float) -> str:
    """What a program says that has to succeed."""
    result = attempt(argv, timeout)
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
    key_url = args["key_url"].format(distribution=system["ID"])
    try:
        with urllib.request.urlopen(key_url, timeout=30) as answer:  # noqa: S310
            armored = answer.read().decode("ascii", errors="replace")
    except OSError as error:
        raise SystemExit(f"the key of Docker's repository cannot be read from {key_url}: {error}") from None
    found = primary_fingerprints(armored)
    if found != [args["fingerprint"]]:
        raise SystemExit(f"the key at {key_url} is {found or 'unreadable'}, not {args['fingerprint']}: not used")
    KEYRING.parent.mkdir(parents=True, exist_ok=True)
    KEYRING.write_text(armored)
    KEYRING.chmod(0o644)
    url = args["repository"].format(distribution=system["ID"])
    SOURCE.write_text(f"deb [signed-by={KEYRING}] {url} {system['VERSION_CODENAME']} stable\n")


def chosen(version: str | None) -> list[str]:
    """What apt is asked for: engine and client of one version; containerd as the engine's package wants it."""
    if not version:
        return list(PACKAGES)
    rows = [line.split("|") for line in run("apt-cache", "madison", PACKAGES[0], timeout=30).splitlines()]
    offered = [row[1].strip() for row in rows if len(row) > 1]
    # A package's version has an epoch before the engine's, and its own revision and the system behind it.
    engines = {package: package.split(":", 1)[-1].split("-", 1)[0] for package in offered}
    match = next((package for package in offered if engines[package] == version), None)
    if match is None:
        system = release()
        known = ", ".join(list(dict.fromkeys(engines.values()))[:8]) or "none"
        raise SystemExit(
            f"there is no {PACKAGES[0]} {version} for {system['ID']} {system['VERSION_CODENAME']} in Docker's repository; "
            f"there are: {known}"
        )
    return [f"{PACKAGES[0]}={match}", f"{PACKAGES[1]}={match}", *PACKAGES[2:]]


def answers() -> bool:
    """Whether dockerd answers a ping on its socket."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect("/var/run/docker.sock")
            connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in connection.recv(100)
    except OSError:
        return False


def service(verb: str) -> str:
    """What systemctl says of dockerd, whether it likes it or not."""
    return said("systemctl", verb, "docker.service", timeout=120).strip()


def wait_for_dockerd(end: float) -> None:
    """Wait until dockerd answers. When systemd has given it up, or time is over, tell what it said."""
    while not answers():
        if service("is-active") == "failed" or time.monotonic() > end:
            log = said("journalctl", "-u", "docker.service", "-n", "30", "--no-pager", "-o", "cat", timeout=30)
            reasons = [line for line in log.splitlines() if "failed to start daemon" in line or "level=fatal" in line]
            raise SystemExit(
                f"{log}\nDocker is installed and does not start: {(reasons or ['see journalctl -u docker'])[-1]}. "
                "Correct swarm:docker.daemon if it is about that, and run again"
            )
        time.sleep(0.1)


def main(args: dict[str, Any]) -> dict[str, Any]:
    """Install, waiting for whoever else is installing, and wait until dockerd answers."""
    end = time.monotonic() + args["timeout"]
    if release().get("ID") not in ("debian", "ubuntu"):
        raise SystemExit(
            f"Docker is installed on Debian or Ubuntu, not {release().get('ID')}: take an image that has it"
        )
    again, present = UNFINISHED.exists(), dockerd() is not None
    UNFINISHED.parent.mkdir(parents=True, exist_ok=True)
    UNFINISHED.touch()
    if CLOUD_INIT.exists():
        # First boot installs packages too; its own failure is not ours to judge.
        said("cloud-init", "status", "--wait", timeout=args["timeout"])
    add_repository(args)
    if again:
        run("dpkg", "--configure", "-a", timeout=end - time.monotonic())
    apt = ["apt-get", "-q", "-y", "-o", f"DPkg::Lock::Timeout={int(args['timeout'])}", "-o", "Acquire::Retries=3"]
    run(*apt, "update", timeout=end - time.monotonic())
    # What an earlier try left may be held, or be another version than is wanted now.
    options = ["--no-install-recommends", "--allow-change-held-packages", "--allow-downgrades"]
    run(*apt, "install", *options, *chosen(args["version"]), timeout=end - time.monotonic())
    # An unattended upgrade would restart every engine of the cluster on the same night.
    run("apt-mark", "hold", *PACKAGES, timeout=30)
    if present or service("is-active") != "active":
        # One that runs from an earlier try may have begun with another daemon.json.
        service("reset-failed")
        service("restart")
    wait_for_dockerd(end)
    UNFINISHED.unlink()
    return {"version": run(dockerd() or "dockerd", "--version", timeout=30).split()[2].rstrip(",")}
