"""``WorkerPool``: the workers of one pool, which join side by side once the quorum stands."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi

from proxmox_swarm.components.membership import NodeArgs, make_member
from proxmox_swarm.providers.cluster import Cluster
from proxmox_swarm.providers.member import Member


class WorkerPool(pulumi.ComponentResource):
    """Holds the memberships of one pool's workers."""

    def __init__(self, name: str, cluster: Cluster, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("swarm:index:WorkerPool", name, None, opts)
        self._cluster = cluster
        self.register_outputs({})

    def join(self, args: NodeArgs, after: Sequence[pulumi.Resource]) -> Member:
        """A worker's membership."""
        return make_member(args, self, self._cluster, after)
