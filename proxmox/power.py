"""The power of our machines: what Proxmox VE says of it, to tell a node that is off from one that is silent; off and on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxmox_swarm.proxmox.client import Client, ProxmoxError
from proxmox_swarm.proxmox.ownership import Marker


def power_of(machines: Mapping[str, int], endpoints: Sequence[str], *, insecure: bool) -> dict[str, str]:
    """``running``, ``stopped``, ``absent``, or why that is not known, by node; ``machines`` are their VM ids.

    A machine on a host that is away is not shown to be off. Raises nothing.
    """
    try:
        client = Client(endpoints, insecure=insecure)
        client.require_sight_of_all()
        guests = {guest.vm_id: guest for guest in client.guests()}
    except ProxmoxError as error:
        return dict.fromkeys(machines, str(error).partition("\n")[0])
    found: dict[str, str] = {}
    for node, vm_id in machines.items():
        guest = guests.get(vm_id)
        if guest is None:
            found[node] = "absent"
        elif guest.name != node:
            found[node] = f"VM {vm_id} is {guest.name}"
        else:
            found[node] = guest.status if guest.status in ("running", "stopped") else f"{guest.host} does not tell"
    return found


def power_cycle(node: str, vm_id: int, endpoints: Sequence[str], *, insecure: bool, timeout: float) -> None:
    """Switch a node's machine off and on, within ``timeout`` seconds each: what is pending in Proxmox VE is then in force.

    Raises ProxmoxError, also where the VM does not carry our marker for this node.
    """
    client = Client(endpoints, insecure=insecure)
    guest = next((g for g in client.guests() if g.vm_id == vm_id), None)
    if guest is None:
        raise ProxmoxError(f"{node}: VM {vm_id} is not on Proxmox VE any more; run `pulumi refresh`, then `up`")
    marker = Marker.find(str(client.config(guest).get("description", "")))
    if marker is None or marker.node != node:
        raise ProxmoxError(
            f"{node}: {guest} is not its machine: it does not carry our marker. Nothing of it was touched; "
            "run `pulumi refresh`, then `up`"
        )
    client.power_cycle(guest, timeout=timeout)
