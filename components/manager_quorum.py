"""``ManagerQuorum``: the managers, which join one after the other, and the swarm they keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pulumi

from proxmox_swarm.components.membership import NodeArgs, make_member
from proxmox_swarm.providers.autolock import Autolock
from proxmox_swarm.providers.cluster import Cluster
from proxmox_swarm.providers.cluster_settings import INIT_ONLY, ClusterSettings
from proxmox_swarm.providers.member import Member
from proxmox_swarm.providers.token_rotation import TokenRotation
from proxmox_swarm.settings.model import Settings

NOT_OF_THE_ENGINE = ("undeclared", "autolock", "rotate")


class ManagerQuorum(pulumi.ComponentResource):
    """Finds or initialises the swarm once its managers can be reached, and holds the managers' memberships."""

    cluster: Cluster
    #: unlocks managers that wait for their key: whatever takes a quorum comes after it
    autolock: Autolock
    settings: ClusterSettings
    cluster_id: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        settings: Settings,
        managers: list[dict[str, pulumi.Input[str]]],
        ready: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("swarm:index:ManagerQuorum", name, None, opts)
        wanted = settings.cluster
        self.cluster = Cluster(
            name,
            managers=managers,
            address_pool=list(wanted.address_pool),
            subnet_size=wanted.subnet_size,
            data_path_port=wanted.data_path_port,
            data_path={node.name: at for node in settings.managers if (at := node.data_path_address(wanted.data_path))},
            join_timeout=settings.deadlines.join,
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(ready), protect=settings.proxmox.protect),
        )
        self.cluster_id = self.cluster.cluster_id
        self.autolock = Autolock(
            name,
            managers=managers,
            cluster_id=self.cluster_id,
            enabled=wanted.autolock,
            number=wanted.rotate.unlock_key,
            timeout=settings.deadlines.join,
            opts=pulumi.ResourceOptions(parent=self, deleted_with=self.cluster),
        )
        after_unlock = pulumi.ResourceOptions(parent=self, deleted_with=self.cluster, depends_on=[self.autolock])
        declared = asdict(wanted)
        self.settings = ClusterSettings(
            name,
            managers=managers,
            cluster_id=self.cluster_id,
            fields=_engine_fields(declared),
            init={key: list(v) if isinstance(v := declared[key], tuple) else v for key in INIT_ONLY},
            guards={"fewer_managers": settings.allow_fewer_managers},
            opts=after_unlock,
        )
        for role, number in (("worker", wanted.rotate.worker), ("manager", wanted.rotate.manager)):
            TokenRotation(
                f"{role}-token",
                managers=managers,
                cluster_id=self.cluster_id,
                role=role,
                number=number,
                opts=after_unlock,
            )
        self.register_outputs({"clusterId": self.cluster_id})

    def join(self, args: NodeArgs, after: Sequence[pulumi.Resource]) -> Member:
        """A manager's membership, after the one before it: joins of managers are not safe side by side (measured)."""
        return make_member(args, self, self.cluster, after)


def _engine_fields(declared: dict[str, Any]) -> dict[str, Any]:
    skipped = {*INIT_ONLY, *NOT_OF_THE_ENGINE}
    return {key: value for key, value in declared.items() if key not in skipped and value is not None}
