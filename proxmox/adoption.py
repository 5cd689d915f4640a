"""Taking over a machine that was there before: it must be the declared one, and nothing in it or of it is changed.

Only its notes get our marker and its tags our tag, beside what is there, so that every later run knows it for ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proxmox_swarm.proxmox.client import Client, Guest, ProxmoxError
from proxmox_swarm.proxmox.ownership import Inventory, Marker

DISK = re.compile(r"(scsi|virtio|sata|ide)\d+")
UNUSED = re.compile(r"unused\d+")
#: Proxmox VE's own defaults for what a configuration leaves out (its API description, ``qemu`` config).
DEFAULT_CORES, DEFAULT_MEMORY = 1, 512


class AdoptionError(ProxmoxError):
    """The machine with the declared id is not the declared one, or may not be rebuilt like this."""


@dataclass(frozen=True)
class WantedNic:
    """One network interface as declared; ``mac`` where the settings name one."""

    bridge: str
    vlan: int | None
    address: str
    mac: str | None


@dataclass(frozen=True)
class Wanted:
    """What the settings say of a machine that is there already. ``memory`` in MiB."""

    vm_id: int
    cpu: int
    memory: int
    nics: tuple[WantedNic, ...]
    tag: str


@dataclass(frozen=True)
class FoundNic:
    """One network card of a VM: ``net0``, its MAC address in upper case, bridge and VLAN."""

    key: str
    mac: str
    bridge: str
    vlan: int | None


def adopt(client: Client, found: Inventory, marker: Marker, wanted: Wanted) -> dict[str, str]:
    """Make sure that VM ``wanted.vm_id`` is the declared machine, mark it as ours, and return :func:`own_disks` of it.

    Raises AdoptionError that names everything that does not fit; then nothing of the machine was touched.
    """
    guest = found.by_id(wanted.vm_id)
    if guest is None:
        raise AdoptionError(
            f"{marker.node} has a hostKey, so its machine should be there, and Proxmox VE has no VM {wanted.vm_id}. "
            "Correct its id; or take hostKey out, and the machine is made."
        )
    config = client.config(guest)
    problems = [*_strangers(marker, config), *differences(client, marker.node, guest, config, wanted)]
    if problems:
        raise AdoptionError(
            f"{guest} is not {marker.node} as it is declared: {'; '.join(problems)}. Nothing of it was touched; "
            "correct the settings of this node."
        )
    client.set_notes(
        guest,
        description=_with_marker(str(config.get("description", "")), marker),
        tags=sorted({*re.split(r"[;,\s]+", str(config.get("tags", ""))), wanted.tag} - {""}),
    )
    return own_disks(guest, config)


def hardware(config: Mapping[str, Any]) -> tuple[int, int]:
    """Cores a socket, and MiB of memory."""
    memory = str(config.get("memory") or DEFAULT_MEMORY).removeprefix("current=")
    return int(config.get("cores") or DEFAULT_CORES), int(memory)


def own_disks(guest: Guest, config: Mapping[str, Any]) -> dict[str, str]:
    """The disks besides its boot disk that go with a VM when it is removed: name to what Proxmox VE writes of it."""
    disks = {key: str(value) for key, value in config.items() if DISK.fullmatch(key) or UNUSED.fullmatch(key)}
    owned = {
        key: text
        for key, text in disks.items()
        if "media=cdrom" not in text and re.search(rf"\bvm-{guest.vm_id}-(?!cloudinit)", text)
    }
    boot = boot_disk(config, owned)
    return {key: text for key, text in sorted(owned.items()) if key != boot}


def boot_disk(config: Mapping[str, Any], disks: Mapping[str, str]) -> str | None:
    """The one of these disks that the VM boots from: the first of its boot order, else the first of all."""
    order = str(config.get("boot", "")).rpartition("order=")[2].split(";")
    return next((key for key in order if key in disks), min(filter(DISK.fullmatch, disks), default=None))


def check_rebuild(node: str, disks: Mapping[str, str], discard: Sequence[str]) -> None:
    """Refuse a rebuild that would destroy disks of an adopted machine that nobody named. Raises AdoptionError."""
    lost = {key: text for key, text in disks.items() if key not in discard}
    if lost:
        listed = ", ".join(f"{key} ({text.partition(',')[0]})" for key, text in lost.items())
        names = ", ".join(sorted({*discard, *lost}))
        raise AdoptionError(
            f"rebuilding {node} would destroy disks that belong to its machine: {listed}. Nothing was touched. Move away "
            f"what is needed, then say at {node} `discard: [{names}]`; or take its generation back."
        )


def _strangers(marker: Marker, config: Mapping[str, Any]) -> Iterator[str]:
    other = Marker.find(str(config.get("description", "")))
    # Of this very node it may be: the state was lost, or a run was killed between the marking and its record.
    if other is not None and (other.project, other.stack, other.node) != (marker.project, marker.stack, marker.node):
        yield (
            f"its notes say that it is node {other.node} of stack {other.project}/{other.stack}: where that is over, take "
            "the line out of its notes"
        )


def differences(client: Client, node: str, guest: Guest, config: Mapping[str, Any], wanted: Wanted) -> Iterator[str]:
    """What of a VM does not fit its declaration, in words."""
    if guest.kind != "qemu":
        yield "it is a container"
        return
    if guest.name != node:
        yield f"it is called '{guest.name}'"
    if guest.status != "running":
        yield f"it is {guest.status}, and only a running machine can be compared: start it"
    cores, memory = hardware(config)
    if cores != wanted.cpu:
        sockets = int(config.get("sockets") or 1)
        yield f"it has {cores} cores{f' on each of {sockets} sockets' if sockets > 1 else ''}, declared is cpu: {wanted.cpu}"
    if memory != wanted.memory:
        yield f"it has {memory / 1024:g} GiB, declared is memory: {wanted.memory / 1024:g}"
    told = client.addresses(guest)
    if told is None and _agent_enabled(str(config.get("agent", ""))):
        yield "its guest agent is enabled and does not answer: start it in the machine, or disable it in Proxmox VE"
    for nic in wanted.nics:
        device, problem = _device(config, nic)
        if device is None:
            yield problem
            continue
        configured = configured_address(config, device)
        if configured is None:
            configured = (told or {}).get(device.mac)
        if configured is None:
            if nic.mac is None:
                yield (
                    f"neither its cloud-init settings nor a guest agent tell the address of {device.key}: name its MAC "
                    f"address, {device.mac}, under macs"
                )
        elif nic.address not in configured:
            yield f"{device.key} has {' and '.join(sorted(configured)) or 'no address'}, declared is {nic.address}"


def _device(config: Mapping[str, Any], nic: WantedNic) -> tuple[FoundNic | None, str]:
    """The VM's interface that stands for a declared one, by its MAC address or else by bridge and VLAN; or what is wrong."""
    devices = list(network_cards(config))
    network = f"{nic.bridge}, {'no VLAN' if nic.vlan is None else f'VLAN {nic.vlan}'}"
    if nic.mac is not None:
        device = next((d for d in devices if d.mac == nic.mac.upper()), None)
        if device is None:
            return None, f"none of its interfaces has the MAC address {nic.mac}"
        if (device.bridge, device.vlan) != (nic.bridge, nic.vlan):
            vlan = "no VLAN" if device.vlan is None else f"VLAN {device.vlan}"
            return None, f"{device.key} is on {device.bridge}, {vlan}, declared is {network}"
        return device, ""
    device = next((d for d in devices if (d.bridge, d.vlan) == (nic.bridge, nic.vlan)), None)
    return device, f"none of its interfaces is on {network}"


def network_cards(config: Mapping[str, Any]) -> Iterator[FoundNic]:
    """The network cards of a VM, in order."""
    for key in sorted((k for k in config if re.fullmatch(r"net\d+", k)), key=lambda k: int(k[3:])):
        options = dict(part.partition("=")[::2] for part in str(config[key]).split(","))
        mac = next((v for v in options.values() if re.fullmatch(r"([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}", v)), "")
        vlan = options.get("tag")
        yield FoundNic(key, mac.upper(), options.get("bridge", ""), int(vlan) if vlan else None)


def configured_address(config: Mapping[str, Any], device: FoundNic) -> set[str] | None:
    """The address that cloud-init gives a network card; None where it gives none."""
    text = str(config.get(f"ipconfig{device.key[3:]}", ""))
    found = re.search(r"\bip=([0-9.]+)(/\d+)?", text)
    return {found[1]} if found else None


def _agent_enabled(option: str) -> bool:
    return bool(re.match(r"(enabled=)?1\b", option))


def _with_marker(notes: str, marker: Marker) -> str:
    """The notes with our marker as their last line, once."""
    kept = [line for line in notes.rstrip().splitlines() if Marker.find(line) is None]
    return "\n".join([*kept, str(marker)])
