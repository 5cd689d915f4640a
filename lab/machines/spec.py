"""What a machine is made of. The storage code makes the files, the API code decides the rest."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class NicSpec:
    """A network card. Card i is ``eth{i}`` inside the machine; ``vlan`` None is the bridge's untagged network."""

    bridge: str
    vlan: int | None
    mac: str


@dataclass(frozen=True)
class DiskSpec:
    """A data disk: a sparse file of ``size`` bytes, and the serial number it shows inside."""

    path: Path
    serial: str | None
    size: int


@dataclass(frozen=True)
class MachineSpec:
    """One machine to start.

    ``volume`` is the boot volume, a directory: an empty one is a fresh machine. ``image`` is the raw ext4 image it
    started from, never written. ``seed`` holds the NoCloud files by name (meta-data, user-data, network-config).
    """

    vmid: int
    name: str
    volume: Path
    image: Path
    nics: tuple[NicSpec, ...]
    disks: tuple[DiskSpec, ...] = ()
    seed: Mapping[str, str] = field(default_factory=dict)
