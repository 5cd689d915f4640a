"""Drives, network devices and sizes: the property strings of a VM's configuration as Proxmox VE reads and prints them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40

_DRIVES = [("ide", 4), ("scsi", 31), ("virtio", 16), ("sata", 6)]
#: All drive names in the order Proxmox VE walks them.
DRIVE_NAMES = tuple(f"{bus}{n}" for bus, count in _DRIVES for n in range(count))
_NET_MODELS = {
    "e1000", "e1000-82540em", "e1000-82544gc", "e1000-82545em", "e1000e", "i82551", "i82557b", "i82559er", "ne2k_isa",
    "ne2k_pci", "pcnet", "rtl8139", "virtio", "vmxnet3",
}  # fmt: skip


def parse_size(text: str) -> int:
    """``20G``, ``512M``, ``53687091200`` in bytes. Raises ``ValueError``."""
    match = re.match(r"(\d+(?:\.\d+)?)([KMGT])?\Z", text)
    if not match:
        raise ValueError(f"unable to parse size '{text}'")
    unit = {None: 1, "K": KIB, "M": MIB, "G": GIB, "T": TIB}[match[2]]
    return int(float(match[1]) * unit)


def print_size(size: int) -> str:
    """Bytes in the largest unit that divides them, as in ``size=20G``."""
    for unit, letter in ((TIB, "T"), (GIB, "G"), (MIB, "M"), (KIB, "K")):
        if size and size % unit == 0:
            return f"{size // unit}{letter}"
    return str(size)


def _split(text: str) -> Iterator[tuple[str | None, str]]:
    for part in filter(str.strip, text.split(",")):
        key, sign, value = part.partition("=")
        yield (key, value) if sign else (None, part)


def is_drive(name: str) -> bool:
    """Whether a configuration key names a drive (``scsi0``, ``ide2``, …)."""
    return bool(re.match(r"(?:ide|scsi|virtio|sata)\d+\Z", name))


@dataclass
class Drive:
    """A drive: its volume (``storage:volume``, ``none``, ``cdrom``) and its options."""

    file: str
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Drive:
        """Read a drive string; the volume is the value without a key, ``file=`` or ``volume=``."""
        file, options = "", {}
        for key, value in _split(text):
            if key in (None, "file", "volume"):
                file = value
            else:
                options[key] = value
        return cls(file, options)

    def print(self) -> str:
        """As Proxmox VE stores it: the volume first, the options in alphabetical order."""
        return ",".join([self.file, *(f"{k}={v}" for k, v in sorted(self.options.items()))])

    @property
    def is_cdrom(self) -> bool:
        """CD-ROM drives, the cloud-init drive among them."""
        return self.file in {"none", "cdrom"} or self.options.get("media") == "cdrom"

    @property
    def is_cloudinit(self) -> bool:
        """The drive that carries the cloud-init seed."""
        return bool(re.search(r":(?:cloudinit|vm-\d+-cloudinit)\Z", self.file))

    @property
    def storage(self) -> str | None:
        """The storage of the volume, if it is on one."""
        return self.file.partition(":")[0] if ":" in self.file else None

    @property
    def wanted_gib(self) -> float | None:
        """The size in GiB where the volume is yet to be made (``tank:50``)."""
        match = re.match(r"[^:]+:(\d+(?:\.\d+)?)\Z", self.file)
        return float(match[1]) if match else None


@dataclass(frozen=True)
class NetDevice:
    """A network device: model, MAC address (upper case, as Proxmox VE stores it) and the other options."""

    model: str
    mac: str
    options: Mapping[str, str]

    @classmethod
    def parse(cls, text: str, default_mac: str) -> NetDevice:
        """Read ``virtio=MAC,bridge=…`` or ``model=virtio,macaddr=MAC,…``; a missing MAC becomes ``default_mac``."""
        model, mac, options = "virtio", default_mac, {}
        for key, value in _split(text):
            if key is None:
                model = value
            elif key in _NET_MODELS:
                model, mac = key, value
            elif key == "model":
                model = value
            elif key == "macaddr":
                mac = value
            else:
                options[key] = value
        return cls(model, mac.upper(), options)

    def print(self) -> str:
        """As Proxmox VE stores it."""
        return ",".join([f"{self.model}={self.mac}", *(f"{k}={v}" for k, v in sorted(self.options.items()))])

    @property
    def bridge(self) -> str:
        """The bridge it is plugged into."""
        return self.options.get("bridge", "vmbr0")

    @property
    def vlan(self) -> int | None:
        """Its VLAN tag, if any."""
        return int(self.options["tag"]) if "tag" in self.options else None


def keyed(text: str) -> dict[str, str]:
    """A simple ``key=value,…`` string (``ipconfigN``, ``cicustom``, ``agent``); a bare value gets the empty key."""
    return {key or "": value for key, value in _split(text)}
