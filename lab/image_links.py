"""The machine images a lab uses, linked into its own directory: a new image in the cache pulls none from under a VM."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from proxmox_swarm.lab import image
from proxmox_swarm.lab.network import HOSTS
from proxmox_swarm.lab.paths import Paths

if TYPE_CHECKING:
    from proxmox_swarm.lab.pve.storages import Storages


def link_image(paths: Paths, source: image.Image) -> Path:
    """The image's name inside the lab; harmless to repeat."""
    target = paths.images / f"debian-13-{source.sha512[:12]}.raw"
    if not target.exists():
        target.unlink(missing_ok=True)
        try:
            target.hardlink_to(source.path)
        except OSError:  # the cache is on another file system
            target.symlink_to(source.path)
    return target


def linked(paths: Paths, path: Path) -> Path:
    """The path, if it is an image of this lab. Raises ValueError."""
    if path.parent != paths.images or not path.is_file():
        raise ValueError(f"{path} is no image of this lab")
    return path


def drop_unused(paths: Paths, storages: Storages, current: Path) -> None:
    """Remove earlier images that neither a volume nor a file on a storage refers to."""
    used = {str(current), *(volume.image or "" for volume in storages.state.volumes)}
    for host in HOSTS:
        used |= {str(file.path.resolve()) for file in storages.files(host, "local")}
    for path in paths.images.iterdir():
        if str(path) not in used and str(path.resolve()) not in used:
            path.unlink()
