"""``ClusterSettings``: what the swarm as a whole is set to. Fields that are not declared are left as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, ReadResult, Resource, UpdateResult

from proxmox_swarm.providers.base import Props, Provider, is_unknown, plain, targets
from proxmox_swarm.providers.lazy import Lazy

if TYPE_CHECKING:
    from proxmox_swarm.swarm import cluster_settings
else:
    cluster_settings = Lazy("proxmox_swarm.swarm.cluster_settings")

INIT_ONLY = ("address_pool", "subnet_size", "data_path_port")


class ClusterSettingsProvider(Provider):
    """Applies the declared fields by reading the whole spec, changing them, and writing it whole."""

    watched = ("fields",)

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Refuse, in preview, to change what only ``swarm init`` can set."""
        failures: list[CheckFailure] = []
        old = plain(_olds.get("init")) or {}
        new = plain(news.get("init"))
        if not isinstance(new, dict):  # not known yet
            return CheckResult(news, failures)
        for key in INIT_ONLY:
            if key in old and not is_unknown(new.get(key)) and old[key] != new.get(key):
                failures.append(
                    CheckFailure(
                        f"init.{key}",
                        f"is {old[key]} and cannot become {new.get(key)}: a swarm gets it when it is initialised and "
                        "keeps it. Put the old value back, or build a new cluster and move the stacks over.",
                    )
                )
        return CheckResult(news, failures)

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Apply the declared fields."""
        return CreateResult("settings", _apply(props))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Read the declared fields as the swarm has them; the recorded ones where no manager answers."""
        actual = cluster_settings.observe(targets(props["managers"]), props["cluster_id"], plain(props["fields"]))
        outputs = dict(props) if actual is None else {**props, "fields": actual}
        return ReadResult(id_, outputs, inputs=outputs)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Apply the declared fields."""
        return UpdateResult(_apply(_news))


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
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            ClusterSettingsProvider(),
            name,
            {"managers": managers, "cluster_id": cluster_id, "fields": fields, "init": init},
            opts,
        )
