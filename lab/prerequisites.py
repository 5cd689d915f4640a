"""Programs of the host that the lab needs, and the Debian packages that bring them."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

# Package: what shows that it is there, a program or a file.
PACKAGES = {
    "systemd-container": "systemd-nspawn",
    "mmdebstrap": "mmdebstrap",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
    "e2fsprogs": "mke2fs",
    "iproute2": "ip",
    "dnsmasq-base": "dnsmasq",
    "docker-registry": "docker-registry",
    "openssh-client": "ssh",
}

# Services these packages would start and enable; the lab starts the program itself, inside its own network.
UNWANTED_SERVICES = ("docker-registry.service",)

POLICY = Path("/usr/sbin/policy-rc.d")
OS_RELEASE = Path("/etc/os-release")
INSTALL_TIMEOUT = 900.0


class PrerequisiteError(RuntimeError):
    """The lab cannot run on this machine as it is; the text says what to install."""


def search_path() -> str:
    """PATH with the directories of system programs, which a normal user's PATH lacks on Debian."""
    return os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/local/sbin:/usr/sbin:/sbin"


def missing() -> list[str]:
    """The Debian packages to install before the lab can run, sorted."""
    return sorted(package for package, shown_by in PACKAGES.items() if not _present(shown_by))


def install(report: Callable[[str], None]) -> None:
    """Installs what is missing with apt-get, as root or by sudo. Raises `PrerequisiteError`.

    Elsewhere than on Debian and Ubuntu nothing is changed: the error names what is missing.
    """
    if not (packages := missing()):
        return
    if not _is_debian():
        wanted = ", ".join(f"{PACKAGES[package]} ({package} in Debian)" for package in packages)
        raise PrerequisiteError(f"this is neither Debian nor Ubuntu; install these first: {wanted}")
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    if sudo and shutil.which("sudo") is None:
        raise PrerequisiteError(f"run as root: apt-get install {' '.join(packages)}")
    report(f"packages  {' '.join(packages)}")
    with tempfile.TemporaryDirectory() as directory:
        _apt_get([*sudo], ["update", "-q"], fatal=False)
        _without_services(sudo, Path(directory), packages)
    if still := missing():
        raise PrerequisiteError(f"apt-get succeeded, but these are still missing: {' '.join(still)}")


def _without_services(sudo: list[str], scratch: Path, packages: list[str]) -> None:
    """Installs ``packages`` so that none of them starts a service: the documented hook of invoke-rc.d says no."""
    policy = scratch / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    ours = not POLICY.exists()
    if ours:
        _run([*sudo, "install", "-m", "755", str(policy), str(POLICY)])
    try:
        _apt_get(sudo, ["install", "-q", "-y", "--no-install-recommends", *packages])
    finally:
        if ours:
            _run([*sudo, "rm", "-f", str(POLICY)])
    for service in UNWANTED_SERVICES:
        if service.removesuffix(".service") in packages and shutil.which("systemctl", path=search_path()):
            _run([*sudo, "systemctl", "disable", service], fatal=False)


def _apt_get(sudo: list[str], arguments: list[str], fatal: bool = True) -> None:
    settings = ["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"]
    _run([*sudo, *settings, "apt-get", "-o", "DPkg::Lock::Timeout=120", *arguments], fatal)


def _run(command: list[str], fatal: bool = True) -> None:
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # sudo asks for its password on the terminal itself
            text=True,
            errors="replace",
            check=False,
            timeout=INSTALL_TIMEOUT,
            env={**os.environ, "PATH": search_path()},
        )
    except subprocess.TimeoutExpired as error:
        raise PrerequisiteError(f"{' '.join(command)}: no end after {INSTALL_TIMEOUT:.0f} s") from error
    if fatal and done.returncode:
        tail = "\n".join(done.stdout.strip().splitlines()[-15:])
        raise PrerequisiteError(f"{' '.join(command)} failed with exit code {done.returncode}:\n{tail}")


def _present(shown_by: str) -> bool:
    if shown_by.startswith("/"):
        return Path(shown_by).exists()
    return shutil.which(shown_by, path=search_path()) is not None


def _is_debian() -> bool:
    try:
        lines = OS_RELEASE.read_text().splitlines()
    except FileNotFoundError:
        return False
    release = dict(line.split("=", 1) for line in lines if "=" in line)
    families = release.get("ID", "").strip('"'), *release.get("ID_LIKE", "").strip('"').split()
    return bool({"debian", "ubuntu"} & set(families))
