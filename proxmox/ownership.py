"""Who owns a VM id or an address, and the marker that tells our machines from everybody else's.

Proxmox VE answers a taken VM id with an error that the Pulumi provider, on its retry, takes for "done"; it then resizes and
would later destroy a machine that is not ours (measured). So ownership is settled before a machine is made.
"""

from __future__ import annotations

import concurrent.futures
import re
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxmox_swarm.proxmox import hosts
from proxmox_swarm.proxmox.client import Client, Guest, ProxmoxError

PROBE_TIMEOUT = 0.5
PROBE_PORT = 22
SNAPSHOT_SECONDS = 5.0


class TakenError(ProxmoxError):
    """A VM id or an address is used by somebody else."""


@dataclass(frozen=True)
class Marker:
    """What is written into the description of every VM of ours: whose it is, and a claim no other stack can know."""

    project: str
    stack: str
    node: str
    claim: str

    def __str__(self) -> str:
        return f"proxmox-swarm project={self.project} stack={self.stack} node={self.node} claim={self.claim}"

    @classmethod
    def find(cls, description: str) -> Marker | None:
        """The marker in a VM's description, if there is one."""
        found = re.search(r"proxmox-swarm project=(\S+) stack=(\S+) node=(\S+) claim=(\S+)", description)
        return cls(*found.groups()) if found else None


@dataclass(frozen=True)
class Inventory:
    """Every guest of the Proxmox VE cluster with its configuration.

    ``away``: hosts that have guests and cannot be asked, each with the reason in words.
    """

    guests: tuple[Guest, ...]
    configs: Mapping[int, Mapping[str, Any]]
    away: Mapping[str, str] = field(default_factory=dict)

    def by_id(self, vm_id: int) -> Guest | None:
        """The guest with this id."""
        return next((g for g in self.guests if g.vm_id == vm_id), None)

    def marker(self, guest: Guest) -> Marker | None:
        """The marker a guest carries."""
        return Marker.find(str(self.configs.get(guest.vm_id, {}).get("description", "")))

    def by_address(self, address: str) -> Guest | None:
        """The guest whose configuration gives it this address."""
        return next((g for g in self.guests if address in _addresses(self.configs.get(g.vm_id, {}))), None)


_cache: dict[str, tuple[float, Inventory]] = {}
_cache_lock = threading.Lock()


def inventory(client: Client) -> Inventory:
    """Read every guest. Claims made at the same moment share one reading (it is one request a guest)."""
    with _cache_lock:
        known = _cache.get(client.endpoint)
        if known and time.monotonic() - known[0] < SNAPSHOT_SECONDS:
            return known[1]
        client.require_sight_of_all()
        guests = client.guests()
        away = hosts.absent(client, {guest.host for guest in guests})
        asked = [guest for guest in guests if guest.host not in away]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            configs = list(pool.map(lambda g: _config_or_nothing(client, g), asked))
        read = Inventory(guests, {g.vm_id: c for g, c in zip(asked, configs, strict=True)}, away)
        _cache[client.endpoint] = (time.monotonic(), read)
        return read


def check_free(
    found: Inventory, marker: Marker, vm_ids: Sequence[int], addresses: Sequence[str], *, held: Sequence[str] = ()
) -> str:
    """Make sure that ids and addresses are free or already ours, and say which.

    ``held`` are addresses that the claim has already, on which our own machine may answer.
    Returns ``"free"`` or ``"ours"``. Raises TakenError naming who has the id or the address, and touches nothing.
    """
    owned = False
    for vm_id in vm_ids:
        guest = found.by_id(vm_id)
        if guest is None:
            continue
        other = found.marker(guest)
        if other is None or other.claim != marker.claim:
            raise TakenError(_taken(f"VM id {vm_id}", marker, guest, other, found.away.get(guest.host)))
        owned = True
    silent: list[str] = []
    for address in addresses:
        guest = found.by_address(address)
        if guest is None:
            silent.append(address)
            continue
        other = found.marker(guest)
        if guest.vm_id not in vm_ids and (other is None or other.claim != marker.claim):
            raise TakenError(_taken(f"address {address}", marker, guest, other, None))
    _refuse_answering(marker, [address for address in silent if address not in held])
    return "ours" if owned else "free"


def _refuse_answering(marker: Marker, addresses: Sequence[str]) -> None:
    """An address that no guest declares may still belong to a machine outside of Proxmox VE: see whether it answers."""
    for address in answering(addresses):
        raise TakenError(
            f"address {address}, wanted for {marker.node}, answers on port {PROBE_PORT} already, and no guest of "
            "Proxmox VE declares it: a machine outside of Proxmox VE has it, or a guest that sets it from inside. "
            f"Give {marker.node} another address, or take that machine off it."
        )


def answering(addresses: Sequence[str]) -> list[str]:
    """Those addresses at which a machine answers, if only to refuse."""
    with concurrent.futures.ThreadPoolExecutor(max(1, len(addresses))) as pool:
        return [address for address, answers in zip(addresses, pool.map(_answers, addresses), strict=True) if answers]


def _answers(address: str) -> bool:
    try:
        with socket.create_connection((address, PROBE_PORT), PROBE_TIMEOUT):
            return True
    except ConnectionRefusedError:
        return True
    except OSError:
        return False


def _taken(what: str, marker: Marker, guest: Guest, other: Marker | None, away: str | None) -> str:
    if away:
        whose = f"{guest.host} {away}, so nobody can read whose it is"
        way_out = (
            f"wait until {guest.host} is back, or choose another one. If {guest.host} is gone for good, take it out of the "
            f"Proxmox VE cluster, on a host that lives: `pvecm delnode {guest.host}`, then "
            f"`rm -r /etc/pve/nodes/{guest.host}`; docs/runbooks/proxmox-host-lost.md"
        )
    elif other is None:
        whose, way_out = "it carries no marker of ours", "choose another one, or remove that guest"
    elif (other.project, other.stack, other.node) == (marker.project, marker.stack, marker.node):
        whose = (
            "it is marked as this very node, by a claim that this stack's state does not hold (state lost or restored?)"
        )
        way_out = (
            "restore the state, or without a backup take the machine over (docs/first-cluster-on-proxmox.md, step 15); or "
            "remove that VM if nothing on it is needed"
        )
    else:
        whose = f"it belongs to node {other.node} of stack {other.project}/{other.stack}"
        way_out = "choose another one"
    return f"{what}, wanted for {marker.node}, is taken by {guest}: {whose}. Nothing of it was touched; {way_out}."


def _config_or_nothing(client: Client, guest: Guest) -> Mapping[str, Any]:
    try:
        return client.config(guest)
    except ProxmoxError:
        return {}  # removed while we looked, or its host went down: its id still counts as taken


def _addresses(config: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    for key, value in config.items():
        if re.fullmatch(r"(ipconfig|net)\d+", key):
            found.update(re.findall(r"\bip6?=([0-9a-fA-F.:]+)(?:/\d+)?", str(value)))
    return found
