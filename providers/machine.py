"""A node's machine, as its resources' properties describe it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxmox_swarm.providers.base import Props
from proxmox_swarm.providers.lazy import Lazy

if TYPE_CHECKING:
    from proxmox_swarm.proxmox import power
else:
    power = Lazy("proxmox_swarm.proxmox.power")


def power_cycle(props: Props) -> None:
    """Off and on, within the boot deadline each. Raises ProxmoxError."""
    api = props["proxmox"]
    power.power_cycle(
        props["node"],
        int(api["vm_id"]),
        api["endpoints"],
        insecure=bool(api["insecure"]),
        timeout=float(props["deadlines"]["boot"]),
    )
