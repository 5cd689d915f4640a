"""``CaRotation``: the swarm's root CA, rotated once for each higher number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, ReadResult, Resource, UpdateResult

from proxmox_swarm.host.errors import Failure
from proxmox_swarm.providers.base import Props, say, targets
from proxmox_swarm.providers.generation import Rotating, rises
from proxmox_swarm.providers.lazy import Lazy

if TYPE_CHECKING:
    from proxmox_swarm.swarm import rotation
else:
    rotation = Lazy("proxmox_swarm.swarm.rotation")

#: How long a refresh waits for an election to end before it keeps the digest that was last recorded.
PATIENCE = 5.0


class CaRotationProvider(Rotating):
    """Rotates, and waits until every node has a certificate of the new CA."""

    def setting(self, news: Props) -> str:
        """The key in settings that the number comes from."""
        return "cluster.rotate.ca"

    def words(self, olds: Props, news: Props) -> str:
        """What a change means, for a person who reads a preview."""
        asked = rises(olds, news)
        return (
            "new root CA: every node gets a new certificate, both join tokens change; no node may be down"
            if asked
            else ""
        )

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Remember the number and the CA that is there. Nothing is rotated."""
        digest = rotation.ca_digest(targets(props["managers"]), props["cluster_id"])
        return CreateResult("ca", _outputs(props, digest))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """The CA that is there; the recorded one where no manager answers."""
        try:
            digest = rotation.ca_digest(targets(props["managers"]), props["cluster_id"], patience=PATIENCE)
        except Failure as error:
            say("swarm", f"root CA not read: {str(error).splitlines()[0]}")
            digest = props["ca_digest"]
        return ReadResult(id_, _outputs(props, digest))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Rotate once, however much higher the number is; a rotation that is under way is taken to its end."""
        managers, cluster_id = targets(_news["managers"]), _news["cluster_id"]
        if not rises(_olds, _news):
            return UpdateResult(_outputs(_news, rotation.ca_digest(managers, cluster_id)))
        digest = rotation.rotate_ca(managers, cluster_id, timeout=float(_news["timeout"]), told=say)
        say("swarm", f"root CA rotated, both join tokens with it: {digest[:8]}…")
        return UpdateResult(_outputs(_news, digest))


def _outputs(props: Props, digest: str) -> dict[str, Any]:
    return {**props, "ca_digest": digest}


class CaRotation(Resource, module="swarm", name="CaRotation"):
    """The rotations of the root CA. Output: ``ca_digest``, the digest that join tokens carry."""

    ca_digest: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        managers: list[dict[str, pulumi.Input[str]]],
        cluster_id: pulumi.Input[str],
        number: int,
        timeout: int,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            CaRotationProvider(),
            name,
            {
                "managers": managers,
                "cluster_id": cluster_id,
                "generation": number,
                "timeout": timeout,
                "ca_digest": None,
            },
            opts,
        )
