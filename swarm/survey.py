"""After managers were lost: what is left of the swarm, on every manager there is or was, and which knows the most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm.access import SSH, Access
from proxmox_swarm.swarm.errors import Failure, NoManager, RecoveryRefused
from proxmox_swarm.swarm.local import LocalSwarm, local_swarm
from proxmox_swarm.swarm.parallel import all_answers
from proxmox_swarm.swarm.quorum import majority
from proxmox_swarm.swarm.state_files import SSH_FILES, StateFiles, StateOnDisk

#: Proxmox VE's words for a machine that takes part in nothing.
OFF = ("stopped", "absent")


@dataclass(frozen=True)
class Sight:
    """One manager: what its engine says, what is on its disk, and why that is not known. ``cluster_id`` is the disk's."""

    target: Target
    place: LocalSwarm | None = None
    disk: StateOnDisk | None = None
    cluster_id: str = ""
    why: str = ""

    @property
    def leads_somewhere(self) -> bool:
        """Whether it is a manager that has a leader: its swarm takes decisions."""
        return self.place is not None and self.place.state == "active" and self.place.control and not self.place.error

    @property
    def could_vote(self) -> bool:
        """Whether it is a manager that takes part in elections, or would once it is through or unlocked."""
        if self.disk is None or self.disk.position is None or not self.disk.attached or self.place is None:
            return False
        return self.place.state in ("pending", "locked") or (self.place.state == "active" and self.place.control)

    @property
    def recovering(self) -> bool:
        """Whether a recovery was begun here and has not ended."""
        return self.disk is not None and self.disk.recovering

    @property
    def root(self) -> str:
        """dockerd's data folder, on a host that answered."""
        return self.disk.root if self.disk is not None else ""

    def __str__(self) -> str:
        engine = f"engine {self.place.state}" if self.place is not None else "engine does not answer"
        if self.disk is None:
            return f"does not answer: {self.why}"
        if self.place is not None and self.place.control and not self.leads_somewhere:
            engine += ", no leader"
        found = str(self.disk.position) if self.disk.position else "no raft state"
        mark = "; a recovery was begun here" if self.recovering else ""
        return f"{engine}; {found}{mark}{'; locked' if self.disk.locked else ''}"


@dataclass(frozen=True)
class Survey:
    """What was found of swarm ``cluster_id`` on its managers. A node that may be at two addresses is there twice."""

    cluster_id: str
    sights: tuple[Sight, ...]

    def of(self, name: str) -> Sight:
        """What was found on this node, at the address that answers if one does. Raises ValueError for no such node."""
        return max((s for s in self.sights if s.target.node == name), key=lambda s: s.disk is not None)

    @property
    def mine(self) -> list[Sight]:
        """Those with raft state of this swarm."""
        return [s for s in self.sights if s.disk is not None and s.disk.position and s.cluster_id == self.cluster_id]

    @property
    def working(self) -> Sight | None:
        """A manager of this swarm that has a leader."""
        return next((s for s in self.mine if s.leads_somewhere), None)

    @property
    def begun(self) -> Sight | None:
        """Where a recovery was begun and has not ended."""
        return next((s for s in self.mine if s.recovering), None)

    @property
    def named(self) -> frozenset[str]:
        """The addresses of all managers that any of them knows."""
        return frozenset(address for s in self.mine if s.place is not None for address in s.place.managers)

    def survivor(self) -> Sight:
        """The one with the newest raft state; the first declared of several that are equal. Raises NoManager."""
        candidates = [s for s in self.mine if s.disk is not None and s.disk.position is not None]
        if not candidates:
            raise NoManager(
                f"looking for what is left of swarm {self.cluster_id}",
                came_back="; ".join(f"{s.target}: {s}" for s in self.sights),
                do_now="No manager has its raft state. `proxmox-swarm restore` puts a backup in place.",
            )
        return max(candidates, key=lambda s: s.disk.position)  # type: ignore[union-attr, arg-type, return-value]

    def refuse_while_alive(self) -> None:
        """Raise RecoveryRefused while a majority answers, with a leader or without: a force would split the swarm."""
        working = self.working
        if working is not None:
            raise RecoveryRefused(
                "forcing a new cluster",
                where=str(working.target),
                came_back=f"swarm {self.cluster_id} has a leader and takes decisions",
                do_now="There is nothing to recover: `up` with a refresh mends single nodes. A leader notices a loss after "
                "some seconds: if it was just now, look again.",
            )
        voters = [s for s in self.mine if s.could_vote]
        # The engines' own word for how many managers raft has, where there is one; else as many as were ever brought up.
        size = len(self.named) or len({s.target.node for s in self.sights if s.target.host_key})
        if len(voters) >= majority(size):
            locked = [s.target.node for s in voters if s.place is not None and s.place.state == "locked"]
            raise RecoveryRefused(
                "forcing a new cluster",
                came_back=f"{', '.join(str(s.target) for s in voters)} answer: a majority, which elects a leader by itself",
                do_now=f"Unlock {', '.join(locked)}."
                if locked
                else "Look why they do not reach each other: 2377/tcp between them, `journalctl -u docker` on each.",
            )

    def not_shown_off(self, survivor: Sight, power: Mapping[str, str]) -> list[str]:
        """The other managers that may be running unseen, each with what is known of it.

        ``power`` is Proxmox VE's word for the machine of each node: ``stopped`` and ``absent`` show it to be off. One that
        answers at another address of its own is seen.
        """
        seen = {s.target.node for s in self.sights if s.disk is not None}
        unseen = [
            f"{s.target} ({s.why}; {power.get(s.target.node, 'its machine is not known')})"
            for s in self.sights
            if s.target.node not in {survivor.target.node, *seen} and power.get(s.target.node) not in OFF
        ]
        known = {s.target.address for s in self.sights}
        return unseen + [f"{address} (a manager this stack does not know)" for address in sorted(self.named - known)]


def survey(
    managers: Sequence[Target], cluster_id: str, *, access: Access = SSH, files: StateFiles = SSH_FILES
) -> Survey:
    """Ask every manager and look at its disk, all at once. A host that does not answer is a finding.

    ``managers`` are all that may be at work, declared or not; one without a host key was never brought up, and is not asked.

    Takes up to 20 s where the quorum is lost: so long an engine looks for a leader before it answers.
    """

    def look(target: Target) -> Sight:
        if not target.host_key:
            return Sight(target, why="no host key of it is known: no `up` that ended has brought it up")
        try:
            disk = files.look(target)
            cluster = access.cluster_on_disk(target, disk.root)
        except Failure as error:
            return Sight(target, why=error.came_back.partition("\n")[0] or error.what)
        try:
            place = local_swarm(access.engine(target).info())
        except Failure as error:
            return Sight(target, None, disk, cluster, error.came_back.partition("\n")[0])
        return Sight(target, place, disk, cluster)

    return Survey(cluster_id, tuple(all_answers(look, list(managers))))
