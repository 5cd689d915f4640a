"""``Cluster``: the swarm itself. Found where it exists, made where none of the declared managers is in one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, ReadResult, Resource, UpdateResult

from proxmox_swarm.providers.base import Props, Provider, plain, say, targets
from proxmox_swarm.providers.lazy import Lazy

if TYPE_CHECKING:
    from proxmox_swarm.swarm import bootstrap
else:
    bootstrap = Lazy("proxmox_swarm.swarm.bootstrap")


class ClusterProvider(Provider):
    """Adopts or initialises. Ordinary edits of the settings change nothing here."""

    watched = ("managers", "verdict")

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Probe every declared manager; adopt the swarm they agree on, or initialise on the first."""
        facts = bootstrap.find_or_init(
            targets(props["managers"]), _init_options(props), deadline=float(props["join_timeout"])
        )
        say(facts.init_node, f"swarm {facts.cluster_id[:4]} {'initialised' if facts.created else 'adopted'}")
        return CreateResult(facts.cluster_id, _outputs(props, facts.cluster_id, "ok"))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Ask the managers for the swarm they are in. Managers that do not answer are a verdict, never 'gone'.

        Locked ones are no verdict on the swarm: it is ``Autolock``, which comes after it, that unlocks them.
        """
        view = bootstrap.read_cluster(targets(props["managers"]), id_)
        return ReadResult(id_, _outputs(props, id_, "ok" if view.verdict == "locked" else view.verdict))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Remember the managers that are declared now; the swarm must be the same one."""
        view = bootstrap.read_cluster(targets(_news["managers"]), _id)
        view.require()
        return UpdateResult(_outputs(_news, _id, "ok"))


def _init_options(props: Props) -> bootstrap.InitOptions:
    values = plain(props["init"])
    return bootstrap.InitOptions(
        address_pool=tuple(values["address_pool"]),
        subnet_size=values["subnet_size"],
        data_path_port=values["data_path_port"],
        data_path=values.get("data_path") or {},
    )


def _outputs(props: Props, cluster_id: str, verdict: str) -> dict[str, Any]:
    return {**props, "cluster_id": cluster_id, "verdict": verdict}


class Cluster(Resource, module="swarm", name="Cluster"):
    """A swarm. Outputs: ``cluster_id``, ``verdict``. What rotates, such as its CA, is no property of it."""

    cluster_id: pulumi.Output[str]
    verdict: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        managers: list[dict[str, pulumi.Input[str]]],
        address_pool: list[str],
        subnet_size: int,
        data_path_port: int,
        data_path: dict[str, str],
        join_timeout: int,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            ClusterProvider(),
            name,
            {
                "managers": managers,
                "init": {
                    "address_pool": address_pool,
                    "subnet_size": subnet_size,
                    "data_path_port": data_path_port,
                    "data_path": data_path,
                },
                "join_timeout": join_timeout,
                "verdict": "ok",
                "cluster_id": None,
            },
            opts,
        )
