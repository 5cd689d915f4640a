"""``proxmox-swarm start``: the machines of nodes that are off, by Proxmox VE's own API.

``up`` starts them too, but asks the managers first, and does nothing where those have no quorum because they are off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.stack_settings import read_settings
from proxmox_swarm.proxmox.client import Client, Guest, ProxmoxError
from proxmox_swarm.settings import Settings


def start(stack: str, project: Path, names: Sequence[str], say: Callable[[str], None]) -> None:
    """Start the machines of declared nodes; one that runs is left alone. Raises CommandError, ProxmoxError."""
    settings = read_settings(project, stack)
    unknown = [name for name in names if name not in settings.nodes]
    if unknown:
        known = ", ".join(settings.nodes)
        raise CommandError(f"stack {stack} declares no node {', '.join(unknown)}; it has: {known}")
    client = Client(settings.proxmox.endpoints, insecure=settings.proxmox.insecure)
    guests = {guest.vm_id: guest for guest in client.guests()}
    failed: list[str] = []
    for name in names:
        try:
            guest = _ours(settings, name, guests.get(settings.nodes[name].vm_id))
            if guest.status == "running":
                say(f"{name}: runs already ({guest})")
                continue
            client.power(guest, "start", timeout=settings.deadlines.boot)
            say(f"{name}: started ({guest})")
        except (CommandError, ProxmoxError) as error:  # one that cannot be started keeps no other from it
            failed.append(str(error))
    if failed:
        raise CommandError("not all machines were started", "\n".join(failed))


def _ours(settings: Settings, name: str, guest: Guest | None) -> Guest:
    """The node's own machine and nobody else's."""
    vm_id = settings.nodes[name].vm_id
    if guest is None:
        raise CommandError(f"{name}: Proxmox VE has no machine {vm_id}; `up` makes it")
    if guest.name != name or settings.marker not in guest.tags:
        raise CommandError(f"{name}: {guest} is not this stack's, it has not the tag {settings.marker}")
    return guest
