"""``proxmox-swarm backup``, ``restore``, ``recover``: run where the nodes can be reached, for the lab inside ``lab exec``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.pulumi import Stack
from proxmox_swarm.cli.stack_settings import read_settings
from proxmox_swarm.cli.table import node_targets
from proxmox_swarm.host.target import Target
from proxmox_swarm.proxmox.power import power_of
from proxmox_swarm.settings import Settings
from proxmox_swarm.swarm import backup, recovery
from proxmox_swarm.swarm.backup_file import Manifest, read_backup, write_backup
from proxmox_swarm.swarm.errors import BackupUnusable, ForeignSwarm, HostError, RecoveryRefused, SwarmLocked
from proxmox_swarm.swarm.lock import cluster_lock
from proxmox_swarm.swarm.state_files import SSH_FILES, Packed
from proxmox_swarm.swarm.survey import Sight, Survey, survey

Say = Callable[[str], None]
#: Asks a person to type something; returns what was typed.
Ask = Callable[[str], str]
LAB = "PROXMOX_SWARM_LAB"


@dataclass(frozen=True)
class _Declared:
    stack: str
    settings: Settings
    managers: list[Target]
    cluster_id: str

    def power(self) -> Mapping[str, str]:
        proxmox = self.settings.proxmox
        machines = {node.name: node.vm_id for node in self.settings.managers}
        return power_of(machines, proxmox.endpoints, insecure=proxmox.insecure)

    def file(self, node: str) -> Path:
        return Path.cwd() / f"swarm-{self.stack}-{node}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.backup"

    def next_step(self, *words: str) -> str:
        """The command that brings the swarm to its declaration, as it is typed here."""
        plain = " ".join(["pulumi up --refresh", "-s", self.stack, *words])
        return f"lab exec -- {plain} --yes" if os.environ.get(LAB) else plain


def take_backup(stack: str, project: Path, to: Path | None, node: str, *, stop_decisions: bool, say: Say) -> None:
    """Take a backup and write it to a private file. Raises CommandError, Failure."""
    declared = _declared(stack, project)
    if node and node not in {target.node for target in declared.managers}:
        raise CommandError(f"{node} is no declared manager; those are {_names(declared.managers)}")
    deadlines = declared.settings.deadlines
    taken = backup.take(
        declared.managers,
        declared.cluster_id,
        node=node,
        stop_decisions=stop_decisions,
        drain_timeout=deadlines.drain,
        back_timeout=deadlines.boot,
    )
    file = to or declared.file(taken.manifest.node)
    write_backup(file, taken.manifest, taken.content)
    say(
        f"backup    {file}: {taken.manifest.node}, {_told(taken.manifest.contents)}; dockerd was away for {taken.down:.0f} s"
    )
    say("          It holds the swarm's private keys and every secret's value: keep it as you keep those.")
    if taken.manifest.autolock:
        say(
            "          The swarm locks its managers: without today's unlock key the backup is of no use. Keep both, apart."
        )


def recover(
    stack: str, project: Path, to: Path | None, *, yes: bool, others_are_gone: bool, say: Say, ask: Ask
) -> None:
    """Let a swarm whose quorum is lost go on from its newest manager. Raises CommandError, Failure."""
    declared = _declared(stack, project)
    with cluster_lock(declared.cluster_id, f"recovering swarm {declared.cluster_id}"):
        found = survey(declared.managers, declared.cluster_id)
        power = declared.power()
        _show(found, power, say)
        begun = found.begun
        if begun is not None and found.working not in (None, begun):
            aside = recovery.give_up(found, begun)
            say(f"undone    {begun.target.node} goes back into its swarm, which has a leader again" + _aside(aside))
            say(f"next: {declared.next_step()}")
            return
        if begun is None or found.working is None:
            found.refuse_while_alive()
            survivor = begun or found.survivor()
            recovery.require_off(found.not_shown_off(survivor, power), given_up=others_are_gone)
            say(
                f"survivor  {survivor.target.node} knows the most. It becomes the only manager; its containers restart."
            )
            say("          What only the others know is lost: the changes of the last moments, if any.")
            _confirm(declared, yes=yes, ask=ask)
            recovery.force(survivor, declared.cluster_id, lambda packed: _keep(declared, survivor, packed, to, say))
            say(
                f"forced    {survivor.target.node} is the leader of swarm {declared.cluster_id[:4]}, and its only manager"
            )
            begun = survivor
        _finish(declared, begun, {}, say)


def restore(
    stack: str,
    project: Path,
    file: Path,
    node: str,
    *,
    yes: bool,
    others_are_gone: bool,
    discard_newer: bool,
    say: Say,
    ask: Ask,
) -> None:
    """Put a backup's raft state on its node and let the swarm go on from there. Raises CommandError, Failure."""
    declared = _declared(stack, project)
    manifest, content = read_backup(file)
    _check(declared, manifest, file, node)
    with cluster_lock(declared.cluster_id, f"restoring swarm {declared.cluster_id}"):
        found = survey(declared.managers, declared.cluster_id)
        power = declared.power()
        _show(found, power, say)
        sight = found.of(node)
        if not (sight.recovering and found.working is sight):
            found.refuse_while_alive()
            _may_hold(declared, sight)
            _refuse_newer(found, manifest, discard=discard_newer)
            recovery.require_off(found.not_shown_off(sight, power), given_up=others_are_gone)
            say(f"backup    of {manifest.taken}, from {manifest.node}: {_told(manifest.contents)}")
            say(
                f"          {node} becomes the only manager, with the swarm as it was then. What was changed since is lost."
            )
            _confirm(declared, yes=yes, ask=ask)
            if sight.disk is None:
                raise CommandError(f"{node} does not answer: {sight.why}")
            aside = SSH_FILES.put(sight.target, sight.disk.root, Packed(content, manifest.sha256, 0))
            say(f"restored  the raft state is on {node}" + _aside(aside))
            recovery.init(sight.target, declared.cluster_id)
            say(f"forced    {node} is the leader of swarm {declared.cluster_id[:4]}, and its only manager")
        _finish(declared, sight, manifest.contents, say)


def _finish(declared: _Declared, survivor: Sight, before: Mapping[str, int], say: Say) -> None:
    root = survivor.disk.root if survivor.disk is not None else ""
    outcome = recovery.finish(survivor.target, declared.cluster_id, root)
    say(f"verified  {_told(outcome.contents)}")
    different = [
        f"{kind}: {outcome.contents[kind]}, were {n}" for kind, n in before.items() if outcome.contents[kind] != n
    ]
    if different:
        say(f"          not as when the backup was taken: {'; '.join(different)}")
    say(
        f"nodes     {len(outcome.ready)} ready"
        + (f"; not back: {', '.join(outcome.missing)}" if outcome.missing else "")
    )
    say(f"next: {declared.next_step()}   (managers that come back by themselves join again within a minute)")


def _declared(stack: str, project: Path) -> _Declared:
    settings = read_settings(project, stack)
    outputs = Stack(stack, project, os.environ).outputs()
    if "clusterId" not in outputs:
        raise CommandError(f"stack {stack} has no cluster yet: run `up` first")
    targets = node_targets(settings, outputs)
    managers = [targets[node.name] for node in settings.managers if node.name in targets]
    return _Declared(stack, settings, managers, outputs["clusterId"])


def _show(found: Survey, power: Mapping[str, str], say: Say) -> None:
    for sight in found.sights:
        machine = "" if sight.disk is not None else f"; machine {power.get(sight.target.node, 'not known')}"
        other = f"; of swarm {sight.cluster_id}" if sight.cluster_id not in ("", found.cluster_id) else ""
        say(f"{sight.target.node}  {sight.target.address}  {sight}{other}{machine}")


def _keep(declared: _Declared, survivor: Sight, packed: Packed, to: Path | None, say: Say) -> None:
    if survivor.disk is None:
        return
    manifest = backup.describe(
        survivor.target, declared.cluster_id, {}, survivor.disk, packed, {}, autolock=survivor.disk.locked
    )
    file = to or declared.file(survivor.target.node)
    write_backup(file, manifest, packed.data)
    say(f"backup    {file}: what {survivor.target.node} has now. It holds the swarm's private keys and secrets.")


def _check(declared: _Declared, manifest: Manifest, file: Path, node: str) -> None:
    if manifest.cluster_id != declared.cluster_id:
        raise BackupUnusable(
            f"restoring {file}",
            came_back=f"it is of swarm {manifest.cluster_id}, stack {declared.stack} is {declared.cluster_id}",
            do_now="Name the stack that it is of with --stack.",
        )
    if manifest.node != node:
        raise BackupUnusable(
            f"restoring {file} on {node}",
            came_back=f"it was taken on {manifest.node}: node id and certificate in it are that node's",
            do_now=f"Restore it with --node {manifest.node}; its machine may be a new one.",
        )
    if node not in {target.node for target in declared.managers}:
        raise BackupUnusable(
            f"restoring {file} on {node}",
            came_back=f"that is no declared manager; those are {_names(declared.managers)}",
            do_now="Declare it as a manager again first.",
        )
    if manifest.autolock:
        raise SwarmLocked(
            f"restoring {file}",
            came_back="its keys are encrypted with the unlock key, and no engine can force a new cluster from that "
            "(moby issue 36852)",
            do_now="Nothing was changed.",
        )


def _may_hold(declared: _Declared, sight: Sight) -> None:
    if sight.disk is None:
        first = "lab exec -- env" if os.environ.get(LAB) else "env"
        raise HostError(
            "restoring raft state",
            where=str(sight.target),
            came_back=sight.why,
            do_now="Make its machine first; that ends with `looking for a manager`, as it must: "
            f"{first} PROXMOX_SWARM_FIRST={sight.target.node} pulumi up --refresh -s {declared.stack}",
        )
    if sight.cluster_id not in ("", declared.cluster_id):
        raise ForeignSwarm(
            "restoring raft state",
            where=str(sight.target),
            came_back=f"it is in swarm {sight.cluster_id}",
            do_now="Take it out of that swarm there first: nothing was changed.",
        )


def _refuse_newer(found: Survey, manifest: Manifest, *, discard: bool) -> None:
    newer = [s for s in found.mine if s.disk and s.disk.position and s.disk.position.commit > manifest.commit]
    if newer and not discard:
        raise RecoveryRefused(
            "restoring raft state",
            came_back=f"{', '.join(f'{s.target} ({s})' for s in newer)}: newer than the backup, entry {manifest.commit}",
            do_now="`proxmox-swarm recover` goes on from there. To go back to the backup all the same: --discard-newer.",
        )


def _confirm(declared: _Declared, *, yes: bool, ask: Ask) -> None:
    prefix = declared.cluster_id[:4]
    if (
        not yes
        and ask(f"This cannot be taken back. Type {prefix}, the beginning of the swarm's id, to go on") != prefix
    ):
        raise CommandError("not confirmed: nothing was changed")


def _told(contents: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in contents.items()) or "contents not counted"


def _aside(aside: str | None) -> str:
    return f"; what was there is in {aside}" if aside else ""


def _names(targets: list[Target]) -> str:
    return ", ".join(target.node for target in targets)
