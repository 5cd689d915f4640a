"""``Undeclared``: the members of the swarm that nobody declared. Reported; removed where the settings say so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, UpdateResult

from proxmox_swarm.providers.base import Props, Provider, say, targets
from proxmox_swarm.providers.lazy import Lazy

if TYPE_CHECKING:
    from proxmox_swarm.swarm import undeclared
else:
    undeclared = Lazy("proxmox_swarm.swarm.undeclared")

INPUTS = ("managers", "cluster_id", "addresses", "members", "policy", "deadlines", "removing")
REMOVE = "remove"


class UndeclaredProvider(Provider):
    """Removes only what an earlier look has found and a preview could name: ``nodes`` of the recorded outputs."""

    watched = ("policy", "removing", "addresses")

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """A change where something is there to be removed, or where the policy is another one."""
        found = super().diff(_id, _olds, _news)
        if found.changes and _news.get("policy") == REMOVE:
            for node in _olds.get("nodes") or []:
                demote = "demote, " if node["role"] == "manager" else ""
                say(node["hostname"], f"{node['address']}, id {node['id']}: nobody declared it: drain, {demote}remove")
        return found

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Look; nothing is removed that no preview has named."""
        return CreateResult("undeclared", {**props, "nodes": _look(props) or []})

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Look again; what was recorded stays where no manager answers."""
        nodes = _look(props)
        if nodes is None:
            nodes = props.get("nodes") or []
        removing = [node["id"] for node in nodes] if props["policy"] == REMOVE else []
        outputs = {**props, "nodes": nodes, "removing": removing}
        return ReadResult(id_, outputs, inputs={key: outputs[key] for key in INPUTS})

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Remove what was recorded, if the policy is to remove, and look again."""
        if _news["policy"] == REMOVE:
            removed = undeclared.remove(
                targets(_news["managers"]),
                _news["cluster_id"],
                [node["id"] for node in _olds.get("nodes") or []],
                _news["addresses"],
                _news["members"],
                drain_timeout=float(_news["deadlines"]["drain"]),
                role_timeout=float(_news["deadlines"]["role"]),
            )
            for name in removed:
                say("removed", name)
        # Members that leave by this very plan are still there.
        leaving = [address for address in _olds["addresses"] if address not in _news["addresses"]]
        return UpdateResult({**_news, "nodes": _look(_news, leaving) or []})


def _look(props: Props, more: Sequence[str] = ()) -> list[dict[str, str]] | None:
    addresses = [*props["addresses"], *more]
    return undeclared.find(targets(props["managers"]), props["cluster_id"], addresses, props["members"])


class Undeclared(Resource, module="swarm", name="Undeclared"):
    """Nodes in the swarm that no setting declares. Output ``nodes``: id, hostname, address and role of each."""

    nodes: pulumi.Output[list[dict[str, str]]]

    def __init__(
        self,
        name: str,
        *,
        managers: list[dict[str, pulumi.Input[str]]],
        cluster_id: pulumi.Input[str],
        addresses: list[str],
        members: list[pulumi.Input[str]],
        policy: str,
        deadlines: dict[str, int],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            UndeclaredProvider(),
            name,
            {
                "managers": managers,
                "cluster_id": cluster_id,
                "addresses": addresses,
                "members": members,
                "policy": policy,
                "deadlines": deadlines,
                "removing": [],
                "nodes": None,
            },
            opts,
        )
