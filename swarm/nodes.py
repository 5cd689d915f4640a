"""Reading and writing node objects: always the whole spec, read just before it is written."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.swarm.engine import EngineApi, Json
from proxmox_swarm.swarm.errors import EngineError
from proxmox_swarm.swarm.local import LocalSwarm, host_of
from proxmox_swarm.swarm.quorum import Quorum
from proxmox_swarm.swarm.retry import persist

#: A task in one of these states runs no more (swarmkit api/types.proto).
ENDED = ("complete", "shutdown", "failed", "rejected", "remove", "orphaned")


def find(nodes: Iterable[Json], node_id: str) -> Json | None:
    """The node with this id."""
    return next((node for node in nodes if node["ID"] == node_id), None) if node_id else None


def get(engine: EngineApi, node_id: str, deadline: Deadline) -> Json | None:
    """The node with this id, or None when the swarm has none. Raises EngineError."""
    if not node_id:
        return None
    try:
        return persist(lambda: engine.node(node_id), deadline)
    except EngineError as error:
        if error.status == 404:
            return None
        raise


def everyone(engine: EngineApi, deadline: Deadline) -> list[Json]:
    """All node objects. Raises EngineError, NoManager."""
    return persist(engine.nodes, deadline)


def address_of(node: Json) -> str:
    """A node's address: a manager's raft address where it has one, else what the last heartbeat came from."""
    raft = (node.get("ManagerStatus") or {}).get("Addr")
    return host_of(raft) if raft else str((node.get("Status") or {}).get("Addr") or "")


def ghosts(everyone: Sequence[Json], node_id: str, address: str) -> list[Json]:
    """What earlier machines left behind at the address of node ``node_id``, whose engine is the one that answers there.

    A manager's ghost passes for reachable, because the new machine answers for it (moby#34722). A worker's goes down after a
    while; as long as it counts as ready, one of another host name may be somebody else behind address translation.
    """
    own = find(everyone, node_id)
    return [
        node
        for node in everyone
        if node["ID"] != node_id
        and address_of(node) == address
        and (in_raft(node) or not is_ready(node) or (own is not None and hostname_of(own) == hostname_of(node)))
    ]


def shared(everyone: Sequence[Json], own: LocalSwarm, recorded: str) -> Json | None:
    """The node that this engine takes itself for where it is another engine's as well; None where it is its own, or unknown.

    Around a change of leader a manager may pass on what another manager has passed to it, and the leader then takes the
    first for the one who asked (swarmkit's raft proxy forgets its mark against a second hop since gRPC copies metadata): a
    node that asks for a new certificate gets one in a manager's name, and may even take its place in raft. ``recorded`` is
    the id of the engine's node as it was last seen.
    """
    node = find(everyone, own.node_id) if own.state != "inactive" else None
    if node is None:
        return None
    if in_raft(node):
        return node if own.node_address and address_of(node) != own.node_address else None
    former = find(everyone, recorded) if own.node_id != recorded else None
    # Whoever left and joined by hand has a node that is younger than the last change of the former one.
    return node if former is not None and _made(node) < _changed(former) else None


def _made(node: Json) -> str:
    return str(node.get("CreatedAt") or "")


def _changed(node: Json) -> str:
    return str(node.get("UpdatedAt") or "")


def hostname_of(node: Json) -> str:
    """The host name the engine reported."""
    return str((node.get("Description") or {}).get("Hostname") or "")


def state_of(node: Json) -> str:
    """ready, down, unknown or disconnected."""
    return str((node.get("Status") or {}).get("State") or "unknown")


def is_ready(node: Json) -> bool:
    """Whether the node's heartbeats arrive."""
    return state_of(node) == "ready"


def in_raft(node: Json) -> bool:
    """Whether the node is a member of raft."""
    return bool(node.get("ManagerStatus"))


def reachable(node: Json) -> bool:
    """Whether the leader reaches this manager."""
    return (node.get("ManagerStatus") or {}).get("Reachability") == "reachable"


def role_of(node: Json) -> str:
    """The role the swarm wants this node to have."""
    return str(node["Spec"].get("Role") or "worker")


def availability_of(node: Json) -> str:
    """active, pause or drain."""
    return str(node["Spec"].get("Availability") or "active")


def labels_of(node: Json) -> dict[str, str]:
    """The labels that placement constraints see as ``node.labels``."""
    return dict(node["Spec"].get("Labels") or {})


def quorum_of(nodes: Iterable[Json]) -> Quorum:
    """The managers in raft and those of them that are reachable."""
    managers = [node for node in nodes if in_raft(node)]
    return Quorum(len(managers), sum(reachable(node) for node in managers))


def update(engine: EngineApi, node_id: str, change: Callable[[dict[str, Any]], None], deadline: Deadline) -> Json:
    """Read the node, let ``change`` edit its spec, write it back whole if that made a difference; the node as read.

    Conflicts with other writers and elections are waited out. Raises EngineError.
    """

    def once() -> Json:
        node = engine.node(node_id)
        spec = copy.deepcopy(node["Spec"])
        change(spec)
        if spec != node["Spec"]:
            engine.node_update(node_id, node["Version"]["Index"], spec)
        return node

    return persist(once, deadline)


def remove(engine: EngineApi, node_id: str, deadline: Deadline) -> None:
    """Remove a node object; one that is gone already is a success. Raises EngineError, NoManager."""
    try:
        persist(lambda: engine.node_remove(node_id, force=True), deadline)
    except EngineError as error:
        if error.status != 404:
            raise


def unfinished_tasks(engine: EngineApi, node_id: str, deadline: Deadline) -> list[Json]:
    """The tasks that still run, or are about to, on a node."""
    tasks = persist(lambda: engine.tasks({"node": [node_id]}), deadline)
    return [task for task in tasks if (task.get("Status") or {}).get("State") not in ENDED]
