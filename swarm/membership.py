"""A member's whole life: join or adopt, observe, converge, remove."""

from __future__ import annotations

from collections.abc import Sequence

from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm.access import SSH, Access
from proxmox_swarm.swarm.join import join_or_adopt
from proxmox_swarm.swarm.member import MemberSpec, MemberState
from proxmox_swarm.swarm.removal import remove
from proxmox_swarm.swarm.verdict import observe

__all__ = ["MemberSpec", "MemberState", "converge", "join_or_adopt", "observe", "remove"]


def converge(
    spec: MemberSpec,
    managers: Sequence[Target],
    cluster_id: str,
    old: MemberState,
    *,
    join_timeout: float,
    role_timeout: float,
    retiring: Sequence[Target] = (),
    access: Access = SSH,
) -> MemberState:
    """Bring a member to what is declared, in place and whatever became of it; ``old`` is what was recorded.

    A node that left, was removed or rebuilt joins again, and its former object goes. Raises as :func:`join_or_adopt` does;
    a host that does not answer is an error here.
    """
    return join_or_adopt(
        spec,
        managers,
        cluster_id,
        join_timeout=join_timeout,
        role_timeout=role_timeout,
        former_id=old.node_id,
        retiring=retiring,
        access=access,
    )
