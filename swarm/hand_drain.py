"""A node that a person drained, for a reason: it stays drained whatever is declared, until that person ends it.

The reason is a label on the node itself, so every operator and every ``up`` sees it, from wherever it runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm import nodes
from proxmox_swarm.swarm.access import SSH, Access
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
    """Drain a node by hand and wait until its tasks have ended. Raises DrainTimeout, NoManager, SwarmError."""
    manager, node = _node(managers, cluster_id, target, access)

    def mark(node_spec: dict[str, Any]) -> None:
        node_spec["Labels"] = {**(node_spec.get("Labels") or {}), LABEL: reason}
        node_spec["Availability"] = "drain"

    drain_node(access, manager.engine, node, target, cluster_id, timeout, mark)


def undrain(
    managers: Sequence[Target], cluster_id: str, target: Target, availability: str, *, access: Access = SSH
) -> str | None:
    """End a drain by hand: the node gets ``availability`` again. Returns the reason it had, None when there was none."""
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
    for node in nodes.everyone(manager.engine, limit):
        if nodes.address_of(node) == target.address:
            return manager, node
    raise SwarmError(
        "looking for the node",
        where=str(target),
        came_back=f"{manager.target} lists no node at that address",
        do_now="Run `up`, which joins it, first.",
    )
