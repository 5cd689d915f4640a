"""``proxmox-swarm recover`` and ``restore``: what was found, a person's word, the steps, what to do next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from proxmox_swarm.cli.backup import default_file, told
from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.inside import STACK
from proxmox_swarm.cli.stack_nodes import StackNodes, stack_here, stack_nodes
from proxmox_swarm.cli.unlock import KEYS
from proxmox_swarm.proxmox.power import power_of
from proxmox_swarm.swarm import backup, recovery
from proxmox_swarm.swarm import restore as restoring
from proxmox_swarm.swarm.backup_file import read_backup, write_backup
from proxmox_swarm.swarm.lock import cluster_lock
from proxmox_swarm.swarm.state_files import Packed
from proxmox_swarm.swarm.survey import Sight, Survey, survey

Say = Callable[[str], None]
#: Asks a person to type something; returns what was typed.
Ask = Callable[[str], str]


@dataclass(frozen=True)
class Choices:
    """What a person chose: ``key`` is an unlock key, None for those in the stack's outputs."""

    yes: bool = False
    others_are_gone: bool = False
    discard_newer: bool = False
    key: str | None = field(default=None, repr=False)


def recover(stack: str, project: Path, to: Path | None, chosen: Choices, say: Say, ask: Ask) -> None:
    """Let a swarm whose quorum is lost go on from its newest manager. Raises CommandError, Failure."""
    nodes = stack_nodes(stack, project)
    with cluster_lock(nodes.cluster_id, f"recovering swarm {nodes.cluster_id}"):
        found, power = _look(nodes, say)
        keys = _keys(stack, project, chosen) if any(s.disk is not None and s.disk.locked for s in found.sights) else []
        begun = found.begun
        if begun is not None and recovery.was_forced(begun, nodes.cluster_id, keys):
            say(f"forced    {begun.target.node} was forced before; what is left is to finish")
            _finish(nodes, begun, keys, {}, say)
            return
        if begun is not None and found.working is not None:
            aside = recovery.give_up(begun)
            say(f"undone    {begun.target.node} goes back into its swarm, which has a leader again{_aside(aside)}")
            say(f"next: {_up(nodes)}")
            return
        found.refuse_while_alive()
        survivor = begun or found.survivor()
        recovery.require_off(found.not_shown_off(survivor, power), given_up=chosen.others_are_gone)
        say(f"survivor  {survivor.target.node} knows the most. It becomes the only manager; its containers restart.")
        say("          What only the others know is lost: the changes of the last moments, if any.")
        _confirm(nodes, chosen, ask)
        recovery.force(
            survivor,
            nodes.cluster_id,
            lambda packed: _keep(nodes, survivor, packed, to, say),
            keys=keys,
            data_path=nodes.data_path(survivor.target.node),
        )
        say(f"forced    {survivor.target.node} is the leader of swarm {nodes.cluster_id[:4]}, and its only manager")
        _finish(nodes, survivor, keys, {}, say)


def restore(stack: str, project: Path, file: Path, node: str, chosen: Choices, say: Say, ask: Ask) -> None:
    """Put a backup's raft state on its node and let the swarm go on from there. Raises CommandError, Failure."""
    nodes = stack_nodes(stack, project)
    manifest, content = read_backup(file)
    restoring.check(manifest, nodes.cluster_id, node)
    if node not in {target.node for target in nodes.managers}:
        raise CommandError(f"{node} is no declared manager: declare it as one again first")
    keys = _keys(stack, project, chosen) if manifest.autolock else []
    clear = restoring.clear_key(manifest, content, keys)
    with cluster_lock(nodes.cluster_id, f"restoring swarm {nodes.cluster_id}"):
        found, power = _look(nodes, say)
        sight = found.of(node)
        if found.working in (None, sight) and recovery.was_forced(sight, nodes.cluster_id, keys):
            say(f"forced    {node} was forced before; what is left is to finish")
            _finish(nodes, sight, keys, manifest.contents, say)
            return
        make_machine = _up(nodes, first=node)
        restoring.refuse(found, sight, manifest, discard_newer=chosen.discard_newer, make_machine=make_machine)
        recovery.require_off(found.not_shown_off(sight, power), given_up=chosen.others_are_gone)
        say(f"backup    of {manifest.taken}, from {manifest.node}: {told(manifest.contents)}")
        say(f"          {node} becomes the only manager, with the swarm as it was then. What changed since is lost.")
        _confirm(nodes, chosen, ask)
        aside = restoring.put(sight, nodes.cluster_id, manifest, content, clear, data_path=nodes.data_path(node))
        say(f"restored  {node} is the leader of swarm {nodes.cluster_id[:4]}, and its only manager{_aside(aside)}")
        _finish(nodes, sight, keys, manifest.contents, say)


def _keys(stack: str, project: Path, chosen: Choices) -> list[str]:
    """The unlock keys to try: the one that was given, else those in the stack's secret outputs."""
    if chosen.key is not None:
        return [chosen.key]
    outputs = stack_here(stack, project).outputs(secrets=True)
    return [str(outputs[name]) for name in KEYS if outputs.get(name)]


def _look(nodes: StackNodes, say: Say) -> tuple[Survey, Mapping[str, str]]:
    """What is left of the swarm, told a line a manager, and the power of their machines."""
    found = survey(nodes.managers, nodes.cluster_id)
    proxmox = nodes.settings.proxmox
    machines = {node.name: node.vm_id for node in nodes.settings.managers}
    power = power_of(machines, proxmox.endpoints, insecure=proxmox.insecure)
    for sight in found.sights:
        machine = "" if sight.disk is not None else f"; machine {power.get(sight.target.node, 'not known')}"
        other = f"; of swarm {sight.cluster_id}" if sight.cluster_id not in ("", found.cluster_id) else ""
        say(f"{sight.target.node}  {sight.target.address}  {sight}{other}{machine}")
    return found, power


def _confirm(nodes: StackNodes, chosen: Choices, ask: Ask) -> None:
    prefix = nodes.cluster_id[:4]
    if chosen.yes:
        return
    if ask(f"This cannot be taken back. Type {prefix}, the beginning of the swarm's id, to go on") != prefix:
        raise CommandError("not confirmed: nothing was changed")
    survey(nodes.managers, nodes.cluster_id).refuse_while_alive()  # somebody may have brought them back meanwhile


def _keep(nodes: StackNodes, survivor: Sight, packed: Packed, to: Path | None, say: Say) -> None:
    """Write down what the survivor has before it is forced."""
    manifest = backup.describe(survivor.target, nodes.cluster_id, packed, {}, {})
    file = to or default_file(nodes, survivor.target.node)
    write_backup(file, manifest, packed.data)
    say(f"backup    {file}: what {survivor.target.node} has now, with the swarm's private keys and secrets")


def _finish(nodes: StackNodes, survivor: Sight, keys: list[str], before: Mapping[str, int], say: Say) -> None:
    outcome = recovery.finish(survivor, nodes.cluster_id, keys)
    say(f"verified  {told(outcome.contents)}")
    other = [f"{kind} were {count}" for kind, count in before.items() if outcome.contents[kind] != count]
    if other:
        say(f"          not as when the backup was taken: {', '.join(other)}")
    missing = f"; not back: {', '.join(outcome.missing)}" if outcome.missing else ""
    say(f"nodes     {len(outcome.ready)} ready{missing}")
    say(f"next: {_up(nodes)}    (managers whose machines come back join again by themselves within a minute)")


def _up(nodes: StackNodes, first: str = "") -> str:
    """The command that brings the swarm to its declaration, as it is typed; with a node ``first`` where that matters."""
    stack = nodes.settings.stack
    if stack == STACK and not first:
        return "make up"
    set_first = f"env PROXMOX_SWARM_FIRST={first} " if first else ""
    return f"{'lab exec -- ' if stack == STACK else ''}{set_first}pulumi up --refresh -s {stack}"


def _aside(aside: str | None) -> str:
    return f"; what was there is in {aside}" if aside else ""
