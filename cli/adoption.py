"""``proxmox-swarm adoption``: look at a swarm that was made by hand and print the settings that describe it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import yaml

from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.found_settings import Declared, Machine, Seen, declare, lines, name_of
from proxmox_swarm.cli.known_hosts import known_hosts_file
from proxmox_swarm.cli.stack_settings import PROJECT
from proxmox_swarm.host import files
from proxmox_swarm.host.connection import connect
from proxmox_swarm.host.errors import Failure
from proxmox_swarm.host.first_boot import HOST_KEY
from proxmox_swarm.host.pinned import PREFERRED, pinned_key
from proxmox_swarm.host.target import Target
from proxmox_swarm.proxmox import adoption, ownership
from proxmox_swarm.proxmox.client import Client, Guest
from proxmox_swarm.proxmox.ownership import Inventory
from proxmox_swarm.settings import SettingsError, read_stack_file
from proxmox_swarm.settings.includes import with_includes
from proxmox_swarm.settings.parse import Draft, parse
from proxmox_swarm.swarm.found import FoundNode, read_swarm
from proxmox_swarm.swarm.parallel import all_answers

NEEDED = ("proxmox", "networks", "access")
TIMEOUT = 15.0


def show(stack: str, project: Path, address: str, say: Callable[[str], None]) -> bool:
    """Print what to declare of the swarm whose manager is at ``address``; whether nothing has to be seen to first.

    Of the stack's file only ``proxmox``, ``networks`` and ``access`` are read. Raises CommandError, ProxmoxError, Failure.
    """
    draft = _draft(stack, project)
    if draft.proxmox is None or draft.access is None:
        raise AssertionError("checked by _draft")
    user = draft.access.user
    swarm = read_swarm(_pinned(address, address, user))
    client = Client(draft.proxmox.endpoints, insecure=draft.proxmox.insecure)
    guests = ownership.inventory(client)

    def look(node: FoundNode) -> Seen:
        seen = _host(node, user)
        guest = _vm(guests, node)
        if guest is None:
            return seen
        return replace(seen, machine=Machine(guest, guests.configs[guest.vm_id], client.addresses(guest)))

    seen = all_answers(look, swarm.nodes)
    found = [declare(one, draft.networks, draft.proxmox.hosts) for one in seen]
    say(f"# swarm {swarm.cluster_id}, {len(found)} nodes. For Pulumi.{stack}.yaml, under config:")
    for line in lines(swarm, found, [one.daemon for one in seen if not one.trouble], draft.networks):
        say(line)
    notes = [(entry.name, note) for entry in found for note in _notes(client, guests, entry)]
    if notes:
        say("# To be seen to before `pulumi up`:")
    for name, note in notes:
        say(f"#   {name}: {note}")
    return not notes


def _draft(stack: str, project: Path) -> Draft:
    file = project / f"Pulumi.{stack}.yaml"
    if not file.exists():
        raise CommandError(f"there is no {file.name} in {project}: write proxmox, networks and access there first")
    try:
        raw = with_includes(read_stack_file(file, PROJECT), project=PROJECT, stack=stack, base=project)
    except (SettingsError, yaml.YAMLError, ValueError) as error:
        raise CommandError(f"{file.name} has settings that cannot be used", str(error)) from None
    draft = parse(raw)
    problems = [problem for problem in draft.problems if problem.path[0] in NEEDED]
    if problems or not draft.networks:
        text = "\n".join(problem.line(PROJECT) for problem in problems)
        raise CommandError(f"{file.name} has to say {', '.join(NEEDED)} before a cluster can be looked for", text)
    return draft


def _pinned(name: str, address: str, user: str) -> Target:
    file = known_hosts_file()
    key = pinned_key(file, address)
    if key is None:
        raise CommandError(
            f"the host key of {name} ({address}) is not known: log in to it once with ssh and compare the key it shows with "
            f"the machine's own, so that it stands in {file}"
        )
    return Target(name, address, user, key)


def _host(node: FoundNode, user: str) -> Seen:
    try:
        target = _pinned(name_of(node), node.address, user)
        with connect(target, TIMEOUT) as ssh:
            public = (ssh.read_file(f"{HOST_KEY}.pub") or b"").decode()
            daemon = files.read_daemon((ssh.read_file(files.DAEMON) or b"").decode(errors="replace"))
    except (CommandError, Failure) as error:
        return Seen(node, trouble=str(error).partition("\n")[0])
    key = " ".join(public.split()[:2])
    if not key.startswith(PREFERRED):
        return Seen(node, trouble=f"it has no host key of type ssh-ed25519 at {HOST_KEY}.pub (ssh-keygen -A makes one)")
    return Seen(node, host_key=key, daemon=daemon if isinstance(daemon, Mapping) else {})


def _vm(guests: Inventory, node: FoundNode) -> Guest | None:
    """A node's VM: by its address, else by its name."""
    vms = [guest for guest in guests.guests if guest.kind == "qemu"]
    by_address = guests.by_address(node.address)
    return by_address or next((guest for guest in vms if guest.name.partition(".")[0] == name_of(node)), None)


def _notes(client: Client, guests: Inventory, entry: Declared) -> list[str]:
    if entry.wanted is None:
        return list(entry.notes)
    guest = guests.by_id(entry.wanted.vm_id)
    if guest is None:
        return list(entry.notes)
    config = guests.configs[guest.vm_id]
    return [*entry.notes, *adoption.differences(client, entry.name, guest, config, entry.wanted)]
