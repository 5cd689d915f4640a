"""``ClusterSettings``: what the swarm as a whole is set to, and the guard of its managers against a whole plan.

Fields that are not declared are left as they are. Members come after it, so that what it refuses has touched none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, ReadResult, Resource, UpdateResult

from proxmox_swarm.providers import wanted
from proxmox_swarm.providers.base import Props, Provider, is_unknown, plain, targets
from proxmox_swarm.providers.lazy import Lazy

if TYPE_CHECKING:
    from proxmox_swarm.swarm import cluster_settings, inventory, plan_guard
else:
    cluster_settings = Lazy("proxmox_swarm.swarm.cluster_settings")
    inventory = Lazy("proxmox_swarm.swarm.inventory")
    plan_guard = Lazy("proxmox_swarm.swarm.plan_guard")

#: What only ``swarm init`` can set, and for each node its join, by the keys that people write below ``cluster``.
INIT_ONLY = {
    "address_pool": "addressPool",
    "subnet_size": "subnetSize",
    "data_path_port": "dataPathPort",
    "data_path": "dataPath",
}


class ClusterSettingsProvider(Provider):
    """Applies the declared fields by reading the whole spec, changing them, and writing it whole."""

    watched = ("fields", "managers")

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Refuse, in preview, what no ``up`` could do: see :func:`_fixed` and :func:`plan_guard.objections`.

        Failures name no property: Pulumi would print the whole of its value before the reason.
        """
        guards = plain(news.get("guards")) or {}
        if managers := _addresses(news):
            wanted.declare(managers, plain(_olds.get("away")) or ())
        reasons = [
            *_fixed(plain(_olds.get("init")) or {}, plain(news.get("init"))),
            *plan_guard.objections(_addresses(_olds), managers, fewer=guards.get("fewer_managers", False)),
        ]
        return CheckResult(news, [CheckFailure("", reason) for reason in reasons])

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Apply the declared fields."""
        return CreateResult("settings", _apply(props))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Read the declared fields as the swarm has them; the recorded ones where no manager answers.

        The managers that are out of reach are recorded as ``away``, for what a preview says of the quorum.
        """
        managers, cluster_id = targets(props["managers"]), props["cluster_id"]
        actual = cluster_settings.observe(managers, cluster_id, plain(props["fields"]))
        outputs = {key: value for key, value in props.items() if key != "away"}
        if actual is not None:
            outputs["fields"] = actual
            if away := inventory.out_of_reach(managers, cluster_id):
                outputs["away"] = away
        return ReadResult(id_, outputs, inputs=outputs)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Apply the declared fields."""
        return UpdateResult(_apply(_news))


def _fixed(old: dict[str, Any], new: Any) -> Iterator[str]:
    """What only ``swarm init`` can set and would have to change. What is not known yet is no reason."""
    if not isinstance(new, dict):  # not known yet
        return
    for key, name in INIT_ONLY.items():
        if key in old and not is_unknown(new.get(key)) and old[key] != new.get(key):
            got = "a node gets it when it joins" if key == "data_path" else "a swarm gets it when it is initialised"
            yield (
                f"cluster.{name} is {old[key] or 'not said'} and cannot become {new.get(key) or 'not said'}: {got} and "
                "keeps it. Put the old value back, or build a new cluster and move the stacks over."
            )


def _addresses(props: Props) -> dict[str, str]:
    """The managers' addresses by name; they come from settings and are always known."""
    managers = props.get("managers")
    return {manager["node"]: manager["address"] for manager in managers} if isinstance(managers, list) else {}


def _apply(props: Props) -> dict[str, Any]:
    fields = cluster_settings.apply(targets(props["managers"]), props["cluster_id"], plain(props["fields"]))
    return {**props, "fields": fields}


class ClusterSettings(Resource, module="swarm", name="ClusterSettings"):
    """Swarm-wide settings, by the names of settings/model.py."""

    def __init__(
        self,
        name: str,
        *,
        managers: list[dict[str, pulumi.Input[str]]],
        cluster_id: pulumi.Input[str],
        fields: dict[str, Any],
        init: dict[str, Any],
        guards: dict[str, bool],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            ClusterSettingsProvider(),
            name,
            {"managers": managers, "cluster_id": cluster_id, "fields": fields, "init": init, "guards": guards},
            opts,
        )
