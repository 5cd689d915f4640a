"""What makes the lab's machine image: suite, packages, our files. A change here makes a new image."""

import hashlib
import os
from pathlib import Path

SUITE = "trixie"

# Another Debian mirror for the build, where these cannot be reached; the image's own sources.list stays Debian's.
MIRROR = os.environ.get("PROXMOX_SWARM_DEBIAN_MIRROR", "http://deb.debian.org/debian")
SECURITY_MIRROR = os.environ.get("PROXMOX_SWARM_DEBIAN_SECURITY_MIRROR", "http://deb.debian.org/debian-security")

SOURCES = (
    f"deb {MIRROR} {SUITE} main",
    f"deb {MIRROR} {SUITE}-updates main",
    f"deb {SECURITY_MIRROR} {SUITE}-security main",
)

# What Debian's genericcloud image has for a server on the network, plus Docker and the guest agent: nothing is
# installed at first boot, so that no package mirror is needed to make a machine.
PACKAGES = (
    "ca-certificates",
    "cloud-init",
    "dbus",
    "docker-cli",
    "docker.io",
    "e2fsprogs",
    "iproute2",
    "iptables",
    "iputils-ping",
    "kmod",
    "libnss-myhostname",
    "libnss-resolve",
    "linux-sysctl-defaults",
    "netbase",
    "openssh-server",
    "procps",
    "qemu-guest-agent",
    "sudo",
    "systemd",
    "systemd-resolved",
    "systemd-sysv",
    "util-linux",
    "xfsprogs",
)

HERE = Path(__file__).parent
CUSTOMIZE = HERE / "customize.sh"
ROOTFS = HERE / "rootfs"


def fingerprint() -> str:
    """The first 16 hex digits of a hash over everything that makes the image."""
    digest = hashlib.sha256()
    for word in (SUITE, *PACKAGES):
        digest.update(word.encode() + b"\0")
    for path in [CUSTOMIZE, HERE / "build.py", *sorted(p for p in ROOTFS.rglob("*") if p.is_file())]:
        digest.update(f"{path.relative_to(HERE)} {path.stat().st_mode & 0o111:o}\0".encode())
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
