"""``FirstBoot``: a machine's host key and its frozen first-boot user-data."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, Resource, UpdateResult

from proxmox_swarm.host.errors import Unreachable
from proxmox_swarm.providers.base import Props, Provider, plain, target
from proxmox_swarm.providers.lazy import Lazy

if TYPE_CHECKING:
    from proxmox_swarm.host import connection, files, first_boot
else:
    connection = Lazy("proxmox_swarm.host.connection")
    files = Lazy("proxmox_swarm.host.files")
    first_boot = Lazy("proxmox_swarm.host.first_boot")

CONNECT_TIMEOUT = 15.0
SECRET = ("user_data", "host_private_key")


class FirstBootProvider(Provider):
    """Renders once, and again only when ``generation`` changes. The host key stays, so known_hosts files stay true.

    daemon.json as declared at that moment rides along, so that the engine's first start is the right one already; from then
    on it is ``HostState``'s, and its changes mean nothing here.
    """

    watched = ("generation",)

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Make the host key, or keep that of an adopted machine that is being rebuilt, and render."""
        key = _kept(props) if props.get("former") else first_boot.new_host_key()
        return CreateResult(props["node"], _render(props, key))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Render anew for the next machine of this name."""
        return UpdateResult(_render(_news, first_boot.HostKey(_olds["host_private_key"], _olds["host_public_key"])))


def _kept(props: Props) -> first_boot.HostKey:
    former = target(props["former"])
    try:
        with connection.connect(former, CONNECT_TIMEOUT) as ssh:
            return first_boot.kept_host_key(ssh)
    except Unreachable as error:
        raise Unreachable(
            "reading the host key that its rebuild is to keep",
            where=str(former),
            came_back=error.came_back,
            do_now="Start the machine; or take hostKey out of this node's settings, then it gets a new host key.",
        ) from error


def _render(props: Props, key: first_boot.HostKey) -> dict[str, Any]:
    text = first_boot.user_data(
        hostname=props["node"],
        generation=int(props["generation"]),
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
        former: dict[str, Any] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """``former`` is how to log in to an adopted machine whose host key this one keeps."""
        super().__init__(
            FirstBootProvider(),
            name,
            {
                "node": node,
                "user": user,
                "keys": keys,
                "generation": generation,
                "daemon": daemon,
                "former": former,
                "host_public_key": None,
                "host_private_key": None,
                "user_data": None,
                "digest": None,
            },
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(additional_secret_outputs=list(SECRET))),
        )
