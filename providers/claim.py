"""``Claim``: before a machine is made, its VM id and its addresses are shown to be free, or ours already."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, ReadResult, Resource, UpdateResult

from proxmox_swarm.providers.base import Props, Provider, plain, say
from proxmox_swarm.providers.lazy import Lazy

if TYPE_CHECKING:
    from proxmox_swarm.proxmox import client, ownership
else:
    client = Lazy("proxmox_swarm.proxmox.client")
    ownership = Lazy("proxmox_swarm.proxmox.ownership")

OURS = "ours"


class ClaimProvider(Provider):
    """Refuses an id or address that somebody else has. The claim, a random word, is what the VM is marked with."""

    watched = ("vm_ids", "addresses", "owner")

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Claim ids and addresses."""
        return CreateResult(props["node"], _claim(props, secrets.token_hex(8), held=[]))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Say whose the ids are now: ``ours``, also while they are free, or who took them.

        Where Proxmox VE does not answer, what was last recorded stays.
        """
        marker = _marker(props, props["claim"])
        try:
            found = ownership.inventory(_client(props))
        except client.ProxmoxError as error:
            say(props["node"], f"owner of the VM id not read: {str(error).splitlines()[0]}")
            return ReadResult(id_, dict(props))
        owner = OURS
        for vm_id in plain(props["vm_ids"]):
            guest = found.by_id(vm_id)
            held = found.marker(guest) if guest else None
            # Without its configuration (the host is down) a guest's marker cannot be read: no reason to disown it.
            if guest and found.configs.get(vm_id) and (held is None or held.claim != marker.claim):
                owner = f"VM id {vm_id} is taken by {guest}"
        return ReadResult(id_, {**props, "owner": owner})

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Claim changed ids and addresses under the same claim."""
        return UpdateResult(_claim(_news, _olds["claim"], held=_olds["addresses"]))


def _claim(props: Props, claim: str, *, held: list[str]) -> dict[str, Any]:
    marker = _marker(props, claim)
    found = ownership.inventory(_client(props))
    ownership.check_free(found, marker, plain(props["vm_ids"]), props["addresses"], held=held)
    for host, reason in found.away.items():
        say(props["node"], f"{host} {reason}: addresses of the guests there were not compared")
    return {**props, "claim": claim, "marker": str(marker), "owner": OURS}


def _marker(props: Props, claim: str) -> ownership.Marker:
    return ownership.Marker(project=props["project"], stack=props["stack"], node=props["node"], claim=claim)


def _client(props: Props) -> client.Client:
    return client.Client(props["endpoints"], insecure=bool(props["insecure"]))


class Claim(Resource, module="swarm", name="Claim"):
    """A claim on VM ids and addresses. Outputs: ``marker`` (the VM's description), ``owner``."""

    claim: pulumi.Output[str]
    marker: pulumi.Output[str]
    owner: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        node: str,
        vm_ids: list[int],
        addresses: list[str],
        endpoints: list[str],
        insecure: bool,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            ClaimProvider(),
            name,
            {
                "project": pulumi.get_project(),
                "stack": pulumi.get_stack(),
                "node": node,
                "vm_ids": vm_ids,
                "addresses": addresses,
                "endpoints": endpoints,
                "insecure": insecure,
                "claim": None,
                "marker": None,
                "owner": OURS,
            },
            opts,
        )
