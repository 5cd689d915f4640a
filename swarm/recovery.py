"""A swarm whose quorum is lost goes on from one manager: detached, forced, counted, finished. Each step can be run again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm import nodes
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
    data_path: str = "",
    access: Access = SSH,
    files: StateFiles = SSH_FILES,
) -> None:
    """Make the survivor the only manager of its swarm, from the raft state on its disk.

    Its state is packed first, with dockerd stopped, and given to ``keep``; dockerd is then started without its swarm, so that
    it reaches no other manager any more, and told to force a new cluster. ``data_path`` is its address for overlay traffic
    where that is another one. Raises SwarmLocked, SwarmError, HostError.
    """
    if survivor.disk is not None and survivor.disk.locked:
        raise SwarmLocked(
            "forcing a new cluster",
            where=str(survivor.target),
            came_back="its raft state is encrypted with the unlock key, and no engine can force a new cluster from that "
            "(moby issue 36852)",
            do_now="Bring a majority of the managers back and unlock them. Nothing was changed.",
        )
    keep(files.save(survivor.target, survivor.root, detach=True))
    init(survivor.target, cluster_id, data_path=data_path, access=access)


def init(target: Target, cluster_id: str, *, data_path: str = "", access: Access = SSH) -> None:
    """Force a new cluster from the detached raft state on a node; judged by what its engine is afterwards."""
    limit = Deadline.after(FORCE_TIMEOUT, access.clock)
    address = with_port(target.address, MANAGEMENT)
    # Address pool and ports are left out: those of the swarm stay (swarmkit manager.go, becomeLeader).
    addresses = {"ListenAddr": address, "AdvertiseAddr": address, "DataPathAddr": data_path}
    body = {**addresses, "ForceNewCluster": True, "Spec": {}}
    refused: Failure | None = None
    try:
        access.engine(target).swarm_init(body)
    except Failure as error:
        refused = error
    forced = limit.poll(lambda: _is_manager(access, target, cluster_id), 0.5) if _may_come(access, target) else None
    if forced is None:
        raise SwarmError(
            "forcing a new cluster",
            where=str(target),
            came_back=refused.came_back if refused else f"no leader after {limit.seconds:.0f} s",
            do_now="Look at `journalctl -u docker` there, then run again. Its raft state is as it was, and in the backup.",
        )


def was_forced(begun: Sight, cluster_id: str, *, access: Access = SSH) -> bool:
    """Whether a recovery that was begun on a node has come as far as its force; its dockerd may be restarting just now."""
    if begun.disk is None or not begun.recovering or not begun.disk.attached:
        return False
    patience = Deadline.after(RESTART, access.clock)
    return patience.poll(lambda: _is_manager(access, begun.target, cluster_id), 0.5) is not None


def finish(survivor: Sight, cluster_id: str, *, access: Access = SSH, files: StateFiles = SSH_FILES) -> Outcome:
    """Take the force out of dockerd's memory by a restart, wait for the nodes to come back, and count what is there."""
    target = survivor.target
    files.finish(target, survivor.root)
    limit = Deadline.after(FORCE_TIMEOUT, access.clock)
    if limit.poll(lambda: _is_manager(access, target, cluster_id), 0.5) is None:
        raise SwarmError(
            "waiting for the recovered swarm",
            where=str(target),
            came_back=f"no leader {limit.seconds:.0f} s after dockerd was restarted",
            do_now="Look at `journalctl -u docker` there, then run again.",
        )
    engine = find_manager(access, [target], cluster_id, limit).engine
    contents = count(engine, limit)

    def settled() -> bool | None:
        states = [nodes.state_of(node) for node in persist(engine.nodes, limit)]
        return True if all(state in ("ready", "down") for state in states) else None

    Deadline.after(REATTACH, access.clock).poll(settled, 1.0)
    everyone = sorted(persist(engine.nodes, limit), key=nodes.hostname_of)
    ready = tuple(nodes.hostname_of(n) for n in everyone if nodes.is_ready(n))
    return Outcome(contents, ready, tuple(nodes.hostname_of(n) for n in everyone if not nodes.is_ready(n)))


def give_up(begun: Sight, *, files: StateFiles = SSH_FILES) -> str | None:
    """A recovery that was begun on a node whose swarm then got its leader back: the node goes back into it as it was.

    State that came from a backup is taken away instead; returns where it is now.
    """
    return files.undo(begun.target, begun.root)


def _is_manager(access: Access, target: Target, cluster_id: str) -> bool | None:
    place = place_of(access, target)
    return True if place is not None and place.control and not place.error and place.cluster_id == cluster_id else None


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
