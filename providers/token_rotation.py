"""``TokenRotation``: the join token of one role, rotated once for each higher number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, Resource, UpdateResult

from proxmox_swarm.providers.base import Props, say, targets
from proxmox_swarm.providers.generation import Rotating, rises
from proxmox_swarm.providers.lazy import Lazy

if TYPE_CHECKING:
    from proxmox_swarm.swarm import rotation
else:
    rotation = Lazy("proxmox_swarm.swarm.rotation")


class TokenRotationProvider(Rotating):
    """Rotates. No token, and nothing made from one, is kept: whoever joins reads it from a manager at that moment."""

    def setting(self, news: Props) -> str:
        """The key in settings that the number comes from."""
        return f"cluster.rotate.{news.get('role')}"

    def words(self, olds: Props, news: Props) -> str:
        """What a change means, for a person who reads a preview."""
        return f"new join token for {news['role']}s; the old one is refused from then on" if rises(olds, news) else ""

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Remember the number. Nothing is rotated: the swarm's tokens are new, or somebody's who was here before us."""
        return CreateResult(props["role"], dict(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Rotate once, however much higher the number is."""
        if rises(_olds, _news):
            rotation.rotate_token(targets(_news["managers"]), _news["cluster_id"], _news["role"])
            say("swarm", f"join token of {_news['role']}s rotated")
        return UpdateResult(dict(_news))


class TokenRotation(Resource, module="swarm", name="TokenRotation"):
    """The rotations of one role's join token. Members show no change when it rotates."""

    def __init__(
        self,
        name: str,
        *,
        managers: list[dict[str, pulumi.Input[str]]],
        cluster_id: pulumi.Input[str],
        role: str,
        number: int,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            TokenRotationProvider(),
            name,
            {"managers": managers, "cluster_id": cluster_id, "role": role, "generation": number},
            opts,
        )
