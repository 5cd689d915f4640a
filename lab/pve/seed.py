"""From a VM's configuration to the machine it describes, with the NoCloud seed that Proxmox VE would put on its CD-ROM.

The texts follow PVE::QemuServer::Cloudinit: network configuration version 1, interfaces by MAC address, an instance id
that is the SHA-1 of user data and network configuration.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from proxmox_swarm.lab.machines.spec import DiskSpec, MachineSpec, NicSpec
from proxmox_swarm.lab.pve.errors import PveError
from proxmox_swarm.lab.pve.properties import DRIVE_NAMES, Drive, NetDevice, keyed
from proxmox_swarm.lab.pve.state import State, Value, Vm, Volume
from proxmox_swarm.lab.pve.storages import Storages

_NO_MAC = "00:00:00:00:00:00"


def nics(config: Mapping[str, Value]) -> dict[int, NetDevice]:
    """The network devices by number."""
    found = {}
    for key, value in config.items():
        if match := re.match(r"net(\d+)\Z", key):
            found[int(match[1])] = NetDevice.parse(str(value), _NO_MAC)
    return dict(sorted(found.items()))


def drives(config: Mapping[str, Value]) -> dict[str, Drive]:
    """The drives by name, in the order Proxmox VE walks them."""
    return {name: Drive.parse(str(config[name])) for name in DRIVE_NAMES if name in config}


def boot_drive(config: Mapping[str, Value]) -> str | None:
    """The drive the VM boots from: the first disk of the boot order, else the first disk."""
    disks = [name for name, drive in drives(config).items() if not drive.is_cdrom]
    order = str(config.get("boot", "")).removeprefix("order=").split(";")
    return next((name for name in order if name in disks), disks[0] if disks else None)


def machine(vm: Vm, state: State, storages: Storages, dns: Mapping[str, str]) -> MachineSpec:
    """What to start for ``vm`` (pending changes applied before). ``dns`` are the host's own settings.

    Raises ``PveError`` for a missing volume or snippet, or a boot disk that no image was imported to.
    """
    boot = boot_drive(vm.config)
    if boot is None:
        raise PveError(f"VM {vm.vmid} has no disk to boot from: the lab starts only machines imported from an image")
    disks = []
    volume = None
    for name, drive in drives(vm.config).items():
        if drive.is_cdrom:
            continue
        found = _volume(vm, state, drive)
        if name == boot:
            volume = found
        else:
            disks.append(DiskSpec(storages.volume_path(found), drive.options.get("serial"), found.size))
    if volume is None or volume.image is None:
        raise PveError(f"boot disk '{boot}' of VM {vm.vmid} was not imported from an image: the lab cannot boot it")
    return MachineSpec(
        vmid=vm.vmid,
        name=vm.name,
        volume=storages.volume_path(volume),
        image=Path(volume.image),
        nics=tuple(NicSpec(n.bridge, n.vlan, n.mac.lower()) for n in nics(vm.config).values()),
        disks=tuple(disks),
        seed=seed(vm, storages, dns),
    )


def _volume(vm: Vm, state: State, drive: Drive) -> Volume:
    found = state.volume(vm.node, drive.file)
    if found is None:
        raise PveError(f"volume '{drive.file}' does not exist")
    return found


def seed(vm: Vm, storages: Storages, dns: Mapping[str, str]) -> dict[str, str]:
    """The NoCloud files; none when the VM has no cloud-init drive."""
    if not any(drive.is_cloudinit for drive in drives(vm.config).values()):
        return {}
    custom = keyed(str(vm.config.get("cicustom", "")))
    user = _snippet(vm, storages, custom["user"]) if "user" in custom else user_data(vm)
    network = _snippet(vm, storages, custom["network"]) if "network" in custom else network_config(vm, dns)
    identity = hashlib.sha1((user + network).encode(), usedforsecurity=False).hexdigest()
    meta = _snippet(vm, storages, custom["meta"]) if "meta" in custom else f"instance-id: {identity}\n"
    files = {"meta-data": meta, "user-data": user, "network-config": network}
    if "vendor" in custom:
        files["vendor-data"] = _snippet(vm, storages, custom["vendor"])
    return files


def _snippet(vm: Vm, storages: Storages, volid: str) -> str:
    found = storages.file(vm.node, volid)
    if found is None:
        raise PveError(f"volume '{volid}' does not exist")
    return found.path.read_text()


def user_data(vm: Vm) -> str:
    """The cloud-config that Proxmox VE writes when no custom one is given."""
    config = vm.config
    lines = ["#cloud-config", f"hostname: {vm.name}", "manage_etc_hosts: true"]
    if domain := str(config.get("searchdomain", "")):
        lines.append(f"fqdn: {vm.name}.{domain}")
    if user := config.get("ciuser"):
        lines.append(f"user: {user}")
    if password := config.get("cipassword"):
        lines.append(f"password: {password}")
    if keys := config.get("sshkeys"):
        lines.append("ssh_authorized_keys:")
        lines += [f"  - {key}" for key in urllib.parse.unquote(str(keys)).splitlines() if key.strip()]
    lines += ["chpasswd:", "  expire: False", "users:", "  - default"]
    if config.get("ciupgrade", 1):
        lines.append("package_upgrade: true")
    return "\n".join(lines) + "\n"


def network_config(vm: Vm, dns: Mapping[str, str]) -> str:
    """Network configuration version 1: fixed addresses or DHCP by NIC, name servers from the VM or else the host."""
    lines = ["version: 1", "config:"]
    for number, nic in nics(vm.config).items():
        text = vm.config.get(f"ipconfig{number}")
        if not text:
            continue
        lines += [
            "    - type: physical",
            f"      name: eth{number}",
            f"      mac_address: '{nic.mac.lower()}'",
            "      subnets:",
        ]
        lines += _subnets(keyed(str(text)))
    servers = str(
        vm.config.get("nameserver") or " ".join(v for k, v in sorted(dns.items()) if k.startswith("dns"))
    ).split()
    search = str(vm.config.get("searchdomain") or dns.get("search", "")).split()
    lines += ["    - type: nameserver", "      address:", *(f"      - '{server}'" for server in servers)]
    if search:
        lines += ["      search:", *(f"      - '{domain}'" for domain in search)]
    return "\n".join(lines) + "\n"


def _subnets(settings: Mapping[str, str]) -> list[str]:
    lines = []
    if (address := settings.get("ip")) == "dhcp":
        lines.append("      - type: dhcp4")
    elif address:
        interface = ipaddress.ip_interface(address)
        lines += [
            "      - type: static",
            f"        address: '{interface.ip}'",
            f"        netmask: '{interface.netmask}'",
        ]
        if gateway := settings.get("gw"):
            lines.append(f"        gateway: '{gateway}'")
    if (address := settings.get("ip6")) == "dhcp":
        lines.append("      - type: dhcp6")
    elif address == "auto":
        lines.append("      - type: ipv6_slaac")
    elif address:
        lines += ["      - type: static6", f"        address: '{address}'"]
        if gateway := settings.get("gw6"):
            lines.append(f"        gateway: '{gateway}'")
    return lines
