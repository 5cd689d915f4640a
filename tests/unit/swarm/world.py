"""A swarm made of nothing: machines and engines that behave as moby's do, on a clock that runs only when looked at.

Faithful to what was measured with real engines: error codes and texts, asynchronous role changes, nodes that go down some
time after their machine, ghosts, forgotten nodes that stay active, versions that move without a second writer.
"""

from __future__ import annotations

import copy
import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from proxmox_swarm.host.deadline import Clock
from proxmox_swarm.host.errors import Unreachable
from proxmox_swarm.host.facts import Disk, HostFacts
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm.errors import EngineError
from proxmox_swarm.swarm.ports import PortSpec
from proxmox_swarm.swarm.quorum import majority
from proxmox_swarm.swarm.status import GIB
from proxmox_swarm.swarm.tokens import ca_digest36
from tests.unit.swarm.world_services import ServicesOfEngine, ServicesOfWorld, node_certificate

DOWN_AFTER = 15.0
ELECTION = 12.0
ROLE_DELAY = 0.4
#: A node renews its certificate some time after a root rotation has begun.
RENEWAL = 2.0
NOT_A_MANAGER = "This node is not a swarm manager. Use docker swarm init or join."
NO_LEADER = "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few are online."
TIMED_OUT = "Timeout was reached before node joined. The attempt to join the swarm will continue in the background."
BAD_TOKEN = "rpc error: code = InvalidArgument desc = A valid join token is necessary to join this cluster"
LOCKED = "Swarm is encrypted and needs to be unlocked before it can be used."
SEQUENCE = "rpc error: code = Unknown desc = update out of sequence"


FIRST_SPEC: dict[str, Any] = {
    "Name": "default",
    "Labels": {},
    "Orchestration": {"TaskHistoryRetentionLimit": 5},
    "Raft": {"SnapshotInterval": 10000, "ElectionTick": 10, "HeartbeatTick": 1},
    "Dispatcher": {"HeartbeatPeriod": 5_000_000_000},
    "CAConfig": {"NodeCertExpiry": 7_776_000_000_000_000},
}


@dataclass
class Node:
    """A node object in a swarm's store."""

    id: str
    hostname: str
    address: str
    spec: dict[str, Any]
    in_raft: bool
    issuer: str = ""
    version: int = 10
    last_beat: float = field(default=0.0, compare=False)
    made: float = field(default=0.0, compare=False)
    changed: float = field(default=0.0, compare=False)
    tasks: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Swarm:
    """What the managers of one swarm agree on."""

    id: str
    pem: str
    nodes: dict[str, Node] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)
    version: int = 5
    pool: list[str] = field(default_factory=list)
    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    unplaced: list[dict[str, Any]] = field(default_factory=list)  # tasks that no node was found for
    unlock_key: str = ""
    next_pem: str = ""  # of a root rotation that has not ended
    forced: int = 0

    def token(self, role: str) -> str:
        return f"SWMTKN-1-{ca_digest36(self.pem)}-{self.secrets[role]}"


@dataclass
class Machine:
    """A host with an engine. ``certificate`` is what is on its disk: (swarm id, node id, role)."""

    target: Target
    engine_id: str
    on: bool = True
    state: str = "inactive"
    certificate: tuple[str, str, str] | None = None
    expired: bool = False
    engine_up: bool = True
    unit: str = "active"  # systemd's word for dockerd
    restarted: bool = False  # whether dockerd has had to start its swarm part again: it then says "error" for good
    disks: tuple[Disk, ...] = (Disk("/", 50 * GIB, 40 * GIB),)
    issued: float = 0.0
    expires: float = 90 * 86400.0
    lock: str = ""  # the key that its own key on disk is encrypted with
    last_on: float = 0.0
    detects: str = ""  # the address that the engine takes because the machine has not the one it is told to advertise


class World(ServicesOfWorld):
    """All machines and swarms. ``sequence_errors`` makes so many of the next writes fail with a conflict."""

    def __init__(self, names: Sequence[str]) -> None:
        self.now = 1000.0
        self.lock = threading.RLock()
        self.clock = Clock(lambda: self.now, self.pass_time)
        self.machines: dict[str, Machine] = {}
        self.swarms: dict[str, Swarm] = {}
        self.events: list[tuple[float, Callable[[], None]]] = []
        self.calls: list[tuple[str, str, Any]] = []
        self.sequence_errors = 0
        self.beside = 0
        self.leader = ""  # the name of the machine; where it matters
        self.answers_lost = 0  # of so many updates of the swarm the answer is an error, and they are done all the same
        self.deaf = False  # whether engines take updates of the swarm and do nothing
        self.closed: list[str] = []
        #: what happens just before an engine is asked, given its node's name and the call
        self.on_call: Callable[[str, str], None] = lambda node, call: None
        self.leaderless_until = 0.0  # an election goes on
        self.notices_after = 0.0  # so long the leader calls a manager reachable whose machine is off
        self.careless = False  # whether engines let raft lose its majority: real ones refuse, from what they know
        self.serial = 0
        for index, name in enumerate(names):
            self.add(name, f"10.0.0.{index + 1}")

    # What a test does to the world

    def add(self, name: str, address: str) -> Target:
        target = Target(name, address, "ansible", f"ssh-ed25519 {name}")
        self.machines[address] = Machine(target, self.new_id("engine"))
        return target

    def __getitem__(self, name: str) -> Machine:
        return next(m for m in self.machines.values() if m.target.node == name)

    def target(self, name: str) -> Target:
        return self[name].target

    def targets(self, *names: str) -> list[Target]:
        return [self.target(name) for name in names]

    def rebuild(self, name: str) -> None:
        """The machine is replaced by a fresh one at the same address."""
        machine = self[name]
        self.machines[machine.target.address] = Machine(machine.target, self.new_id("engine"))

    def restart(self, name: str) -> None:
        """dockerd starts again; a manager's is locked then, where managers lock themselves."""
        machine = self[name]
        machine.on = True
        if machine.certificate is not None:
            machine.state = "locked" if machine.lock else "active"
            node = self.node_of(machine)
            if node is not None and machine.certificate[2] == "manager" and node.spec["Role"] == "worker":
                # It was restarted between leaving raft and its certificate as a worker, and joins raft once more.
                node.in_raft = True

    def build(self, managers: Sequence[str], workers: Sequence[str] = ()) -> Swarm:
        """A swarm of these, as if made long ago."""
        first = self.engine(self.target(managers[0]))
        first.swarm_init({"AdvertiseAddr": f"{self.target(managers[0]).address}:2377"})
        swarm = self.swarm_of(self[managers[0]])
        for name in [*managers[1:], *workers]:
            role = "manager" if name in managers else "worker"
            self.engine(self.target(name)).swarm_join(
                {
                    "AdvertiseAddr": f"{self.target(name).address}:2377",
                    "RemoteAddrs": [f"{self.target(managers[0]).address}:2377"],
                    "JoinToken": swarm.token(role),
                }
            )
            self.pass_time(3)
        self.calls.clear()
        return swarm

    def pass_time(self, seconds: float) -> None:
        if threading.current_thread() is not threading.main_thread():
            self.beside += 1
            if self.beside % 10 == 0:
                time.sleep(0.001)  # one that waits for its turn must not use up the time of the one at work
        with self.lock:
            end = self.now + seconds
            while due := sorted((e for e in self.events if e[0] <= end), key=lambda e: e[0])[:1]:
                self.now = max(self.now, due[0][0])
                self.events.remove(due[0])
                due[0][1]()
            self.now = end
            for machine in self.machines.values():
                machine.last_on = self.now if machine.on else machine.last_on
                node = self.node_of(machine)
                if node is not None and self.quorate(self.swarms[machine.certificate[0]]):
                    node.last_beat = self.now
                    self._hear(self.swarms[machine.certificate[0]], node, machine)
            for swarm in self.swarms.values():
                self._end_root_rotation(swarm)

    def _hear(self, swarm: Swarm, node: Node, machine: Machine) -> None:
        """What a node takes over from its managers: the unlock key, where it is one, and a certificate of the CA."""
        machine.lock = swarm.unlock_key if machine.certificate[2] == "manager" else ""
        if not swarm.next_pem:
            node.issuer = swarm.pem

    def _end_root_rotation(self, swarm: Swarm) -> None:
        if swarm.next_pem and all(node.issuer == swarm.next_pem for node in swarm.nodes.values()):
            swarm.pem, swarm.next_pem = swarm.next_pem, ""
            swarm.secrets = {role: self.new_id("secret") for role in swarm.secrets}
            swarm.version += 1

    def renew(self, swarm: Swarm) -> None:
        """Nodes that are alive get a certificate of the CA to come; the others when they are back."""
        for node in swarm.nodes.values():
            if swarm.next_pem and self.alive(swarm, node):
                node.issuer = swarm.next_pem
        if swarm.next_pem:
            self.events.append((self.now + RENEWAL, lambda: self.renew(swarm)))

    # What is true in the world

    def new_id(self, kind: str) -> str:
        self.serial += 1
        return hashlib.sha256(f"{kind} {self.serial}".encode()).hexdigest()[:25]

    def swarm_of(self, machine: Machine) -> Swarm:
        return self.swarms[machine.certificate[0]]

    def node_of(self, machine: Machine) -> Node | None:
        """The node object that this machine keeps alive."""
        if not machine.on or machine.state != "active" or machine.certificate is None:
            return None
        return self.swarms[machine.certificate[0]].nodes.get(machine.certificate[1])

    def machine_of(self, swarm: Swarm, node: Node) -> Machine | None:
        return next(
            (m for m in self.machines.values() if m.certificate and m.certificate[:2] == (swarm.id, node.id)), None
        )

    def alive(self, swarm: Swarm, node: Node) -> bool:
        machine = self.machine_of(swarm, node)
        return machine is not None and self.node_of(machine) is node

    def reachable(self, swarm: Swarm, node: Node) -> bool:
        """A member of raft passes for reachable when any manager of the swarm answers at its address (moby#34722)."""
        machine = self.machines.get(node.address)
        return (
            machine is not None
            and (machine.on or self.now - machine.last_on < self.notices_after)
            and machine.state == "active"
            and machine.certificate is not None
            and machine.certificate[0] == swarm.id
            and machine.certificate[2] == "manager"
        )

    def quorate(self, swarm: Swarm) -> bool:
        members = [n for n in swarm.nodes.values() if n.in_raft]
        return sum(self.alive(swarm, n) for n in members) >= majority(len(members)) if members else False

    # Access

    def engine(self, target: Target) -> FakeEngine:
        return FakeEngine(self, target)

    def cluster_on_disk(self, target: Target, root: str) -> str:
        certificate = self.reach(target).certificate
        return certificate[0] if certificate else ""

    def role_on_disk(self, target: Target, root: str) -> str:
        certificate = self.reach(target).certificate
        return certificate[2] if certificate else ""

    def host_facts(self, target: Target, mounts: Sequence[str]) -> HostFacts:
        machine = self.reach(target)
        pem = ""
        if machine.certificate is not None:
            pem = node_certificate(machine.certificate[0], self.now + machine.issued, self.now + machine.expires)
        return HostFacts(self.now, machine.disks, pem, machine.unit)

    def closed_ports(self, joiner: Target, manager: Target, peers: Sequence[str], spec: PortSpec) -> list[str]:
        return list(self.closed)

    def stop_engine(self, target: Target) -> None:
        self.reach(target).engine_up = False
        if self.leader == target.node:
            self.leader, others = "", [m for m in self.machines.values() if m.engine_up and m.certificate]
            elected = next(m.target.node for m in others if m.certificate and m.certificate[2] == "manager")
            self.events.append((self.now + ELECTION, lambda: setattr(self, "leader", elected)))

    def start_engine(self, target: Target) -> None:
        self.reach(target).engine_up = True

    def reach(self, target: Target) -> Machine:
        machine = self.machines.get(target.address)
        if machine is None or not machine.on:
            raise Unreachable("connecting by SSH", where=str(target), came_back="no answer", do_now="Check it.")
        return machine


class FakeEngine(ServicesOfEngine):
    """The engine at an address: what :class:`EngineApi` promises, and how moby breaks it."""

    def __init__(self, world: World, target: Target) -> None:
        self.world = world
        self.target = target

    @property
    def where(self) -> str:
        return str(self.target)

    def _call(self, name: str, detail: Any = None) -> Machine:
        self.world.on_call(self.target.node, name)
        with self.world.lock:
            self.world.calls.append((self.target.node, name, detail))
            self.world.pass_time(0.01)
            machine = self.world.reach(self.target)
            if not machine.engine_up:
                raise Unreachable(
                    f"asking for {name}", where=self.where, came_back="Cannot connect to the Docker daemon"
                )
            return machine

    def _error(self, status: int, text: str) -> EngineError:
        return EngineError(status, text, where=self.where)

    def _manage(self, name: str, detail: Any = None) -> tuple[Machine, Swarm]:
        machine = self._call(name, detail)
        if machine.state == "locked":
            raise self._error(503, LOCKED)
        if machine.state != "active" or machine.certificate[2] != "manager":
            raise self._error(503, NOT_A_MANAGER)
        swarm = self.world.swarm_of(machine)
        if not self.world.quorate(swarm) or machine.certificate[1] not in swarm.nodes:
            self.world.pass_time(5)
            raise self._error(500, NO_LEADER)
        if self.world.now < self.world.leaderless_until:
            raise self._error(500, NO_LEADER)
        return machine, swarm

    def info(self) -> dict[str, Any]:
        machine = self._call("info")
        swarm: dict[str, Any] = {
            "LocalNodeState": "error" if machine.restarted and machine.state == "active" else machine.state,
            "NodeID": "",
            "NodeAddr": "",
            "ControlAvailable": False,
            "Error": "rpc error: code = Unavailable desc = connection error" if machine.state == "error" else "",
        }
        if machine.certificate and machine.state != "inactive":
            cluster, node_id, role = machine.certificate
            store = self.world.swarms[cluster]
            # Neither a locked engine nor one whose part in the swarm fails knows its own id (measured with 26.1).
            swarm["NodeID"] = "" if machine.state in ("locked", "error") else node_id
            if machine.expired:
                swarm["Error"] = "error while loading TLS certificate: certificate not valid after 2026-01-01"
            swarm["NodeAddr"] = machine.detects or machine.target.address
            swarm["RemoteManagers"] = [
                {"NodeID": n.id, "Addr": f"{n.address}:2377"} for n in store.nodes.values() if n.in_raft
            ]
            node = store.nodes.get(node_id)
            left_raft = node is not None and node.spec["Role"] == "worker" and not node.in_raft
            if role == "manager" and machine.state == "active" and not left_raft:
                swarm["ControlAvailable"] = True
                if self.world.now < self.world.leaderless_until:
                    swarm["Error"] = NO_LEADER
                elif self.world.quorate(store) and node_id in store.nodes:
                    swarm["Cluster"] = {"ID": cluster}
                else:
                    self.world.pass_time(20)
                    swarm["Error"] = NO_LEADER
        return {
            "Name": machine.target.node,
            "ID": machine.engine_id,
            "Swarm": swarm,
            "DockerRootDir": "/var/lib/docker",
        }

    def version(self) -> dict[str, Any]:
        self._call("version")
        return {"Version": "29.8.2", "ApiVersion": "1.52"}

    def ping(self) -> bool:
        self._call("ping")
        return True

    def swarm_inspect(self) -> dict[str, Any]:
        _, swarm = self._manage("swarm_inspect")
        return {
            "ID": swarm.id,
            "Version": {"Index": swarm.version},
            "Spec": copy.deepcopy(swarm.spec),
            "RootRotationInProgress": bool(swarm.next_pem),
            "TLSInfo": {"TrustRoot": swarm.pem, "CertIssuerPublicKey": swarm.next_pem or swarm.pem},
            "JoinTokens": {"Manager": swarm.token("manager"), "Worker": swarm.token("worker")},
            "DefaultAddrPool": swarm.pool,
            "SubnetSize": 24,
            "DataPathPort": 4789,
        }

    def swarm_init(self, body: dict[str, Any]) -> str:
        machine = self._call("swarm_init", body)
        with self.world.lock:
            if machine.state != "inactive":
                raise self._error(503, "This node is already part of a swarm.")
            swarm = Swarm(
                self.world.new_id("swarm"),
                f"pem {self.world.serial}",
                secrets={"manager": "m" * 25, "worker": "w" * 25},
                pool=list(body.get("DefaultAddrPool") or ["10.0.0.0/8"]),
                spec=copy.deepcopy(FIRST_SPEC),
            )
            self.world.swarms[swarm.id] = swarm
            return self._become(machine, swarm, "manager", "active").id

    def swarm_join(self, body: dict[str, Any]) -> None:
        machine = self._call("swarm_join", body)
        with self.world.lock:
            if machine.state != "inactive":
                raise self._error(503, "This node is already part of a swarm.")
            remote = self.world.machines.get(body["RemoteAddrs"][0].rpartition(":")[0])
            if remote is None or not remote.on:
                machine.state = "pending"
                self.world.pass_time(20)
                raise self._error(503, TIMED_OUT)
            if remote.state != "active" or remote.certificate[2] != "manager":
                self.world.pass_time(10)
                raise self._error(503, "connect: connection refused")
            swarm = self.world.swarm_of(remote)
            role = next((r for r in ("manager", "worker") if swarm.token(r) == body["JoinToken"]), None)
            if role is None:
                self.world.pass_time(10)
                raise self._error(400, BAD_TOKEN)
            self._become(machine, swarm, role, body.get("Availability") or "active")

    def _become(self, machine: Machine, swarm: Swarm, role: str, availability: str) -> Node:
        node = Node(
            self.world.new_id("node"),
            machine.target.node,
            machine.detects or machine.target.address,
            {"Role": role, "Availability": availability, "Labels": {}},
            in_raft=role == "manager",
            issuer=swarm.next_pem or swarm.pem,
            last_beat=self.world.now,
            made=self.world.now,
            changed=self.world.now,
        )
        swarm.nodes[node.id] = node
        machine.state = "active"
        machine.certificate = (swarm.id, node.id, role)
        machine.lock = swarm.unlock_key if role == "manager" else ""
        return node

    def swarm_leave(self, *, force: bool = False) -> None:
        machine = self._call("swarm_leave", force)
        if machine.state == "inactive":
            raise self._error(503, "This node is not part of a swarm")
        if machine.certificate and machine.certificate[2] == "manager" and not force and machine.state == "active":
            raise self._error(
                503, "You are attempting to leave the swarm on a node that is participating as a manager."
            )
        machine.state, machine.certificate, machine.lock = "inactive", None, ""

    def swarm_unlock_key(self) -> str:
        return self._manage("swarm_unlock_key")[1].unlock_key

    def swarm_unlock(self, key: str) -> None:
        machine = self._call("swarm_unlock")
        if machine.state != "locked":
            raise self._error(409, "swarm is not locked")
        if key != machine.lock:
            raise self._error(401, "invalid key provided")
        machine.state = "active"
        if machine.certificate[2] == "manager" and not self.world.quorate(self.world.swarm_of(machine)):
            self.world.pass_time(10)
            raise Unreachable("unlocking", where=self.where, came_back="no answer in 10 s")

    def swarm_update(self, version: int, spec: dict[str, Any], **rotate: bool) -> None:
        _, swarm = self._manage("swarm_update", spec)
        if self._conflict(swarm) or version != swarm.version:
            raise self._error(500, SEQUENCE)
        if self.world.deaf:
            return
        swarm.spec, swarm.version = copy.deepcopy(spec), swarm.version + 1
        for role, flag in (("worker", "rotateWorkerToken"), ("manager", "rotateManagerToken")):
            if rotate.get(flag):
                swarm.secrets[role] = self.world.new_id("secret")
        locks = (spec.get("EncryptionConfig") or {}).get("AutoLockManagers")
        if not locks:
            swarm.unlock_key = ""
        elif not swarm.unlock_key or rotate.get("rotateManagerUnlockKey"):
            swarm.unlock_key = f"SWMKEY-1-{self.world.new_id('key')}"
        forced = (spec.get("CAConfig") or {}).get("ForceRotate") or 0
        if forced != swarm.forced:
            swarm.forced, swarm.next_pem = forced, f"pem {self.world.new_id('ca')}"
            self.world.events.append((self.world.now + RENEWAL, lambda: self.world.renew(swarm)))
        if self.world.answers_lost:
            self.world.answers_lost -= 1
            raise self._error(500, "rpc error: code = DeadlineExceeded desc = context deadline exceeded")

    def nodes(self) -> list[dict[str, Any]]:
        _, swarm = self._manage("nodes")
        return [self._shown(swarm, node) for node in swarm.nodes.values()]

    def node(self, node_id: str) -> dict[str, Any]:
        _, swarm = self._manage("node", node_id)
        return self._shown(swarm, self._find(swarm, node_id))

    def _find(self, swarm: Swarm, node_id: str) -> Node:
        if node_id not in swarm.nodes:
            raise self._error(404, f"node {node_id} not found")
        return swarm.nodes[node_id]

    def _conflict(self, thing: Swarm | Node) -> bool:
        if self.world.sequence_errors:
            self.world.sequence_errors -= 1
            thing.version += 1
            return True
        return False

    def _state(self, swarm: Swarm, node: Node) -> str:
        if self.world.alive(swarm, node) or self.world.now - node.last_beat < DOWN_AFTER:
            return "ready"
        return "down"

    def _shown(self, swarm: Swarm, node: Node) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "ID": node.id,
            "Version": {"Index": node.version},
            "CreatedAt": _moment(node.made),
            "UpdatedAt": _moment(max(node.changed, node.last_beat)),
            "Spec": copy.deepcopy(node.spec),
            "Description": {
                "Hostname": node.hostname,
                "Engine": {"EngineVersion": "29.8.2"},
                "TLSInfo": {"CertIssuerPublicKey": node.issuer},
            },
            "Status": {"State": self._state(swarm, node), "Addr": node.address},
        }
        if node.in_raft:
            reachable = "reachable" if self.world.reachable(swarm, node) else "unreachable"
            machine = self.world.machine_of(swarm, node)
            leads = machine is not None and machine.target.node == self.world.leader
            shown["ManagerStatus"] = {"Addr": f"{node.address}:2377", "Reachability": reachable, "Leader": leads}
        return shown

    def node_update(self, node_id: str, version: int, spec: dict[str, Any]) -> None:
        _, swarm = self._manage("node_update", (node_id, copy.deepcopy(spec)))
        with self.world.lock:
            node = self._find(swarm, node_id)
            if self._conflict(node) or version != node.version:
                raise self._error(500, SEQUENCE)
            for key in ("Role", "Availability"):
                if not spec.get(key):
                    raise self._error(400, f'invalid {key}: ""')
            if spec["Role"] == "worker" and node.spec["Role"] == "manager":
                self._may_demote(swarm, node)
            changed = spec["Role"] != node.spec["Role"]
            node.spec, node.version = copy.deepcopy(spec), node.version + 1
            node.changed = self.world.now
            if spec["Availability"] == "drain" and self.world.alive(swarm, node):
                node.tasks = [
                    {**task, "Status": {"State": "shutdown"}} if task.get("ends") else task for task in node.tasks
                ]
            if changed:
                self.world.events.append((self.world.now + ROLE_DELAY, lambda: self._raft(swarm, node, spec["Role"])))

    def _may_demote(self, swarm: Swarm, node: Node) -> None:
        raft = [n for n in swarm.nodes.values() if n.in_raft]
        if not node.in_raft:
            raise self._error(404, "can't find manager in raft memberlist")
        if len(raft) == 1:
            raise self._error(400, "attempting to demote the last manager of the swarm")
        left = [n for n in raft if n is not node and self.world.alive(swarm, n)]
        if len(left) < majority(len(raft) - 1) and not self.world.careless:
            raise self._error(400, "can't remove member from the raft: this would result in a loss of quorum")

    def _raft(self, swarm: Swarm, node: Node, role: str) -> None:
        node.in_raft = role == "manager"
        node.version += 1
        # The node gets its new certificate some time later.
        self.world.events.append((self.world.now + ROLE_DELAY, lambda: self._certify(swarm, node, role)))

    def _certify(self, swarm: Swarm, node: Node, role: str) -> None:
        machine = self.world.machine_of(swarm, node)
        if machine is None or node.spec["Role"] != role:
            return
        if machine.on and machine.state == "active":
            machine.certificate = (swarm.id, node.id, role)
        else:  # an engine that is away asks for it when it is back
            self.world.events.append((self.world.now + 1, lambda: self._certify(swarm, node, role)))

    def node_remove(self, node_id: str, *, force: bool = False) -> None:
        _, swarm = self._manage("node_remove", (node_id, force))
        node = self._find(swarm, node_id)
        if node.in_raft and node.spec["Role"] == "manager":
            raise self._error(400, f"node {node_id} is a cluster manager and is a member of the raft cluster.")
        if self._state(swarm, node) == "ready" and not force:
            raise self._error(400, f"node {node_id} is not down and can't be removed")
        del swarm.nodes[node_id]

    def tasks(self, filters: Mapping[str, list[str]]) -> list[dict[str, Any]]:
        _, swarm = self._manage("tasks", dict(filters))
        placed = [{"NodeID": node.id, **task} for node in swarm.nodes.values() for task in node.tasks]
        keys = {"node": "NodeID", "service": "ServiceID"}
        return [
            copy.deepcopy(task)
            for task in [*swarm.unplaced, *placed]
            if all(task.get(keys[key], "") in wanted for key, wanted in filters.items())
        ]


def _moment(seconds: float) -> str:
    """A time as engines write it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
