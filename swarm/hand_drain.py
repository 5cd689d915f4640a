"""A node that a person drained, for a reason: it stays drained whatever is declared, until that person ends it.

The reason is a label on the node itself, so every operator and every ``up`` sees it, from wherever it runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm import nodes
from proxmox_swarm.swarm.access import SSH, Access, place_of
from proxmox_swarm.swarm.drain import drain as drain_node
from proxmox_swarm.swarm.engine import Json
from proxmox_swarm.swarm.errors import SwarmError
from proxmox_swarm.swarm.managers import Manager, find_manager
from proxmox_swarm.swarm.member import MemberSpec

LABEL = "proxmox-swarm.drained"
TIMEOUT = 30.0


def reason_of(node: Json) -> str | None:
    """Why a person drained this node; None when nobody did."""
    return nodes.labels_of(node).get(LABEL)


def apply(node_spec: dict[str, Any], labels: Mapping[str, str], availability: str) -> None:
    """Write declared labels and availability into a node's spec, as far as a drain by hand lets them."""
    reason = (node_spec.get("Labels") or {}).get(LABEL)
    node_spec["Labels"] = dict(labels) if reason is None else {**labels, LABEL: reason}
    node_spec["Availability"] = availability if reason is None else "drain"


def seen(spec: MemberSpec, node: Json) -> tuple[str, dict[str, str]]:
    """Availability and labels of a node with a drain by hand left out: it is no drift."""
    labels = nodes.labels_of(node)
    availability = nodes.availability_of(node)
    if labels.pop(LABEL, None) is not None and availability == "drain":
        availability = spec.availability
    return availability, spec.labels_judged(labels)


def drain(
    managers: Sequence[Target], cluster_id: str, target: Target, reason: str, *, timeout: float, access: Access = SSH
) -> None:
    """Drain the node that the engine at ``target`` is, and wait until its tasks have ended.

    Raises DrainTimeout, NoManager, and SwarmError where it cannot be told which node that is.
    """
    manager, node = _node(managers, cluster_id, target, access)

    def mark(node_spec: dict[str, Any]) -> None:
        node_spec["Labels"] = {**(node_spec.get("Labels") or {}), LABEL: reason}
        node_spec["Availability"] = "drain"

    drain_node(access, manager.engine, node, target, cluster_id, timeout, mark)


def undrain(
    managers: Sequence[Target], cluster_id: str, target: Target, availability: str, *, access: Access = SSH
) -> str | None:
    """End a drain by hand: the node gets ``availability`` again. Returns the reason it had, None when there was none.

    Raises NoManager, and SwarmError where it cannot be told which node the engine at ``target`` is.
    """
    manager, node = _node(managers, cluster_id, target, access)
    reason = reason_of(node)
    if reason is None:
        return None

    def clear(node_spec: dict[str, Any]) -> None:
        node_spec["Labels"] = {k: v for k, v in (node_spec.get("Labels") or {}).items() if k != LABEL}
        node_spec["Availability"] = availability

    nodes.update(manager.engine, node["ID"], clear, Deadline.after(TIMEOUT, access.clock))
    return reason


def _node(managers: Sequence[Target], cluster_id: str, target: Target, access: Access) -> tuple[Manager, Json]:
    limit = Deadline.after(TIMEOUT, access.clock)
    manager = find_manager(access, managers, cluster_id, limit)
    everyone = nodes.everyone(manager.engine, limit)
    here = [node for node in everyone if nodes.address_of(node) == target.address]
    local = place_of(access, target)
    if local is not None and local.state in ("active", "inactive"):
        # What else is at its address an earlier machine has left behind: drained, it would change nothing.
        node = nodes.find(everyone, local.node_id)
        if node is not None and nodes.shared(everyone, local, "") is None:
            return manager, node
        of = f"is node {local.node_id}, which is not its own there" if local.node_id else "is in no swarm"
        came_back = f"its engine {of}; nodes that {manager.target} lists at that address: {_named(here)}"
    else:
        # Its engine does not say which node it is. Without heartbeats it could be any of several.
        possible = here if len(here) == 1 else [node for node in here if nodes.is_ready(node)]
        if len(possible) == 1:
            return manager, possible[0]
        said = "does not answer" if local is None else f"is in state {local.state}"
        came_back = f"its engine {said}, and {manager.target} lists {_named(here)} at that address"
    raise SwarmError(
        "looking for the node that its engine is",
        where=str(target),
        came_back=f"{came_back}; nothing was changed",
        do_now="Run `pulumi up --refresh` first: it joins the node, and removes what earlier machines left behind.",
    )


def _named(found: Sequence[Json]) -> str:
    return ", ".join(f"{node['ID']} ({nodes.state_of(node)})" for node in found) or "none"
