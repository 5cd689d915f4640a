"""What of a stack's state is on a host that is gone for good, and the state without it. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from proxmox_swarm.cli.away import PROXMOX, VM, Json, drop_references, host_of, name_of, node_of
from proxmox_swarm.host.target import Target

OURS = "pulumi-python:dynamic/swarm:"
MEMBER = f"{OURS}Member"
#: What stands for a node's machine besides what Proxmox VE has: made anew with the next one.
OF_THE_MACHINE = (f"{OURS}Claim", f"{OURS}HostState", MEMBER)


@dataclass(frozen=True)
class RecordedMember:
    """A membership as recorded, and the way to its node."""

    target: Target
    node_id: str
    cluster_id: str
    role: str


@dataclass(frozen=True)
class Lost:
    """``nodes`` and ``disks``: VM ids by node, of its machine and of its data disk's owner; ``files`` and other rests."""

    nodes: Mapping[str, int]
    disks: Mapping[str, int]
    files: tuple[str, ...]

    @property
    def vm_ids(self) -> set[int]:
        """All VM ids."""
        return {*self.nodes.values(), *self.disks.values()}

    def __bool__(self) -> bool:
        return bool(self.nodes or self.disks or self.files)


def lost_with(state: Json, host: str) -> Lost:
    """What is on a host, what a killed run was making there included."""
    nodes: dict[str, int] = {}
    disks: dict[str, int] = {}
    files = []
    for resource in _there(state, host):
        # A machine that is marked as to be deleted has a successor: the node itself may be elsewhere.
        if resource["type"] != VM or resource.get("delete"):
            files.append(name_of(resource))
            continue
        node = node_of(resource) or name_of(resource)
        (nodes if node == name_of(resource) else disks)[node] = int(resource["inputs"].get("vmId") or 0)
    return Lost(nodes, disks, tuple(dict.fromkeys(files)))


def members(state: Json) -> dict[str, RecordedMember]:
    """Every recorded membership, by node."""
    return {
        str(inputs["node"]): RecordedMember(
            Target(inputs["node"], inputs["address"], inputs["user"], inputs["host_key"]),
            str((resource.get("outputs") or {}).get("node_id") or ""),
            str(inputs["cluster_id"]),
            str(inputs["role"]),
        )
        for resource in state.get("resources") or []
        if resource["type"] == MEMBER and (inputs := resource.get("inputs"))
    }


def forget(state: Json, host: str) -> bool:
    """Take what is on a host out of a state, with what stands for its nodes; whether there was any.

    First boots stay: a node that is made anew elsewhere keeps its SSH host key.
    """
    lost = lost_with(state, host)
    resources: list[Json] = state.get("resources") or []
    kept = [r for r in resources if not _gone(r, host, lost)]
    missing = {r["urn"] for r in resources} - {r["urn"] for r in kept}
    for resource in kept:
        drop_references(resource, missing)
    state["resources"] = kept
    if pending := state.get("pending_operations"):
        state["pending_operations"] = [o for o in pending if not _gone(o["resource"], host, lost)]
    return bool(lost)


def _gone(resource: Json, host: str, lost: Lost) -> bool:
    if resource["type"] in OF_THE_MACHINE:
        return node_of(resource) in lost.nodes
    return resource["type"].startswith(PROXMOX) and host_of(resource) == host


def _there(state: Json, host: str) -> Iterator[Json]:
    recorded = state.get("resources") or []
    pending = [operation["resource"] for operation in state.get("pending_operations") or []]
    return (r for r in [*recorded, *pending] if r["type"].startswith(PROXMOX) and host_of(r) == host)
