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
from proxmox_swarm.host.target import Target
from proxmox_swarm.proxmox.power import power_of
from proxmox_swarm.swarm import backup, recovery
from proxmox_swarm.swarm import restore as restoring
from proxmox_swarm.swarm.backup_file import read_backup, write_backup
from proxmox_swarm.swarm.lock import cluster_lock
from proxmox_swarm.swarm.state_files import Packed
from proxmox_swarm.swarm.survey import OFF, Sight, Survey, survey

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


@dataclass(frozen=True)
class _Found:
    """One look at what is left: ``power`` is Proxmox VE's word for each node's machine."""

    survey: Survey
    power: Mapping[str, str]


def recover(stack: str, project: Path, to: Path | None, chosen: Choices, say: Say, ask: Ask) -> None:
    """Let a swarm whose quorum is lost go on from its newest manager. Raises CommandError, Failure.

    A person is asked before the cluster's lock is taken, so that one who does not answer holds nobody up; under it all is
    looked at again, and what was agreed to is done or nothing.
    """
    nodes = stack_nodes(stack, project)
    agreed = None if chosen.yes else _agreed_to_force(nodes, chosen, say, ask)
    say_once = say if chosen.yes else _told_before
    with cluster_lock(nodes.cluster_id, f"recovering swarm {nodes.cluster_id}"):
        found = _look(nodes, say_once)
        begun = found.survey.begun
        sights = found.survey.sights
        keys = _keys(stack, project, chosen) if any(s.disk is not None and s.disk.locked for s in sights) else []
        if begun is not None and recovery.was_forced(begun, nodes.cluster_id, keys):
            say(f"forced    {begun.target.node} was forced before; what is left is to finish")
            _finish(nodes, begun, keys, {}, say)
            return
        if begun is not None and found.survey.working is not None:
            aside = recovery.give_up(begun)
            say(f"undone    {begun.target.node} goes back into its swarm, which has a leader again{_aside(aside)}")
            say(f"next: {_up(nodes)}")
            return
        survivor = _to_force(nodes, found, chosen, say_once)
        _as_agreed(survivor, agreed, chosen)
        recovery.force(
            survivor,
            nodes.cluster_id,
            lambda packed: _keep(nodes, survivor, packed, to, say),
            keys=keys,
            data_path=nodes.data_path(survivor.target),
        )
        say(f"forced    {survivor.target.node} is the leader of swarm {nodes.cluster_id[:4]}, and its only manager")
        _finish(nodes, survivor, keys, {}, say)


def _agreed_to_force(nodes: StackNodes, chosen: Choices, say: Say, ask: Ask) -> Target | None:
    """The manager that a person agreed to have forced; None where an earlier recovery is to be ended, which asks nobody."""
    found = _look(nodes, say)
    begun = found.survey.begun
    if begun is not None and (found.survey.working or recovery.was_forced(begun, nodes.cluster_id)):
        return None
    survivor = _to_force(nodes, found, chosen, say)
    _confirm(nodes, ask)
    return survivor.target


def _to_force(nodes: StackNodes, found: _Found, chosen: Choices, say: Say) -> Sight:
    """The manager that the swarm goes on from. Raises RecoveryRefused, NoManager, CommandError."""
    found.survey.refuse_while_alive()
    survivor = found.survey.begun or found.survey.survivor()
    recovery.require_off(found.survey.not_shown_off(survivor, found.power), given_up=chosen.others_are_gone)
    nodes.data_path(survivor.target)  # what would stop it later is told before anybody is asked
    say(f"survivor  {survivor.target.node} knows the most. It becomes the only manager; its containers restart.")
    say("          What only the others know is lost: the changes of the last moments, if any.")
    return survivor


def restore(stack: str, project: Path, file: Path, node: str, chosen: Choices, say: Say, ask: Ask) -> None:
    """Put a backup's raft state on its node and let the swarm go on from there. Raises CommandError, Failure.

    As with :func:`recover`, a person is asked before the lock is taken, and all is looked at again under it.
    """
    nodes = stack_nodes(stack, project)
    manifest, content = read_backup(file)
    restoring.check(manifest, nodes.cluster_id, node)
    if node not in {target.node for target in nodes.managers}:
        raise CommandError(f"{node} is no declared manager: declare it as one again first")
    keys = _keys(stack, project, chosen) if manifest.autolock else []
    clear = restoring.clear_key(manifest, content, keys)

    def to_restore(found: _Found, say: Say) -> Sight:
        sight = found.survey.of(node)
        make_machine = _up(nodes, first=node)
        restoring.refuse(found.survey, sight, manifest, discard_newer=chosen.discard_newer, make_machine=make_machine)
        recovery.require_off(found.survey.not_shown_off(sight, found.power), given_up=chosen.others_are_gone)
        nodes.data_path(sight.target)
        say(f"backup    of {manifest.taken}, from {manifest.node}: {told(manifest.contents)}")
        say(f"          {node} becomes the only manager, with the swarm as it was then. What changed since is lost.")
        return sight

    def done_before(found: _Found, with_keys: list[str]) -> bool:
        sight = found.survey.of(node)
        return found.survey.working in (None, sight) and recovery.was_forced(sight, nodes.cluster_id, with_keys)

    agreed = None
    say_once = say if chosen.yes else _told_before
    if not chosen.yes:
        found = _look(nodes, say)
        if not done_before(found, []):
            agreed = to_restore(found, say).target
            _confirm(nodes, ask)
    with cluster_lock(nodes.cluster_id, f"restoring swarm {nodes.cluster_id}"):
        found = _look(nodes, say_once)
        if done_before(found, keys):
            say(f"forced    {node} was forced before; what is left is to finish")
            _finish(nodes, found.survey.of(node), keys, manifest.contents, say)
            return
        sight = to_restore(found, say_once)
        _as_agreed(sight, agreed, chosen)
        data_path = nodes.data_path(sight.target)
        aside = restoring.put(sight, nodes.cluster_id, manifest, content, clear, data_path=data_path)
        say(f"restored  {node} is the leader of swarm {nodes.cluster_id[:4]}, and its only manager{_aside(aside)}")
        _finish(nodes, sight, keys, manifest.contents, say)


def _keys(stack: str, project: Path, chosen: Choices) -> list[str]:
    """The unlock keys to try: the one that was given, else those in the stack's secret outputs."""
    if chosen.key is not None:
        return [chosen.key]
    outputs = stack_here(stack, project).outputs(secrets=True)
    return [str(outputs[name]) for name in KEYS if outputs.get(name)]


def _look(nodes: StackNodes, say: Say) -> _Found:
    """What is left of the swarm, told a line a manager, and the power of their machines."""
    found = _Found(survey(nodes.all_managers, nodes.cluster_id), _power(nodes))
    for sight in found.survey.sights:
        machine = "" if sight.disk is not None else f"; machine {found.power.get(sight.target.node, 'not known')}"
        other = f"; of swarm {sight.cluster_id}" if sight.cluster_id not in ("", nodes.cluster_id) else ""
        say(f"{sight.target.node}  {sight.target.address}  {sight}{other}{machine}")
    return found


def _power(nodes: StackNodes) -> dict[str, str]:
    """Proxmox VE's word for each manager's machine; where its id was edited, the other machine's unless that is off."""
    proxmox = nodes.settings.proxmox
    first: dict[str, int] = {}
    other: dict[str, int] = {}
    for node, vm_id in nodes.manager_machines:
        (other if node in first else first)[node] = vm_id
    power = power_of(first, proxmox.endpoints, insecure=proxmox.insecure)
    if other:
        edited = power_of(other, proxmox.endpoints, insecure=proxmox.insecure)
        power |= {node: word for node, word in edited.items() if word not in OFF}
    return power


def _told_before(_: str) -> None:
    """Says nothing: a person who was asked has seen what was found."""


def _confirm(nodes: StackNodes, ask: Ask) -> None:
    prefix = nodes.cluster_id[:4]
    if ask(f"This cannot be taken back. Type {prefix}, the beginning of the swarm's id, to go on") != prefix:
        raise CommandError("not confirmed: nothing was changed")


def _as_agreed(now: Sight, agreed: Target | None, chosen: Choices) -> None:
    """Raise CommandError where what a person agreed to is not what would be done now."""
    if not chosen.yes and now.target != agreed:
        raise CommandError(
            f"it changed while you were asked: now {now.target} would go on. Nothing was changed: run again"
        )


def _keep(nodes: StackNodes, survivor: Sight, packed: Packed, to: Path | None, say: Say) -> None:
    """Write down what the survivor has before it is forced, beside what a run before this one has kept."""
    manifest = backup.describe(survivor.target, nodes.cluster_id, packed, {}, {})
    file = write_backup(to or default_file(nodes, survivor.target.node), manifest, packed.data)
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
