"""Mount the disk that carries a given serial number, and make it a file system if it is blank; or let go of one.

``args``: ``serial``, ``mount``, ``size`` (GiB), ``timeout`` (seconds to wait for the disk). Result: ``device``,
``formatted``; or ``absent``, the reason, where no such disk shows, or not in this size. With ``release`` instead, a mount
that is not wanted any more. Result: ``released``.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

BY_ID = Path("/dev/disk/by-id")
UNITS = Path("/etc/systemd/system")
OURS = "# Managed by proxmox-swarm\n"
GUARD = "docker.service.d/50-proxmox-swarm-data.conf"


class AbsentError(SystemExit):
    """No disk carries the serial number, or it does not show its size."""


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run a program, keep what it says."""
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)


def must(*argv: str) -> str:
    """Run a program that has to succeed."""
    result = run(*argv)
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(argv)}: {(result.stderr or result.stdout).strip()}")
    return result.stdout.strip()


def find(serial: str, timeout: float) -> Path:
    """The whole disk with this serial. udev names it ``scsi-0QEMU_QEMU_HARDDISK_SERIAL`` or ``virtio-SERIAL``."""
    end = time.monotonic() + timeout
    while True:
        names = sorted(BY_ID.glob("*")) if BY_ID.is_dir() else []
        for path in names:
            if path.name == serial or path.name.endswith((f"_{serial}", f"-{serial}")):
                return path
        if time.monotonic() > end:
            raise AbsentError(
                f"no disk with serial {serial}; /dev/disk/by-id has {[p.name for p in names] or 'nothing'}"
            )
        time.sleep(0.2)


def check_size(device: Path, gib: int) -> None:
    """A disk that another machine owns shows its new size to this one at its next start."""
    size = int(must("blockdev", "--getsize64", str(device)))
    if size < gib << 30:
        raise AbsentError(f"{device.name} shows {size / (1 << 30):.1f} GiB, declared are {gib}")


def grow(device: Path, mount: str) -> None:
    """The file system takes all of its disk, while it is in use. Nothing happens where it does."""
    if must("findmnt", "-n", "-o", "FSTYPE", "--mountpoint", mount) == "xfs":
        must("xfs_growfs", "-d", mount)
    else:
        must("resize2fs", str(device.resolve()))


def format_if_blank(device: Path) -> bool:
    """ext4 on a disk that holds nothing at all. Anything that is not blank and not ext4 or xfs is refused."""
    try:
        with device.open("rb") as disk:
            disk.read(1 << 20)
    except OSError as error:  # blkid ends with 2 for a disk that it cannot read, too
        raise SystemExit(f"{device} cannot be read ({error.strerror}): not touched") from None
    # -p looks at the disk itself, not at blkid's cache; 2 means that it found nothing.
    result = run("blkid", "-p", "-o", "export", str(device))
    if result.returncode == 2:
        must("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1", str(device))
        return True
    found = dict(line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)
    if found.get("TYPE") not in ("ext4", "xfs"):
        raise SystemExit(
            f"{device} holds {found.get('TYPE') or found.get('PTTYPE') or result.stderr.strip()}: not touched"
        )
    return False


def unit_of(mount: str) -> str:
    """The name of a mount point's unit."""
    return must("systemd-escape", "--path", "--suffix=mount", mount)


def release(mount: str) -> bool:
    """Have nothing mounted there any more, now and at each boot: dockerd would wait for a disk that never comes."""
    unit = UNITS / unit_of(mount)
    if not unit.exists() or not unit.read_text().startswith(OURS):
        return False
    guard = UNITS / GUARD
    if guard.exists() and f"RequiresMountsFor={mount}\n" in guard.read_text():
        guard.unlink()
        must("systemctl", "daemon-reload")  # or stopping the mount would stop dockerd
    must("systemctl", "disable", "--now", unit.name)
    unit.unlink()
    must("systemctl", "daemon-reload")
    return True


def main(args: dict[str, Any]) -> dict[str, Any]:
    """Have the disk mounted now and at each boot, before dockerd starts."""
    if "release" in args:
        return {"released": release(args["release"].rstrip("/"))}
    mount = args["mount"].rstrip("/")
    try:
        device = find(args["serial"], args["timeout"])
        check_size(device, int(args["size"]))
    except AbsentError as error:
        return {"absent": str(error)}
    unit = unit_of(mount)
    source = run("findmnt", "-n", "-o", "SOURCE", "--mountpoint", mount).stdout.strip()
    formatted = False
    if source and Path(source).resolve() != device.resolve():
        raise SystemExit(f"{mount} is mounted from {source}, not from {device}")
    if not source:
        formatted = format_if_blank(device)
    text = (
        f"{OURS}[Unit]\nBefore=docker.service\n"
        f"[Mount]\nWhat={device}\nWhere={mount}\nOptions=defaults,noatime\n"
        "[Install]\nWantedBy=local-fs.target\n"
    )
    # Without the mount dockerd would put volumes on the root disk, where they die with the machine.
    guard = f"{OURS}[Unit]\nRequiresMountsFor={mount}\n"
    changed = False
    for path, content in (
        (UNITS / unit, text),
        (UNITS / GUARD, guard),
    ):
        if not path.exists() or path.read_text() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            changed = True
    Path(mount).mkdir(parents=True, exist_ok=True)
    if changed:
        must("systemctl", "daemon-reload")
    if changed or not source:
        must("systemctl", "enable", "--now", unit)
    if not formatted:
        grow(device, mount)
    return {"device": str(device), "formatted": formatted}
