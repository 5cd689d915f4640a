"""What Proxmox VE says about the power of our machines, to tell a node that is off from one that does not answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxmox_swarm.proxmox.client import Client, ProxmoxError


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
