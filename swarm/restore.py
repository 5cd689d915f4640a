"""Raft state from a backup, put on its node, from which the swarm goes on. Each step can be run again."""

from __future__ import annotations

from collections.abc import Sequence

from proxmox_swarm.swarm import recovery
from proxmox_swarm.swarm.access import SSH, Access
from proxmox_swarm.swarm.backup_file import Manifest
from proxmox_swarm.swarm.errors import BackupUnusable, ForeignSwarm, HostError, RecoveryRefused
from proxmox_swarm.swarm.state_files import SSH_FILES, Packed, StateFiles, key_in
from proxmox_swarm.swarm.survey import Sight, Survey


def check(manifest: Manifest, cluster_id: str, node: str) -> None:
    """Raise BackupUnusable unless the backup is of this swarm and of this node."""
    what = f"restoring a backup of {manifest.taken}"
    if manifest.cluster_id != cluster_id:
        raise BackupUnusable(
            what,
            came_back=f"it is of swarm {manifest.cluster_id}, the stack's is {cluster_id}",
            do_now="Name the stack that it is of with --stack: nothing was changed.",
        )
    if manifest.node != node:
        raise BackupUnusable(
            f"{what} on {node}",
            came_back=f"it was taken on {manifest.node}, and node id and certificate in it are that node's",
            do_now=f"Restore it with --node {manifest.node}, whose machine may be a new one: nothing was changed.",
        )


def refuse(found: Survey, sight: Sight, manifest: Manifest, *, discard_newer: bool, make_machine: str) -> None:
    """Raise unless the backup may be put on this node now: nothing that is left of the swarm is worth more.

    ``make_machine`` is the command that makes the node's machine, for where there is none. Raises RecoveryRefused,
    HostError, ForeignSwarm.
    """
    found.refuse_while_alive()
    if sight.disk is None:
        raise HostError(
            "restoring raft state",
            where=str(sight.target),
            came_back=sight.why,
            do_now=f"Make its machine first; that ends with `looking for a manager`, as it must: {make_machine}",
        )
    if sight.cluster_id not in ("", found.cluster_id):
        raise ForeignSwarm(
            "restoring raft state",
            where=str(sight.target),
            came_back=f"it is in swarm {sight.cluster_id}",
            do_now="Take it out of that swarm there first: nothing was changed.",
        )
    newer = [s for s in found.mine if s.disk and s.disk.position and s.disk.position.commit > manifest.commit]
    if newer and not discard_newer:
        raise RecoveryRefused(
            "restoring raft state",
            came_back=f"{', '.join(f'{s.target}: {s}' for s in newer)}: newer than the backup, entry {manifest.commit}",
            do_now="`proxmox-swarm recover` goes on from there. To go back to the backup all the same: --discard-newer.",
        )


def put(
    sight: Sight,
    cluster_id: str,
    manifest: Manifest,
    content: bytes,
    clear: bytes | None,
    *,
    data_path: str = "",
    access: Access = SSH,
    files: StateFiles = SSH_FILES,
) -> str | None:
    """Put the state in place and force a new cluster from it; where the state that was there is now.

    ``clear`` is the backup's key file in clear, where that is encrypted; ``data_path`` is the node's address for overlay
    traffic where that is another one. Raises SwarmError, HostError.
    """
    aside = files.put(sight.target, sight.root, Packed(content, manifest.sha256, 0))
    recovery.init(sight, cluster_id, clear, data_path=data_path, access=access, files=files)
    return aside


def clear_key(manifest: Manifest, content: bytes, keys: Sequence[str]) -> bytes | None:
    """The backup's key file in clear; None where it is so already. Raises SwarmLocked."""
    if not manifest.autolock:
        return None
    return recovery.unsealed(key_in(content), keys, where=f"the backup of {manifest.taken}")
