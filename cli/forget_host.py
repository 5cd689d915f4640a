"""``proxmox-swarm forget-host``: a Proxmox VE host that is gone for good leaves swarm and state, with all that was on it.

Proxmox VE cannot delete that any more: it answers 595 for the host for ever. Afterwards an ordinary ``up`` makes the nodes
anew where they are declared.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from proxmox_swarm.cli import leftovers
from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.lost_host import Lost, RecordedMember, forget, lost_with, members
from proxmox_swarm.cli.pulumi import Stack
from proxmox_swarm.cli.stack_settings import read_settings
from proxmox_swarm.proxmox.client import Client
from proxmox_swarm.proxmox.hosts import NO_MEMBER, OFFLINE
from proxmox_swarm.proxmox.ownership import answering
from proxmox_swarm.settings import Settings
from proxmox_swarm.swarm.inventory import Inventory, read_inventory
from proxmox_swarm.swarm.member import MemberSpec
from proxmox_swarm.swarm.removal import remove

Say = Callable[[str], None]


def forget_host(stack: Stack, host: str, say: Say, confirm: Callable[[str], bool]) -> None:
    """Take what was on ``host`` out of the swarm and of the stack's state, after ``confirm`` was asked.

    Refused unless Proxmox VE itself calls the host offline or no member, and unless its machines are silent. The dead members
    go first, while the quorum allows it: a manager that is added before would need a larger majority than there is. Can be
    run again after a kill at any point. Raises CommandError, ProxmoxError, and Failure as a removal does.
    """
    settings = read_settings(stack.project, stack.name)
    leftovers.release_lock(stack)
    state = stack.deployment()
    lost = lost_with(state, host)
    if not lost:
        if host not in settings.proxmox.hosts:
            raise CommandError(
                f"stack {stack.name} has nothing on {host}; its hosts: {', '.join(settings.proxmox.hosts)}"
            )
        say(f"stack {stack.name} has nothing on {host}: nothing to forget")
        return
    client = Client(settings.proxmox.endpoints, insecure=settings.proxmox.insecure)
    why = _require_gone(client, host)
    recorded = members(state)
    gone = {name: recorded[name] for name in lost.nodes if name in recorded}
    left = [member for name, member in recorded.items() if name not in gone]
    swarm = _require_silent(gone, left)
    say(f"{host} {why}. Of stack {stack.name} this was on it:")
    _show(lost, gone, swarm, say)
    _warn(host, lost, client, say)
    if not confirm(host):
        raise CommandError(f"{host} is not forgotten: nothing was changed")
    for name, member in gone.items():
        _remove(member, left, settings)
        say(f"{name} is out of the swarm")
    say(f"state before this is kept in {_change(stack, host)}")
    _next(settings, stack, host, lost, say)


def _require_gone(client: Client, host: str) -> str:
    known = client.hosts()
    if host not in known:
        return NO_MEMBER
    if known[host] != "offline":
        raise CommandError(
            f"{host} is {known[host]}, says Proxmox VE at {client.endpoint}: a host is forgotten only when it is off, and "
            f"never to be on again as it was. Nothing was changed"
        )
    return OFFLINE


def _require_silent(gone: Mapping[str, RecordedMember], left: Sequence[RecordedMember]) -> Inventory | None:
    """Make sure that none of the lost machines lives, by their own word and the swarm's; the swarm, where there is one."""
    if not gone:
        return None
    managers = [member.target for member in left if member.role == "manager"]
    found = read_inventory(managers, next(iter(gone.values())).cluster_id)
    ready = {entry.node_id for entry in found.nodes if entry.state == "ready"}
    answers = answering([member.target.address for member in gone.values()])
    alive = [str(m.target) for m in gone.values() if m.node_id in ready or m.target.address in answers]
    if alive:
        raise CommandError(
            f"{', '.join(alive)} still runs: its host is cut off, not gone. Switch the host off, or mend its network. "
            "Nothing was changed"
        )
    return found


def _remove(member: RecordedMember, left: Sequence[RecordedMember], settings: Settings) -> None:
    remove(
        MemberSpec(member.target, "manager" if member.role == "manager" else "worker"),
        [other.target for other in left if other.role == "manager"],
        member.cluster_id,
        member.node_id,
        drain_timeout=settings.deadlines.drain,
        role_timeout=settings.deadlines.role,
    )


def _show(lost: Lost, gone: Mapping[str, RecordedMember], swarm: Inventory | None, say: Say) -> None:
    for node, vm_id in lost.nodes.items():
        disk = f", data disk of VM {lost.disks[node]}: ITS FILES ARE LOST" if node in lost.disks else ""
        member = "" if node in gone else ", never joined"
        say(f"  {node:<16} VM {vm_id}{disk}{member}")
    for node in lost.disks.keys() - lost.nodes.keys():
        say(f"  {node:<16} data disk of VM {lost.disks[node]}: ITS FILES ARE LOST")
    say(f"  files            {', '.join(lost.files) or 'none'}")
    if swarm is not None:
        say(f"swarm: {swarm.quorum}")


def _warn(host: str, lost: Lost, client: Client, say: Say) -> None:
    say(
        f"The nodes leave the swarm, all of it leaves the state; {host} itself is not touched. Should it ever start again as "
        "it was, its machines would run beside their successors, with the same addresses."
    )
    listed = sorted(guest.vm_id for guest in client.guests() if guest.host == host and guest.vm_id in lost.vm_ids)
    if listed:
        say(
            f"Proxmox VE still lists VM {', '.join(map(str, listed))} on {host}. Before a machine can have such an id again, "
            f"on a host that lives: `pvecm delnode {host}`, then `rm -r /etc/pve/nodes/{host}`"
        )


def _change(stack: Stack, host: str) -> Path:
    """Keep the state as it is, then take the host out of what is there at this moment: a person took a while to answer."""
    root = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "proxmox-swarm"
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    kept = root / f"{stack.name}-before-forgetting-{host}-{now}.json"
    stack.edit(lambda deployment: forget(deployment, host), keep=kept)
    return kept


def _next(settings: Settings, stack: Stack, host: str, lost: Lost, say: Say) -> None:
    up = "make up" if stack.name == "lab" else f"pulumi up --refresh -s {stack.name}"
    still = [name for name in lost.nodes if name in settings.nodes and settings.nodes[name].host == host]
    if still:
        say(
            f"next: in Pulumi.{stack.name}.yaml declare {', '.join(still)} on another host, or take out what is not to come "
            f"back; then `{up}`"
        )
    else:
        say(f"next: `{up}`")
