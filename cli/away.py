"""Proxmox VE hosts that are away: what of a stack is on them and is left alone, so that all the rest can be worked on.

The engine leaves a resource as it is, in reality and in state, where ``--exclude`` names it. It also keeps whatever such a
resource was last recorded to depend on, even what is declared no more, and refuses a program that declares those later
than the resource itself (measured with 3.259.0). Most of that is mere order between nodes, which :func:`without_order`
takes out of the state first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.proxmox.client import Client
from proxmox_swarm.proxmox.hosts import absent
from proxmox_swarm.settings.model import Settings

VM = "proxmoxve:index/vmLegacy:VmLegacy"
PROXMOX = "proxmoxve:"
Json = dict[str, Any]


@dataclass(frozen=True)
class Away:
    """``hosts`` with the reason why each is away; ``nodes`` with the host each is on; ``names`` of all resources there."""

    hosts: Mapping[str, str] = field(default_factory=dict)
    nodes: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    @property
    def options(self) -> list[str]:
        """What makes the CLI leave them alone: ``up``, ``preview`` and ``refresh`` take it alike."""
        return [word for name in self.names for word in ("--exclude", f"**::{name}")]

    def covers(self, resource: Json) -> bool:
        """Whether a resource in state is one of those left alone."""
        return name_of(resource) in self.names

    def __str__(self) -> str:
        told = (
            f"{host} {why}: {', '.join(n for n, at in self.nodes.items() if at == host)}"
            for host, why in self.hosts.items()
            if host in self.nodes.values()
        )
        return "; ".join(told)


def find(settings: Settings, state: Json, *, declared: bool = True) -> Away:
    """Ask Proxmox VE which hosts of a stack are away: the recorded ones, and those declared. Raises ProxmoxError."""
    hosts = {host for resource in [*_resources(state), *_creating(state)] if (host := host_of(resource))}
    if declared:
        hosts |= {node.host for node in settings.nodes.values()}
    return left_alone(state, hosts_away(settings, hosts)) if hosts else Away()


def hosts_away(settings: Settings, hosts: Iterable[str]) -> dict[str, str]:
    """Those of the hosts that are away, by Proxmox VE's word, with the reason. Raises ProxmoxError."""
    client = Client(settings.proxmox.endpoints, insecure=settings.proxmox.insecure)
    return absent(client, set(hosts))


def left_alone(state: Json, hosts: Mapping[str, str]) -> Away:
    """What of a state is on hosts that are away."""
    nodes = {node: host for node, host in machines(state).items() if host in hosts}
    there = [r for r in _resources(state) if r["type"].startswith(PROXMOX) and host_of(r) in hosts]
    return Away(hosts, nodes, tuple(dict.fromkeys([*nodes, *map(name_of, there)])))


def require_possible(settings: Settings, state: Json, away: Away) -> None:
    """Refuse what cannot be done while hosts are away. Raises CommandError naming the nodes and what to do instead."""
    made = machines(state)
    problems = []
    for node in settings.nodes.values():
        why = away.hosts.get(node.host)
        if why and made.get(node.name) != node.host:
            problems.append(
                f"{node.name} is declared on {node.host}, which {why}: it cannot be made there now. Declare it on another "
                f"host, or take it out until {node.host} is back"
            )
    for name, host in away.nodes.items():
        declared = settings.nodes.get(name)
        if declared is None or declared.host != host:
            change = f"declared on {declared.host} now" if declared else "declared no more"
            problems.append(
                f"{name} is {change}, but its machine is on {host}, which {away.hosts[host]} and may come back with it. "
                f"Declare it on {host} until then; if {host} is gone for good: "
                f"`proxmox-swarm forget-host {host} --stack {settings.stack}`, then run this again"
            )
    if problems:
        raise CommandError("\n".join(problems))


def require_clearable(state: Json, away: Away) -> None:
    """Refuse to forget what a killed run left half made on a host that is away: it would be taken for whole later."""
    for resource in _creating(state):
        host = host_of(resource)
        if resource["type"] == VM and host in away.hosts:
            raise CommandError(
                f"an earlier run was killed while it made {name_of(resource)} on {host}, which {away.hosts[str(host)]}: what "
                f"it left there cannot be cleared. Run this again when {host} is back; if it is gone for good: "
                f"`proxmox-swarm forget-host {host}`"
            )


def without_order(state: Json, away: Away) -> bool:
    """Take out of a state what resources left alone depend on of other nodes; whether there was any.

    Nothing real hangs on it: the values are in the resources themselves, and the next run that takes them records it anew.
    """
    resources = _resources(state)
    others = {r["urn"] for r in resources if node_of(r) not in (None, *away.nodes)}
    changed = False
    for resource in resources:
        if away.covers(resource):
            changed |= drop_references(resource, others)
    return changed


def drop_references(resource: Json, urns: set[str]) -> bool:
    """Take dependencies on these resources out of one in state; whether there were any."""
    depends: list[str] = resource.get("dependencies") or []
    by_property: dict[str, list[str] | None] = resource.get("propertyDependencies") or {}
    kept = [urn for urn in depends if urn not in urns]
    kept_by = {key: [urn for urn in found or [] if urn not in urns] for key, found in by_property.items()}
    changed = kept != depends or any(kept_by[key] != (found or []) for key, found in by_property.items())
    if changed:
        resource["dependencies"], resource["propertyDependencies"] = kept, kept_by
    return changed


def machines(state: Json) -> dict[str, str]:
    """The Proxmox VE host of each node's machine, as recorded."""
    found = (r for r in _resources(state) if r["type"] == VM and not r.get("delete"))
    return {name_of(r): str(host_of(r)) for r in found if name_of(r) == node_of(r)}


def host_of(resource: Json) -> str | None:
    """The Proxmox VE host that a resource is on."""
    host: str | None = (resource.get("inputs") or {}).get("nodeName")
    return host


def name_of(resource: Json) -> str:
    """A resource's name, the last part of its URN."""
    return str(resource["urn"]).rpartition("::")[2]


def node_of(resource: Json) -> str | None:
    """The node that a resource belongs to: its own word for it, else its component's name."""
    if node := (resource.get("inputs") or {}).get("node"):
        return str(node)
    parent = str(resource.get("parent") or "")
    return parent.rpartition("::")[2] if "$swarm:index:VirtualMachine::" in parent else None


def _creating(state: Json) -> list[Json]:
    pending: list[Json] = state.get("pending_operations") or []
    return [operation["resource"] for operation in pending if operation["type"] == "creating"]


def _resources(state: Json) -> list[Json]:
    found: list[Json] = state.get("resources") or []
    return found
