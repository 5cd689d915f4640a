"""``HostState``: what a running node's operating system and engine are set to, day two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, ReadResult, Resource, UpdateResult

from proxmox_swarm.host.errors import DiskAbsent, HostError
from proxmox_swarm.host.target import Target
from proxmox_swarm.providers import machine, wanted
from proxmox_swarm.providers.base import Props, Provider, plain, say, target, targets
from proxmox_swarm.providers.lazy import Lazy

if TYPE_CHECKING:
    from proxmox_swarm.host import connection, data_disk, docker_install
    from proxmox_swarm.host import state as host_state
    from proxmox_swarm.host.connection import Connection
    from proxmox_swarm.swarm import maintenance
else:
    connection = Lazy("proxmox_swarm.host.connection")
    data_disk = Lazy("proxmox_swarm.host.data_disk")
    docker_install = Lazy("proxmox_swarm.host.docker_install")
    host_state = Lazy("proxmox_swarm.host.state")
    maintenance = Lazy("proxmox_swarm.swarm.maintenance")

INPUTS = (
    "node",
    "address",
    "user",
    "host_key",
    "managers",
    "machine",
    "wanted",
    "disk",
    "docker",
    "deadlines",
    "proxmox",
    "adopted",
)
CONNECT_TIMEOUT = 15.0
#: A disk that can be added to a running machine is there at once.
HOT_PLUG = 5.0
DISK = 30.0


class HostStateProvider(Provider):
    """Files and services owned by name. Nothing here ever replaces a machine."""

    watched = ("wanted", "disk", "machine")
    replacing = ("machine",)

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Wait until the machine can be logged in to, and apply; dockerd of a machine that was there before is left alone.

        What it is set to otherwise than declared is recorded, and so is in the next preview.
        """
        connection.wait_for_ssh(target(props), float(props["deadlines"]["boot"]))
        return CreateResult(props["node"], _apply(props, first=True))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """The actual values of what is declared. A host that does not answer keeps what was last recorded."""
        try:
            with connection.connect(target(props), CONNECT_TIMEOUT) as ssh:
                actual = host_state.observe(ssh, _spec({**props, "wanted": props.get("declared") or props["wanted"]}))
        except HostError as error:
            say(props["node"], f"host settings not read: {str(error).splitlines()[0]}")
            actual = plain(props["wanted"])
        outputs = {**props, "wanted": actual}
        return ReadResult(id_, outputs, inputs={key: outputs[key] for key in INPUTS if key in outputs})

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Apply what changed. Where dockerd must restart, the node is drained for it and activated again."""
        former = (plain(_olds.get("disk")) or {}).get("mount")
        leaving = wanted.leaving(_olds.get("managers") or [])
        return UpdateResult(_apply(_news, former_mount=former, leaving=leaving))


def _apply(
    props: Props, *, first: bool = False, former_mount: str | None = None, leaving: Sequence[Target] = ()
) -> dict[str, Any]:
    """The data disk, names and apt's cache first, then the engine if there is none, which starts with its daemon.json.

    ``leaving`` are managers that are to be none any more.
    """
    address = target(props)
    disk = plain(props.get("disk"))

    def install() -> None:
        say(props["node"], "installing Docker")
        docker_install.install(ssh, plain(props.get("docker")), timeout=float(props["deadlines"]["boot"]))

    with connection.connect(address, CONNECT_TIMEOUT) as ssh:
        if former_mount and former_mount != (disk or {}).get("mount"):
            data_disk.release(ssh, former_mount)
        if disk:
            _mount(ssh, props, disk, leaving, patience=DISK if first else HOT_PLUG)
        if first and props.get("adopted"):
            actual = host_state.adopt(ssh, _spec(props), install=install)
        else:
            actual = host_state.apply(
                ssh,
                _spec(props),
                install=install,
                first=first,
                around_restart=lambda restart: _with_node_out(props, restart, leaving),
            )
    left = props.get("adopted") and plain(actual) != plain(props["wanted"])
    say(props["node"], "left as it is: what differs is in the next preview" if left else "host settings applied")
    outputs = {**props, "wanted": actual}
    # What was found may lack keys that are declared, and only those are looked at.
    return {**outputs, "declared": props["wanted"]} if props.get("adopted") else outputs


def _mount(ssh: Connection, props: Props, disk: Props, leaving: Sequence[Target], *, patience: float) -> None:
    """Mount the data disk. What it gets or gains while it runs, the machine may show at its next start: then that is now."""
    try:
        data_disk.ensure(ssh, disk["serial"], disk["mount"], disk["size"], timeout=patience)
    except DiskAbsent:
        if patience == DISK:
            raise
        say(props["node"], "the data disk shows after a power cycle: drain, off, on, activate")
        _with_node_out(props, lambda: machine.power_cycle(props), leaving)
        connection.wait_for_ssh(target(props), float(props["deadlines"]["boot"]))
        data_disk.ensure(ssh, disk["serial"], disk["mount"], disk["size"], timeout=DISK)


def _with_node_out(props: Props, action: Callable[[], None], leaving: Sequence[Target]) -> None:
    """What stops the engine is done with the node drained."""
    maintenance.restart_engine(
        target(props),
        targets(props["managers"]),
        action,
        drain_timeout=float(props["deadlines"]["drain"]),
        back_timeout=float(props["deadlines"]["boot"]),
        retiring=leaving,
    )


def _spec(props: Props) -> host_state.HostSpec:
    values = plain(props["wanted"])
    return host_state.HostSpec(
        daemon=values.get("daemon") or {},
        dns_servers=tuple(values.get("dns_servers") or ()),
        dns_search=tuple(values.get("dns_search") or ()),
        apt_cache=values.get("apt_cache"),
        keep=bool(props.get("adopted")),
    )


class HostState(Resource, module="swarm", name="HostState"):
    """A node's day-two settings. ``wanted`` holds what was found after a refresh, so that drift shows by field."""

    def __init__(
        self,
        name: str,
        *,
        node: str,
        address: str,
        user: str,
        host_key: pulumi.Input[str],
        managers: list[dict[str, pulumi.Input[str]]],
        machine: pulumi.Input[str],
        wanted: dict[str, Any],
        disk: dict[str, Any] | None,
        docker: str | None,
        deadlines: dict[str, int],
        proxmox: dict[str, Any],
        adopted: bool = False,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            HostStateProvider(),
            name,
            {
                "node": node,
                "address": address,
                "user": user,
                "host_key": host_key,
                "managers": managers,
                "machine": machine,
                "wanted": wanted,
                "disk": disk,
                "docker": docker,
                "deadlines": deadlines,
                "proxmox": proxmox,
                "adopted": adopted or None,
            },
            opts,
        )
