"""What follows from what is written: addresses, MAC addresses, the data disk's owner and serial, the order of nodes."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network
from pathlib import PurePosixPath
from urllib.parse import urlsplit

HOLDER_OFFSET = 500
"""The data disk's owner has the node's id plus this, unless ``dataId`` says otherwise."""


IMAGE_FORMATS = ("qcow2", "raw", "vmdk")
"""Disk images that Proxmox VE imports. It goes by the ends of names, and takes no others as content type `import`."""


def image_ending(url: str) -> str:
    """What the file behind a URL is called after its last dot, in lower case."""
    return PurePosixPath(urlsplit(url).path).suffix.lower().removeprefix(".")


def address_on(subnet: IPv4Network, part: int | IPv4Address) -> IPv4Address:
    """The address that ``ip`` stands for on one network: itself, or the subnet's address with that last octet."""
    if isinstance(part, IPv4Address):
        return part
    return IPv4Address(int(subnet.network_address) & ~0xFF | part)


def mac_address(vm_id: int, vlan: int | None) -> str:
    """A MAC address that no other id or VLAN gets: ids have 30 bits, VLANs 12, a locally administered address has 46 free.

    Untagged counts as VLAN 0. The id is readable in it: id 4100 (0x1004) on VLAN 4 is 02:00:01:00:40:04.
    """
    number = vm_id << 12 | (vlan or 0)
    # The two lowest bits of the first octet say "locally administered, unicast"; the id's two highest are above them.
    first = 0x02 | number >> 40 << 2
    octets = (first, *(number & 0xFF_FFFF_FFFF).to_bytes(5, "big"))
    return ":".join(f"{octet:02X}" for octet in octets)


def holder_name(node: str) -> str:
    """What the machine that owns a node's data disk is called on Proxmox VE."""
    return f"{node}-data"


def disk_serial(holder_id: int) -> str:
    """The serial by which the node finds its data disk (``/dev/disk/by-id/…_data-4700``); QEMU keeps 20 characters."""
    return f"data-{holder_id}"


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key that puts app-2 before app-10.

    Pulumi hands mappings over in alphabetical order whatever the file says, so the order of nodes cannot be the file's.
    """
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part)
