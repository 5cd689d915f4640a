"""Raft state on disks, and engines that force a new cluster from it: what the world needs for the loss of its quorum."""

from __future__ import annotations

import hashlib
from typing import Any

from proxmox_swarm.host.errors import Unreachable
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm.state_files import Packed, RaftPosition, StateOnDisk
from tests.unit.swarm.world import FakeEngine, World

LOCKED = b"sealed with right"


class Disks:
    """The swarm folders of the world's machines. ``positions`` says how far each is: commit, term, index."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.positions: dict[str, tuple[int, int, int]] = {}
        self.detached: set[str] = set()
        self.recovering: set[str] = set()
        self.locked: set[str] = set()
        self.put_there: set[str] = set()
        self.log: list[tuple[str, str]] = []
        self.fail_at = ""
        world.engine = lambda target: ForcingEngine(world, target, self)

    def look(self, target: Target) -> StateOnDisk:
        machine = self.world.reach(target)
        position = None
        if machine.certificate and machine.certificate[2] == "manager":
            commit, term, index = self.positions.get(target.node, (50, 2, 50))
            position = RaftPosition(commit, term, index, machine.certificate[1], 5)
        attached = target.node not in self.detached and machine.certificate is not None
        return StateOnDisk(
            "/var/lib/docker", position, attached, target.node in self.recovering, target.node in self.locked, "active"
        )

    def save(self, target: Target, root: str, *, detach: bool = False) -> Packed:
        machine = self._work("save", target)
        if detach:
            machine.state = "inactive"
            self.detached.add(target.node)
            self.recovering.add(target.node)
        commit, term, index = self.positions.get(target.node, (50, 2, 50))
        position = RaftPosition(commit, term, index, machine.certificate[1], 0)
        data = b"state of " + target.node.encode()
        return Packed(data, hashlib.sha256(data).hexdigest(), 2.0, position)

    def read_key(self, target: Target, root: str) -> bytes:
        self.world.reach(target)
        return LOCKED if target.node in self.locked else b"clear"

    def write_key(self, target: Target, root: str, key: bytes) -> None:
        self._work("write_key", target)
        assert key == b"clear" and target.node in self.detached
        self.locked.discard(target.node)

    def put(self, target: Target, root: str, packed: Packed) -> str | None:
        machine = self._work("put", target)
        swarm = next(iter(self.world.swarms.values()))
        node = next(n for n in swarm.nodes.values() if n.hostname == target.node)
        machine.certificate, machine.state = (swarm.id, node.id, "manager"), "inactive"
        self.detached.add(target.node)
        self.recovering.add(target.node)
        self.put_there.add(target.node)
        return None

    def undo(self, target: Target, root: str) -> str | None:
        machine = self._work("undo", target)
        machine.state = "active"
        self.detached.discard(target.node)
        self.recovering.discard(target.node)
        return None

    def finish(self, target: Target, root: str) -> None:
        self._work("finish", target)
        self.recovering.discard(target.node)

    def _work(self, what: str, target: Target) -> Any:
        machine = self.world.reach(target)
        self.log.append((what, target.node))
        if self.fail_at == what:
            raise Unreachable("working", where=str(target), came_back="the connection broke")
        return machine


class ForcingEngine(FakeEngine):
    """An engine that takes up the raft state on its disk when it is told to force, and knows what the swarm has."""

    def __init__(self, world: World, target: Target, disks: Disks) -> None:
        super().__init__(world, target)
        self.disks = disks

    def swarm_init(self, body: dict[str, Any]) -> str:
        if not body.get("ForceNewCluster"):
            return super().swarm_init(body)
        machine = self._call("swarm_init", body)
        self.disks.log.append(("force", self.target.node))
        if self.target.node in self.disks.locked:
            raise self._error(503, "Swarm is encrypted and needs to be unlocked before it can be used.")
        if self.disks.fail_at == "force":
            raise self._error(500, "manager stopped: failed to load WAL")
        swarm = self.world.swarm_of(machine)
        for node in swarm.nodes.values():
            node.in_raft = node.id == machine.certificate[1]
        machine.state = "active"
        self.disks.detached.discard(self.target.node)
        if body["Spec"].get("CAConfig", {}).get("ExternalCAs"):
            raise self._error(500, "error updating cluster settings: invalid protocol")
        swarm.spec["EncryptionConfig"] = {"AutoLockManagers": False}
        swarm.spec["CAConfig"]["ForceRotate"] = 0
        return str(machine.certificate[1])

    def listing(self, kind: str) -> list[dict[str, Any]]:
        self._manage("listing", kind)
        scopes = {"networks": [{"Scope": "swarm"}, {"Scope": "local"}]}
        return scopes.get(kind, [{"ID": kind}])
