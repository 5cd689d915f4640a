"""Drives of a VM becoming volumes: new ones, imported ones, the cloud-init drive, and volumes that exist already."""

from __future__ import annotations

from pathlib import Path

from proxmox_swarm.lab.pve.errors import PveError
from proxmox_swarm.lab.pve.properties import GIB, MIB, Drive, print_size
from proxmox_swarm.lab.pve.state import Vm, Volume
from proxmox_swarm.lab.pve.storages import Storages, StoredFile

_CLOUDINIT_SIZE = 4 * MIB


def check_storage(storages: Storages, node: str, text: str) -> None:
    """What Proxmox VE checks of a drive before it starts a task: its storage is there and holds images."""
    drive = Drive.parse(text)
    if drive.storage is not None and drive.file not in {"none", "cdrom"}:
        is_iso = drive.is_cdrom and not drive.is_cloudinit
        storages.definition(drive.storage, node, "iso" if is_iso else "images")
    if source := drive.options.get("import-from"):
        storages.definition(source.partition(":")[0], node)


def realise(storages: Storages, vm: Vm, text: str, made: list[Volume]) -> str:
    """Make the volume a drive asks for and return the drive as it is stored; new volumes are added to ``made``."""
    drive = Drive.parse(text)
    if drive.is_cloudinit:
        return _cloudinit(storages, vm, drive, made)
    if drive.is_cdrom:
        drive.file = "none" if drive.file == "cdrom" else drive.file
        drive.options["media"] = "cdrom"
        return drive.print()
    if source := drive.options.pop("import-from", None):
        volume = _import(storages, vm, drive, source)
        made.append(volume)
    elif (gib := drive.wanted_gib) is not None:
        volume = storages.allocate(vm.node, str(drive.storage), vm.vmid, int(gib * GIB))
        made.append(volume)
    else:
        found = storages.state.volume(vm.node, drive.file)
        if found is None:
            raise PveError(f"volume '{drive.file}' does not exist")
        volume = found
    drive.options.pop("format", None)
    drive.file = volume.volid
    drive.options["size"] = print_size(volume.size)
    return drive.print()


def _cloudinit(storages: Storages, vm: Vm, drive: Drive, made: list[Volume]) -> str:
    volid = f"{drive.storage}:vm-{vm.vmid}-cloudinit"
    if storages.state.volume(vm.node, volid) is None:
        made.append(storages.allocate(vm.node, str(drive.storage), vm.vmid, _CLOUDINIT_SIZE, suffix="cloudinit"))
    return f"{volid},media=cdrom"


def _import(storages: Storages, vm: Vm, drive: Drive, source: str) -> Volume:
    found = storages.file(vm.node, source)
    if found is None:
        raise PveError(f"volume '{source}' does not exist")
    size = found.path.stat().st_size
    return storages.allocate(vm.node, str(drive.storage), vm.vmid, size, image=_image(found))


def _image(file: StoredFile) -> Path:
    """The image itself: a file the lab linked into the storage stays usable when that file is removed there."""
    return file.path.resolve()


def forget(storages: Storages, vm: Vm, text: str) -> None:
    """What happens to a drive that leaves the configuration: its cloud-init image goes, its own disk becomes ``unusedN``."""
    drive = Drive.parse(text)
    volume = storages.state.volume(vm.node, drive.file)
    if volume is None or volume.vmid != vm.vmid:
        return
    if drive.is_cloudinit:
        storages.free(volume)
        return
    if any(Drive.parse(str(v)).file == volume.volid for k, v in vm.wanted().items() if k.startswith("unused")):
        return
    number = next(n for n in range(256) if f"unused{n}" not in vm.wanted())
    vm.config[f"unused{number}"] = volume.volid


def resize(storages: Storages, vm: Vm, name: str, size: int, relative: bool, live: bool) -> None:
    """Grow a drive. Raises the texts of Proxmox VE for a shrink or a drive that is not there."""
    if name not in vm.config:
        raise PveError(f"disk '{name}' does not exist")
    drive = Drive.parse(str(vm.config[name]))
    if drive.is_cdrom:
        raise PveError("you can't resize a cdrom")
    volume = storages.state.volume(vm.node, drive.file)
    if volume is None:
        raise PveError(f"volume '{drive.file}' does not exist")
    wanted = volume.size + size if relative else size
    if wanted < volume.size:
        raise PveError("shrinking disks is not supported")
    if wanted > volume.size:
        storages.grow(volume, wanted, live)
    drive.options["size"] = print_size(volume.size)
    vm.config[name] = drive.print()
