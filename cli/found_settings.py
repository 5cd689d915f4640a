"""From what was found of a cluster to the lines that declare it. Nothing is asked here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

import yaml

from proxmox_swarm.proxmox import adoption
from proxmox_swarm.proxmox.adoption import FoundNic, Wanted, WantedNic
from proxmox_swarm.proxmox.client import Guest
from proxmox_swarm.settings import daemon, schema
from proxmox_swarm.settings.derive import address_on, natural
from proxmox_swarm.settings.rules_networks import DEFAULT_ADDRESS_POOL
from proxmox_swarm.swarm.found import FoundNode, FoundSwarm

GIB = {"K": 2**-20, "M": 2**-10, "G": 1, "T": 2**10}


@dataclass(frozen=True)
class Machine:
    """A VM: as Proxmox VE lists it, its configuration, and its addresses by MAC address where a guest agent tells them."""

    guest: Guest
    config: Mapping[str, Any]
    told: Mapping[str, set[str]] | None


@dataclass(frozen=True)
class Seen:
    """A member, what its host told of itself, and its VM. ``trouble`` is why the host could not be asked."""

    node: FoundNode
    host_key: str = ""
    daemon: Mapping[str, object] = field(default_factory=dict)
    machine: Machine | None = None
    trouble: str = ""


@dataclass(frozen=True)
class Declared:
    """The settings of one node, what the claim will compare its VM with, and what a person has to see to first."""

    name: str
    settings: Mapping[str, Any]
    wanted: Wanted | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Card:
    nic: FoundNic
    network: str
    address: str


def name_of(node: FoundNode) -> str:
    """A node's name in settings: its host name without a domain."""
    return node.name.partition(".")[0].lower()


def declare(seen: Seen, networks: Mapping[str, schema.Network], hosts: Mapping[str, schema.ProxmoxHost]) -> Declared:
    """The settings that describe a member as it is."""
    node, machine = seen.node, seen.machine
    notes = [seen.trouble] if seen.trouble else []
    settings: dict[str, Any] = {"role": node.role}
    if node.availability != "active":
        settings["availability"] = node.availability
    wanted = None
    if machine is None:
        notes.append(f"no VM on Proxmox VE is called {name_of(node)} or has the address {node.address}")
    else:
        cards, strange = _cards(machine, networks, node.address)
        notes += strange
        settings |= _hardware(machine, hosts, notes)
        settings |= _network(cards, networks)
        cpu, memory = adoption.hardware(machine.config)
        nics = tuple(WantedNic(c.nic.bridge, c.nic.vlan, c.address, c.nic.mac) for c in cards)
        wanted = Wanted(machine.guest.vm_id, cpu, memory, nics, "")
    settings |= {"data": 0, "labels": dict(node.labels), "hostKey": seen.host_key}
    return Declared(name_of(node), {k: v for k, v in settings.items() if v not in ("", {}, [])}, wanted, tuple(notes))


def lines(
    swarm: FoundSwarm,
    found: Sequence[Declared],
    daemons: Sequence[Mapping[str, object]],
    networks: Mapping[str, schema.Network],
) -> list[str]:
    """The lines for ``Pulumi.<stack>.yaml``, below ``config``."""
    written = ["  swarm:nodes:"]
    for entry in sorted(found, key=lambda entry: natural(entry.name)):
        written.append(f"    {entry.name}: {_flow(entry.settings)}")
    if cluster := _cluster(swarm):
        written.append(f"  swarm:cluster: {_flow(cluster)}")
    pools = [ip_network(pool) for pool in swarm.address_pool]
    if any(pool.overlaps(network.subnet) for pool in pools for network in networks.values()):
        written.append("  swarm:guards: {overlappingAddressPool: true}")
    if common := common_daemon(daemons):
        written.append(f"  swarm:docker: {_flow({'daemon': common})}")
    return written


def common_daemon(daemons: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """The keys of daemon.json that all nodes have alike and that settings accept."""
    if not daemons:
        return {}
    first, *others = daemons
    alike = {key: value for key, value in first.items() if all(other.get(key, ...) == value for other in others)}
    return {key: value for key, value in sorted(alike.items()) if not list(daemon.check({key: value}))}


def _cluster(swarm: FoundSwarm) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if swarm.address_pool and swarm.address_pool != (str(DEFAULT_ADDRESS_POOL),):
        found["addressPool"] = list(swarm.address_pool)
    if swarm.subnet_size != schema.Cluster().subnet_size:
        found["subnetSize"] = swarm.subnet_size
    if swarm.data_path_port != schema.Cluster().data_path_port:
        found["dataPathPort"] = swarm.data_path_port
    if swarm.autolock:
        found["autolock"] = True
    return found


def _hardware(machine: Machine, hosts: Mapping[str, schema.ProxmoxHost], notes: list[str]) -> dict[str, Any]:
    cpu, memory = adoption.hardware(machine.config)
    found: dict[str, Any] = {"host": machine.guest.host, "id": machine.guest.vm_id, "cpu": cpu}
    found["memory"] = memory / 1024 if memory % 1024 else memory // 1024
    host = hosts.get(machine.guest.host)
    if host is None:
        notes.append(f"its Proxmox VE host {machine.guest.host} is not declared under proxmox.hosts")
    disks = {key: str(value) for key, value in machine.config.items() if adoption.DISK.fullmatch(key)}
    disks = {key: text for key, text in disks.items() if "media=cdrom" not in text}
    boot = adoption.boot_disk(machine.config, disks)
    if boot is not None:
        size = re.search(r"\bsize=(\d+)([KMGT])", disks[boot])
        if size:
            found["boot"] = max(1, round(int(size[1]) * GIB[size[2]]))
        store = disks[boot].partition(":")[0]
        if host is not None and store in host.datastores:
            found["datastore"] = store
    return found


def _cards(machine: Machine, networks: Mapping[str, schema.Network], address: str) -> tuple[list[_Card], list[str]]:
    """The cards on declared networks, that of the swarm first, and what is odd about the others."""
    cards, notes = [], []
    for nic in adoption.network_cards(machine.config):
        name = next((n for n, net in networks.items() if (net.bridge, net.vlan) == (nic.bridge, nic.vlan)), None)
        if name is None:
            vlan = "no VLAN" if nic.vlan is None else f"VLAN {nic.vlan}"
            notes.append(f"{nic.key} is on {nic.bridge}, {vlan}: no such network is declared")
            continue
        told = adoption.configured_address(machine.config, nic) or (machine.told or {}).get(nic.mac) or set()
        on = [text for text in sorted({*told, address}) if ip_address(text) in networks[name].subnet]
        if on:
            cards.append(_Card(nic, name, address if address in on else on[0]))
        else:
            notes.append(f"{nic.key}: nobody tells its address on network {name}")
    if address not in [card.address for card in cards]:
        notes.append(f"none of its cards is on a declared network with {address}, which the swarm has for it")
    return sorted(cards, key=lambda card: card.address != address), notes


def _network(cards: Sequence[_Card], networks: Mapping[str, schema.Network]) -> dict[str, Any]:
    parts: dict[str, int | str] = {}
    for card in cards:
        last = int(card.address.rpartition(".")[2])
        by_octet = address_on(networks[card.network].subnet, last) == IPv4Address(card.address)
        parts[card.network] = last if by_octet else card.address
    same = len(set(parts.values())) == 1 and isinstance(next(iter(parts.values())), int)
    return {
        "networks": [card.network for card in cards],
        "ip": next(iter(parts.values())) if same else parts,
        "macs": {card.network: card.nic.mac for card in cards},
    }


def _flow(value: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(dict(value), default_flow_style=True, sort_keys=False, width=100_000)
    return text.strip()
