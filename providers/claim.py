"""``Claim``: before a machine is made, its VM id and its addresses are shown to be free, or ours already.

Where a machine was there before, its claim is its adoption: the machine is compared with what is declared and marked as ours.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, UpdateResult

from proxmox_swarm.providers.base import Props, Provider, plain, say
from proxmox_swarm.providers.lazy import Lazy

if TYPE_CHECKING:
    from proxmox_swarm.proxmox import adoption, client, ownership
else:
    adoption = Lazy("proxmox_swarm.proxmox.adoption")
    client = Lazy("proxmox_swarm.proxmox.client")
    ownership = Lazy("proxmox_swarm.proxmox.ownership")

OURS = "ours"


class ClaimProvider(Provider):
    """Refuses an id or address that somebody else has. The claim, a random word, is what the VM is marked with."""

    watched = ("vm_ids", "addresses", "owner")

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """As everywhere; besides, an adopted machine is let go in one way only, and none of ours is adopted.

        Raises AdoptionError already in preview: what is behind the claim would destroy the machine.
        """
        result = super().diff(_id, _olds, _news)
        if _olds.get("adopted") and not _news.get("adopted"):
            _check_rebuild(_news, plain(_olds.get("disks")) or {})
            return DiffResult(changes=True)
        if _news.get("adopted") and not _olds.get("adopted"):
            raise adoption.AdoptionError(
                f"{_news['node']} has a hostKey, which is for a machine that was there before, and its machine was made "
                "here: take hostKey out, or put its generation back"
            )
        if _news.get("adopted") and any(self._differs(key, _olds, _news) for key in ("vm_ids", "addresses")):
            raise adoption.AdoptionError(
                f"id, networks and addresses of {_news['node']} are those of the machine that was adopted, and cannot "
                "change while it lives: put them back, or raise its generation, which rebuilds it"
            )
        return result

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Claim ids and addresses, or adopt the machine that has them."""
        word = secrets.token_hex(8)
        if props.get("adopted"):
            return CreateResult(props["node"], _adopt(props, word))
        return CreateResult(props["node"], _claim(props, word, held=[]))

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
            elif guest and props.get("adopted") and found.configs.get(vm_id):
                props = {**props, "disks": adoption.own_disks(guest, found.configs[vm_id])}
        return ReadResult(id_, {**props, "owner": owner})

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Claim changed ids and addresses under the same claim."""
        if _olds.get("adopted") and not _news.get("adopted"):
            guest = (found := ownership.inventory(_client(_news))).by_id(int(_olds["vm_ids"][0]))
            _check_rebuild(_news, adoption.own_disks(guest, found.configs[guest.vm_id]) if guest else {})
        claimed = _claim(_news, _olds["claim"], held=_olds["addresses"])
        return UpdateResult({**claimed, "disks": _olds["disks"]} if _news.get("adopted") else claimed)


def _claim(props: Props, claim: str, *, held: list[str]) -> dict[str, Any]:
    marker = _marker(props, claim)
    found = ownership.inventory(_client(props))
    ownership.check_free(found, marker, plain(props["vm_ids"]), props["addresses"], held=held)
    for host, reason in found.away.items():
        say(props["node"], f"{host} {reason}: addresses of the guests there were not compared")
    return {**props, "claim": claim, "marker": str(marker), "owner": OURS}


def _adopt(props: Props, claim: str) -> dict[str, Any]:
    marker = _marker(props, claim)
    declared = plain(props["adopted"])
    wanted = adoption.Wanted(
        vm_id=plain(props["vm_ids"])[0],
        cpu=declared["cpu"],
        memory=declared["memory"],
        tag=declared["tag"],
        nics=tuple(
            adoption.WantedNic(nic["bridge"], nic.get("vlan"), nic["address"], nic.get("mac"))
            for nic in declared["nics"]
        ),
    )
    pve = _client(props)
    disks = adoption.adopt(pve, ownership.inventory(pve), marker, wanted)
    say(props["node"], f"VM {wanted.vm_id} adopted")
    return {**props, "claim": claim, "marker": str(marker), "owner": OURS, "disks": disks}


def _check_rebuild(news: Props, disks: dict[str, str]) -> None:
    node = news["node"]
    if not news.get("rebuilt"):
        raise adoption.AdoptionError(
            f"the machine of {node} was adopted, and without a hostKey it would be rebuilt and all on it lost: put hostKey "
            f"back, or say that it is meant: generation: 2 at {node}"
        )
    adoption.check_rebuild(node, disks, news.get("discard") or [])


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
        adopted: dict[str, Any] | None = None,
        rebuilt: bool = False,
        discard: list[str] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """``adopted`` describes a machine that is there already; ``rebuilt`` and ``discard`` are how it is let go."""
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
                "adopted": adopted,
                "rebuilt": rebuilt or None,
                "discard": discard or None,
                "claim": None,
                "marker": None,
                "owner": OURS,
            },
            opts,
        )
