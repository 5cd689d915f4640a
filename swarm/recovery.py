"""A swarm whose quorum is lost goes on from one manager: detached, forced, counted, finished. Each step can be run again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm import autolock, locked_key, nodes
from proxmox_swarm.swarm.access import SSH, Access, place_of
from proxmox_swarm.swarm.backup import count
from proxmox_swarm.swarm.errors import Failure, RecoveryRefused, SwarmError, SwarmLocked
from proxmox_swarm.swarm.local import with_port
from proxmox_swarm.swarm.managers import find_manager
from proxmox_swarm.swarm.ports import MANAGEMENT
from proxmox_swarm.swarm.retry import persist
from proxmox_swarm.swarm.state_files import SSH_FILES, Packed, StateFiles
from proxmox_swarm.swarm.survey import Sight

#: An init that forces answers after some 20 s; dockerd may have much to start besides.
FORCE_TIMEOUT = 180.0
#: When the force is done, an init writes its spec over the swarm's. Whatever is in it, that turns locking off and begins
#: another rotation of a root CA that was rotated before (moby convert/swarm.go, MergeSwarmSpecToGRPC). This one it cannot
#: read: the init ends with an error, and the swarm keeps its own.
UNUSABLE_SPEC = {"CAConfig": {"ExternalCAs": [{"Protocol": "none: the swarm keeps its spec"}]}}
#: A dockerd that is being restarted is back, with a leader, after some seconds.
RESTART = 30.0
#: After a change of leader nodes are unknown until their next heartbeat, and given up after 27 to 33 s (swarmkit dispatcher).
REATTACH = 60.0


@dataclass(frozen=True)
class Outcome:
    """The swarm after a recovery: what it has, and which of its nodes have not come back to it."""

    contents: dict[str, int]
    ready: tuple[str, ...]
    missing: tuple[str, ...]


def force(
    survivor: Sight,
    cluster_id: str,
    keep: Callable[[Packed], None],
    *,
    keys: Sequence[str] = (),
    data_path: str = "",
    access: Access = SSH,
    files: StateFiles = SSH_FILES,
) -> None:
    """Make the survivor the only manager of its swarm, from the raft state on its disk.

    Its state is packed first, with dockerd stopped, and given to ``keep``; dockerd is then started without its swarm, so that
    it reaches no other manager any more, and told to force a new cluster. Where managers lock themselves, one of ``keys``
    opens its key file for that. ``data_path`` is its address for overlay traffic where that is another one. Raises
    SwarmLocked, SwarmError, HostError.
    """
    clear = None
    if survivor.disk is not None and survivor.disk.locked:
        clear = unsealed(files.read_key(survivor.target, survivor.root), keys, where=str(survivor.target))
    keep(files.save(survivor.target, survivor.root, detach=True))
    init(survivor, cluster_id, clear, data_path=data_path, access=access, files=files)


def unsealed(key_file: bytes, keys: Sequence[str], *, where: str) -> bytes:
    """The key file in clear. No engine unlocks and forces at once (moby issue 36852). Raises SwarmLocked."""
    clear = locked_key.opened(key_file, keys)
    if clear is None:
        raise SwarmLocked(
            "opening the raft state",
            where=where,
            came_back="its keys are encrypted, and no unlock key that is known here fits"
            if keys
            else "no key is known",
            do_now="Give the unlock key of that time on standard input, with --key-from-stdin. Nothing was changed.",
        )
    return clear


def init(
    survivor: Sight,
    cluster_id: str,
    clear: bytes | None = None,
    *,
    data_path: str = "",
    access: Access = SSH,
    files: StateFiles = SSH_FILES,
) -> None:
    """Force a new cluster from the detached raft state on a node; judged by what its engine is afterwards.

    ``clear`` is its key file in clear, where that is encrypted; the engine encrypts it again when it leads.
    """
    target = survivor.target
    if clear is not None:
        files.write_key(target, survivor.root, clear)
    limit = Deadline.after(FORCE_TIMEOUT, access.clock)
    address = with_port(target.address, MANAGEMENT)
    # Address pool and ports are left out: those of the swarm stay (swarmkit manager.go, becomeLeader).
    addresses = {"ListenAddr": address, "AdvertiseAddr": address, "DataPathAddr": data_path}
    body = {**addresses, "ForceNewCluster": True, "Spec": UNUSABLE_SPEC}
    refused: Failure | None = None
    try:
        access.engine(target).swarm_init(body)
    except Failure as error:
        refused = error
    forced = _may_come(access, target) and _leads(access, target, cluster_id, (), limit)
    if not forced:
        raise SwarmError(
            "forcing a new cluster",
            where=str(target),
            came_back=refused.came_back if refused else f"no leader after {limit.seconds:.0f} s",
            do_now="Look at `journalctl -u docker` there, then run again. Its raft state is as it was, and in the backup.",
        )


def was_forced(begun: Sight, cluster_id: str, keys: Sequence[str] = (), *, access: Access = SSH) -> bool:
    """Whether a recovery that was begun on a node has come as far as its force; its dockerd may be restarting just now."""
    if begun.disk is None or not begun.recovering or not begun.disk.attached:
        return False
    return _leads(access, begun.target, cluster_id, keys, Deadline.after(RESTART, access.clock))


def finish(
    survivor: Sight,
    cluster_id: str,
    keys: Sequence[str] = (),
    *,
    access: Access = SSH,
    files: StateFiles = SSH_FILES,
) -> Outcome:
    """Take the force out of dockerd's memory by a restart, wait for the nodes to come back, and count what is there.

    A manager that locks itself is unlocked with the swarm's own key, else one of ``keys``.
    """
    target = survivor.target
    limit = Deadline.after(FORCE_TIMEOUT, access.clock)
    key = persist(access.engine(target).swarm_unlock_key, limit)
    files.finish(target, survivor.root)
    if not _leads(access, target, cluster_id, [key, *keys], limit):
        raise SwarmError(
            "waiting for the recovered swarm",
            where=str(target),
            came_back=f"no leader {limit.seconds:.0f} s after dockerd was restarted",
            do_now="Look at `journalctl -u docker` there, then run again.",
        )
    engine = find_manager(access, [target], cluster_id, limit).engine
    contents = count(engine, limit)

    def settled() -> bool | None:
        waited_for = [n for n in persist(engine.nodes, limit) if nodes.role_of(n) == "worker" or nodes.in_raft(n)]
        return True if all(nodes.is_ready(node) for node in waited_for) else None

    Deadline.after(REATTACH, access.clock).poll(settled, 1.0)
    everyone = sorted(persist(engine.nodes, limit), key=nodes.hostname_of)
    ready = tuple(nodes.hostname_of(n) for n in everyone if nodes.is_ready(n))
    return Outcome(contents, ready, tuple(nodes.hostname_of(n) for n in everyone if not nodes.is_ready(n)))


def give_up(begun: Sight, *, files: StateFiles = SSH_FILES) -> str | None:
    """A recovery that was begun on a node whose swarm then got its leader back: the node goes back into it as it was.

    State that came from a backup is taken away instead; returns where it is now.
    """
    return files.undo(begun.target, begun.root)


def _leads(access: Access, target: Target, cluster_id: str, keys: Sequence[str], limit: Deadline) -> bool:
    """Whether the node is a manager of the swarm with a leader, before the limit; a locked one gets its key."""

    def check() -> bool | None:
        place = place_of(access, target)
        if place is not None and place.state == "locked" and keys:
            _unlock(access, target, keys)
            return None
        return (place is not None and place.control and not place.error and place.cluster_id == cluster_id) or None

    return limit.poll(check, 0.5) is not None


def _unlock(access: Access, target: Target, keys: Sequence[str]) -> None:
    for key in keys:
        with contextlib.suppress(SwarmLocked):
            autolock.unlock(access, target, key)
            return
    raise SwarmLocked(
        "unlocking the recovered manager",
        where=str(target),
        came_back="no unlock key that is known here fits",
        do_now="Give the swarm's key on standard input, with --key-from-stdin; the recovery goes on from here.",
    )


def _may_come(access: Access, target: Target) -> bool:
    """Whether an init that failed has begun all the same: an engine that is in no swarm afterwards has not."""
    place = place_of(access, target)
    return place is None or place.state != "inactive"


def require_off(unseen: Sequence[str], *, given_up: bool) -> None:
    """Raise RecoveryRefused while managers may be running unseen, unless a person says that they are given up."""
    if unseen and not given_up:
        raise RecoveryRefused(
            "forcing a new cluster",
            came_back=f"not shown to be off: {'; '.join(unseen)}. If they run and see each other, the swarm would be split "
            "in two, and what they decide would be lost",
            do_now="Switch those machines off, or wait for them: with a majority back nothing is lost. "
            "If they are off, or gone for good: --others-are-gone.",
        )
