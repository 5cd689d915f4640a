"""The address that a member advertises, where the others look for it: the declared one, or it is no member of ours."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm import admission, nodes
from proxmox_swarm.swarm.access import Access
from proxmox_swarm.swarm.errors import Failure, JoinFailed
from proxmox_swarm.swarm.local import LocalSwarm
from proxmox_swarm.swarm.managers import Manager
from proxmox_swarm.swarm.member import MemberSpec
from proxmox_swarm.swarm.removal import drop_node


def as_declared(spec: MemberSpec, local: LocalSwarm) -> bool:
    """Whether the engine advertises the declared address.

    One whose machine has not the address that it was told to advertise takes one that it finds, and says nothing.
    """
    return local.node_address == spec.target.address


def refuse_member(spec: MemberSpec, local: LocalSwarm) -> JoinFailed:
    """The error for a member that was there before. It is left as it is: services may run on it."""
    if spec.adopted:
        do_now = "Put the network that the swarm runs over first in this node's networks; nothing of it was changed."
    else:
        demoted = f"`docker node demote {local.node_id}` and " if local.control else ""
        do_now = (
            f"Check that the machine has the declared address; {demoted}`docker node rm --force {local.node_id}` on another "
            "manager, then `pulumi up --refresh`: it joins anew. Nothing of it was changed."
        )
    return _refused("adopting a member of the swarm", spec, local, do_now)


def undo_join(
    access: Access,
    spec: MemberSpec,
    manager: Manager,
    others: Sequence[Target],
    cluster_id: str,
    local: LocalSwarm,
    timeout: float,
) -> JoinFailed:
    """Undo a join of this moment; the error for it, which says whether that worked. ``timeout``: of a demotion, in seconds.

    Why it is refused is the news, not that it cannot be undone: what stays a member is refused by the next run, too.
    """
    undone = False
    with suppress(Failure):
        node = nodes.get(manager.engine, local.node_id, Deadline.after(timeout, access.clock))
        if node is not None:
            drop_node(access, others, node, cluster_id, timeout, surely_dead=False)
        admission.leave(access.engine(spec.target), spec.target, access.clock)
        undone = True
    left = "the join was undone" if undone else f"it is still a member, node {local.node_id}, and drained"
    return _refused(
        "joining the swarm", spec, local, f"Check that the machine has that address, then run again: {left}."
    )


def _refused(what: str, spec: MemberSpec, local: LocalSwarm, do_now: str) -> JoinFailed:
    came_back = f"its engine advertises {local.node_address or 'nothing'} instead of {spec.target.address}"
    return JoinFailed(what, where=str(spec.target), came_back=came_back, do_now=do_now)
