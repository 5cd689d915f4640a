"""What to do about what a look at a swarm has found: one concrete command."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from proxmox_swarm.swarm.status import NodeStatus, Problem, Status

LAB = "lab"
#: What `up` refuses or cannot see: who is to look at the node, and where it is written what to do then.
BY_HAND = {
    "foreign": "whose swarm is it? `up` leaves it alone: docs/runbooks/node-in-another-swarm.md",
    "twin": "which node does it say it is? `up` cannot tell whose that is: docs/runbooks/two-engines-one-node.md",
}


def next_step(status: Status, stack: str, *, undeclared: str = "report") -> str:
    """The command that helps first, and why; for the most urgent problem where there are several.

    ``undeclared`` is what is declared for members that nobody declared: report or remove.
    """
    commands = _Commands(status, stack, undeclared)
    if status.problems:
        problem = status.problems[0]
        return commands.of[problem.kind](problem)
    drained = [node.name for node in status.nodes if node.hand_drain is not None]
    if drained:
        return f"{commands.ours('undrain', drained[0])}    when the work on {drained[0]} is done"
    if status.ca_rotation:
        return f"{commands.ours('status')}    in a minute: the CA rotation has to end"
    if status.uneven:
        return (
            f"{commands.ours('rebalance')}    RESTARTS the tasks of {', '.join(status.uneven)}, if that is worth it now"
        )
    return "nothing needs doing"


class _Commands:
    """The commands by kind of problem."""

    def __init__(self, status: Status, stack: str, undeclared: str) -> None:
        self.status = status
        self.removes = undeclared == "remove"
        self.stack = stack
        self.up = "make up" if stack == LAB else f"pulumi up --refresh -s {stack}"
        self.of: dict[str, Callable[[Problem], str]] = {
            "quorum": self._quorum,
            "machine": lambda p: self._machine([n for n in self.status.silent if n.name == p.subject]),
            "engine": lambda p: self._engine(next(n for n in self.status.nodes if n.name == p.subject)),
            "locked": lambda _: self._unlock(),
            "member": self._member,
            "drifted": lambda p: f"{self.up}    puts {p.subject} back to what is declared",
            "certificate": lambda p: self.on(p.subject, "sudo journalctl -u docker -g certificate"),
            "disk": self._disk,
            "service": lambda p: self.on(self._manager(), f"docker service ps --no-trunc {p.subject}"),
            "undeclared": self._undeclared,
        }

    def ours(self, *words: str) -> str:
        """A command of our own for this stack."""
        return " ".join(["proxmox-swarm", *words, *([] if self.stack == LAB else ["--stack", self.stack])])

    def on(self, node: str, command: str) -> str:
        """A command on a node."""
        return f"{self.ours('connect', node)} -- {command}"

    def _unlock(self) -> str:
        return f"{self.ours('unlock')}    gives the locked managers their key"

    def _manager(self) -> str:
        """One that can be connected to, and best that leads: somebody else's may lead as well."""
        managers = [n for n in self.status.nodes if n.declared is not None and n.role == "manager"]
        return max(managers, key=lambda n: (n.engine == "active", n.entry is not None and n.entry.leader)).name

    def _quorum(self, _: Problem) -> str:
        managers = [n for n in self.status.nodes if n.declared is not None and n.role == "manager"]
        if any(n.verdict == "locked" for n in managers):
            return self._unlock()
        silent = [n for n in managers if n in self.status.silent]
        if not any(n.answers for n in self.status.nodes) and not any(n.power for n in silent):
            return f"{self.ours('connect', managers[0].name)}    no node answers at all: is it the way from here?"
        if silent:
            return f"{self._machine(silent)}; if a majority is gone for good: {self.ours('recover')}"
        stopped = next((n for n in managers if n.verdict == "unreachable"), managers[0])
        return self._engine(stopped)

    def _engine(self, node: NodeStatus) -> str:
        """For a dockerd that does not answer. One that ends as it starts would do so again."""
        if node.unit != "failed":
            return self.on(node.name, "sudo systemctl restart docker")
        why = self.on(node.name, "sudo journalctl --no-pager -n 40 -u docker")
        hint = f"; {self.up} puts back a daemon.json that was edited by hand"
        return f"{why}    why it does not start{hint if self.status.verdict != 'no-quorum' else ''}"

    def _machine(self, nodes: Sequence[NodeStatus]) -> str:
        """For machines that do not answer. Starting them needs no quorum, which `up` does."""
        stopped = [node.name for node in nodes if node.power == "stopped"]
        if stopped:
            return f"{self.ours('start', *stopped)}    Proxmox VE says that {_are(stopped)} off"
        running = [node for node in nodes if node.power == "running"]
        if running:
            told = ", ".join(f"{n.declared.vm_id} on {n.declared.host}" for n in running if n.declared is not None)
            return f"{self.ours('status')}    again in a minute if they are booting; else the console of machine {told}"
        return f"{self.up}    starts {', '.join(node.name for node in nodes)} if off, makes what is gone"

    def _member(self, problem: Problem) -> str:
        node = next(n for n in self.status.nodes if n.name == problem.subject and n.verdict != "ok")
        if node.verdict in BY_HAND:
            return f"{self.on(problem.subject, 'docker info')}    {BY_HAND[node.verdict]}"
        if node.verdict == "not_ready" and node.entry is not None and node.entry.state == "unknown":
            return f"{self.ours('status')}    in half a minute: a new leader waits for the nodes' heartbeats"
        return f"{self.up}    puts {problem.subject} right in the swarm"

    def _disk(self, problem: Problem) -> str:
        node = next(n for n in self.status.nodes if n.name == problem.subject)
        if any(not disk.mounted for disk in node.disks):
            return self.on(problem.subject, "systemctl --failed --type mount")
        return self.on(problem.subject, "docker system df")

    def _undeclared(self, problem: Problem) -> str:
        node = next(n for n in self.status.nodes if n.name == problem.subject and n.declared is None)
        # A node whose address the swarm does not know could be anybody's: `up` leaves it.
        if self.removes and node.address:
            return f"{self.up}    removes {problem.subject}, as cluster.undeclared says; or declare it before that"
        identity = node.entry.node_id if node.entry is not None else problem.subject
        raft = node.entry is not None and node.entry.reachability
        command = f"docker node demote {identity}" if raft else f"docker node rm --force {identity}"
        return f"{self.on(self._manager(), command)}    or declare it in Pulumi.{self.stack}.yaml"


def _are(names: Sequence[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"
