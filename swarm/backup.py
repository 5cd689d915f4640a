"""A backup of raft's state, taken from a manager that the quorum can spare for a moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm import nodes
from proxmox_swarm.swarm.access import SSH, Access
from proxmox_swarm.swarm.backup_file import Manifest
from proxmox_swarm.swarm.engine import EngineApi, Json
from proxmox_swarm.swarm.errors import QuorumAtRisk, SwarmError
from proxmox_swarm.swarm.maintenance import with_node_out
from proxmox_swarm.swarm.managers import find_manager
from proxmox_swarm.swarm.quorum import can_pause
from proxmox_swarm.swarm.retry import persist
from proxmox_swarm.swarm.state_files import SSH_FILES, Packed, StateFiles

#: How long an election is waited for before the managers count as unable to answer.
ELECTION = 30.0
KINDS = ("services", "networks", "secrets", "configs")


@dataclass(frozen=True)
class Backup:
    """What was taken, and how long dockerd was stopped for it, in seconds."""

    manifest: Manifest
    content: bytes = field(repr=False)
    down: float


def take(
    managers: Sequence[Target],
    cluster_id: str,
    *,
    node: str = "",
    stop_decisions: bool = False,
    drain_timeout: float,
    back_timeout: float,
    access: Access = SSH,
    files: StateFiles = SSH_FILES,
) -> Backup:
    """Pack the swarm folder of one manager, with dockerd stopped there, and wait until it is back as it was.

    It is ``node`` (a declared manager's name), else one that is not the leader; drained meanwhile, under the cluster's lock,
    and only where the others keep a majority. One or two managers have none to spare: ``stop_decisions`` says that the swarm
    may be without decisions for that while. Raises QuorumAtRisk, NoManager, DrainTimeout, SwarmError, HostError.
    """
    limit = Deadline.after(ELECTION, access.clock)
    engine = find_manager(access, managers, cluster_id, limit).engine
    target, found = _choose(managers, persist(engine.nodes, limit), node, stop_decisions=stop_decisions)
    contents = count(engine, limit)
    packed: list[Packed] = []

    def pack() -> None:
        packed.append(files.save(target, files.look(target).root))

    with_node_out(
        target,
        managers,
        cluster_id,
        pack,
        drain_timeout=drain_timeout,
        back_timeout=back_timeout,
        access=access,
    )
    content = packed[0]
    if content.position is None or content.position.node_id != found["ID"]:
        raise SwarmError(
            "packing the raft state",
            where=str(target),
            came_back=f"what is on its disk is not that of node {found['ID']}",
            do_now="Run `up` with a refresh, then take the backup again.",
        )
    return Backup(describe(target, cluster_id, content, found, contents), content.data, content.down)


def describe(target: Target, cluster_id: str, packed: Packed, node: Json, contents: dict[str, int]) -> Manifest:
    """The manifest of a backup. ``node`` is the node's object, ``{}`` where no manager can be asked for it."""
    engine = (node.get("Description") or {}).get("Engine") or {}
    return Manifest(
        cluster_id=cluster_id,
        node=target.node,
        address=target.address,
        node_id=packed.position.node_id if packed.position else "",
        engine=str(engine.get("EngineVersion") or ""),
        taken=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=packed.position.commit if packed.position else 0,
        autolock=packed.locked,
        contents=contents,
        sha256=packed.sha256,
    )


def count(engine: EngineApi, limit: Deadline) -> dict[str, int]:
    """How much of everything the swarm has. Raises EngineError."""
    found = {kind: persist(lambda kind=kind: engine.listing(kind), limit) for kind in KINDS}  # type: ignore[misc]
    counts = {kind: len(listed) for kind, listed in found.items()}
    counts["networks"] = sum(network.get("Scope") == "swarm" for network in found["networks"])
    return {**counts, "nodes": len(persist(engine.nodes, limit))}


def _choose(
    managers: Sequence[Target], everyone: Sequence[Json], wanted: str, *, stop_decisions: bool
) -> tuple[Target, Json]:
    """The manager to take it from: one whose absence moves the least."""
    quorum = nodes.quorum_of(everyone)
    at = {target.address: target for target in managers}
    usable = [n for n in everyone if nodes.reachable(n) and nodes.address_of(n) in at]
    if quorum.managers <= 2 and not stop_decisions:
        raise QuorumAtRisk(
            "taking a backup",
            came_back=f"{quorum}: the swarm takes no decisions while one of them is stopped for it",
            do_now="Its containers run on meanwhile, for some seconds. If that is all right: --stop-decisions.",
        )
    if quorum.managers > 2:  # the leader's absence costs an election
        usable = [n for n in usable if not n["ManagerStatus"].get("Leader")]
    usable = [n for n in usable if not wanted or at[nodes.address_of(n)].node == wanted]
    usable.sort(key=lambda n: (nodes.availability_of(n) != "drain", bool(n["ManagerStatus"].get("Leader"))))
    if not usable:
        raise QuorumAtRisk(
            "taking a backup",
            came_back=f"{wanted or 'no declared manager'} is a reachable manager besides the leader ({quorum})"
            if not wanted
            else f"{wanted} is the leader, or no reachable manager ({quorum})",
            do_now="Name another one, or none." if wanted else "Bring the other managers back first.",
        )
    reason = can_pause(quorum, reachable=True)
    if reason is not None:
        raise QuorumAtRisk(
            "taking a backup", came_back=reason, do_now="Bring the other managers back first: nothing was changed."
        )
    return at[nodes.address_of(usable[0])], usable[0]
