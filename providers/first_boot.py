"""``FirstBoot``: a machine's host key and its frozen first-boot user-data."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, Resource, UpdateResult

from proxmox_swarm.providers.base import Props, Provider, plain
from proxmox_swarm.providers.lazy import Lazy

if TYPE_CHECKING:
    from proxmox_swarm.host import files, first_boot
else:
    files = Lazy("proxmox_swarm.host.files")
    first_boot = Lazy("proxmox_swarm.host.first_boot")

SECRET = ("user_data", "host_private_key")


class FirstBootProvider(Provider):
    """Renders once, and again only when ``generation`` changes. The host key stays, so known_hosts files stay true.

    daemon.json as declared at that moment rides along, so that the engine's first start is the right one already; from then
    on it is ``HostState``'s, and its changes mean nothing here.
    """

    watched = ("generation",)

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Make the host key and render."""
        return CreateResult(props["node"], _render(props, first_boot.new_host_key()))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Render anew for the next machine of this name."""
        return UpdateResult(_render(_news, first_boot.HostKey(_olds["host_private_key"], _olds["host_public_key"])))


def _render(props: Props, key: first_boot.HostKey) -> dict[str, Any]:
    text = first_boot.user_data(
        hostname=props["node"],
        user=props["user"],
        keys=props["keys"],
        host_key=key,
        files={files.DAEMON: files.daemon_text(plain(props["daemon"]))},
    )
    return {
        **props,
        "host_public_key": key.public,
        "host_private_key": key.private,
        "user_data": text,
        "digest": hashlib.sha256(text.encode()).hexdigest()[:12],
    }


class FirstBoot(Resource, module="swarm", name="FirstBoot"):
    """A machine's first boot. Outputs: ``host_public_key``, ``user_data`` (secret), ``digest`` of the user-data."""

    host_public_key: pulumi.Output[str]
    host_private_key: pulumi.Output[str]
    user_data: pulumi.Output[str]
    digest: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        node: str,
        user: str,
        keys: list[str],
        generation: int,
        daemon: dict[str, Any],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            FirstBootProvider(),
            name,
            {
                "node": node,
                "user": user,
                "keys": keys,
                "generation": generation,
                "daemon": daemon,
                "host_public_key": None,
                "host_private_key": None,
                "user_data": None,
                "digest": None,
            },
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(additional_secret_outputs=list(SECRET))),
        )
