"""One swarm, whoever calls and however often: found where it exists, made where none of the declared managers has one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm.access import SSH, Access, place_of
from proxmox_swarm.swarm.engine import EngineApi, Json
from proxmox_swarm.swarm.errors import (
    EngineError,
    Failure,
    ForeignSwarm,
    HostError,
    NoManager,
    SplitDeclaration,
    SwarmError,
    SwarmLocked,
)
from proxmox_swarm.swarm.local import LocalSwarm, local_swarm, with_port
from proxmox_swarm.swarm.lock import cluster_lock
from proxmox_swarm.swarm.managers import find_manager, remember
from proxmox_swarm.swarm.parallel import all_answers
from proxmox_swarm.swarm.ports import MANAGEMENT
from proxmox_swarm.swarm.retry import persist
from proxmox_swarm.swarm.tokens import ca_digest36

#: How long managers that do not answer are waited for when others are in a swarm already.
STRAGGLERS = 5.0


@dataclass(frozen=True)
class InitOptions:
    """What only ``swarm init`` can set, and the first spec (the engine's JSON; left out fields get its defaults).

    ``data_path`` has the address for overlay traffic of each manager, by name, where that is another one.
    """

    address_pool: tuple[str, ...] = ()
    subnet_size: int = 24
    data_path_port: int = 4789
    data_path: Mapping[str, str] = field(default_factory=dict)
    spec: Json = field(default_factory=dict)


@dataclass(frozen=True)
class ClusterFacts:
    """The swarm that was found or made. ``init_node`` is the manager it was read from, or made on."""

    cluster_id: str
    ca_digest: str
    created: bool
    init_node: str
    address_pool: tuple[str, ...] = ()
    subnet_size: int = 0
    data_path_port: int = 0


@dataclass(frozen=True)
class ClusterView:
    """A verdict on the swarm: ok; unreachable when no manager takes a question, locked when one or more of them wait for
    their key besides. Then ``ca_digest`` is empty.
    """

    verdict: Literal["ok", "unreachable", "locked"]
    detail: str
    ca_digest: str
    facts: ClusterFacts | None
    error: Failure | None = None

    def require(self) -> ClusterFacts:
        """The facts, or the error that kept us from them."""
        if self.facts is None:
            raise self.error or NoManager("reading the swarm", came_back=self.detail)
        return self.facts


@dataclass(frozen=True)
class _Probe:
    target: Target
    engine: EngineApi
    local: LocalSwarm | None = None
    cluster_id: str = ""
    error: Failure | None = None

    @property
    def manages(self) -> bool:
        """Whether it is a working manager of a swarm."""
        return self.local is not None and self.local.state == "active" and self.local.control and not self.local.error

    @property
    def settled(self) -> bool:
        """Whether it answered with something that will not change by waiting."""
        return self.local is not None and self.local.state in ("inactive", "active", "locked") and not self.local.error


def find_or_init(
    managers: Sequence[Target], init: InitOptions, *, deadline: float, access: Access = SSH
) -> ClusterFacts:
    """The swarm that the declared managers are in, or a new one on the first of them.

    Every declared manager is asked. A new swarm is made only when all of them answer and none is in one; a manager that
    does not answer within ``deadline`` seconds stops that. Raises SwarmError (SplitDeclaration, ForeignSwarm, NoManager,
    SwarmLocked) and HostError.
    """
    name = "init " + " ".join(sorted(target.address for target in managers))
    with cluster_lock(name, "looking for the swarm, or making it", access.clock):
        limit = Deadline.after(deadline, access.clock)
        probes = _probe_all(access, managers, limit)
        found = _agreed(probes)
        if found is not None:
            facts = _facts(found, created=False, deadline=limit)
            _require_made_like(facts, init, found.target)
            return facts
        first = probes[0]
        node_id_error = _init(first, init)
        if node_id_error is not None:
            # Init is not atomic: it may have made the swarm and failed to apply the spec.
            again = _probe(access, first.target)
            if not again.manages:
                raise node_id_error
        made = limit.poll(lambda: p if (p := _probe(access, first.target)).manages else None)
        if made is None:
            raise SwarmError(
                "initialising the swarm",
                where=str(first.target),
                came_back="it did not become a working manager in time",
                do_now="Look at `journalctl -u docker` there, then run again.",
            )
        return _facts(made, created=True, deadline=limit)


def read_cluster(managers: Sequence[Target], cluster_id: str, *, access: Access = SSH) -> ClusterView:
    """The swarm as any of its managers tells it. No answer is a verdict; the way there goes into ``detail``."""
    limit = Deadline.after(20, access.clock)
    try:
        manager = find_manager(access, managers, cluster_id, limit)
        facts = _read_facts(manager.engine, manager.target, created=False, deadline=limit)
    except Failure as error:
        places = all_answers(lambda target: place_of(access, target), list(managers))
        locked = any(place is not None and place.state == "locked" for place in places)
        return ClusterView("locked" if locked else "unreachable", str(error).partition("\n")[0], "", None, error)
    return ClusterView("ok", "", facts.ca_digest, facts)


def _probe(access: Access, target: Target) -> _Probe:
    engine = access.engine(target)
    try:
        local = local_swarm(engine.info())
        cluster_id = local.cluster_id
        if local.state != "inactive" and not cluster_id:
            # Workers, and managers without quorum, know their swarm only by their certificate.
            cluster_id = access.cluster_on_disk(target, local.root)
    except Failure as error:
        return _Probe(target, engine, error=error)
    return _Probe(target, engine, local, cluster_id)


def _probe_all(access: Access, managers: Sequence[Target], limit: Deadline) -> list[_Probe]:
    """Ask all at once, again and again until they have settled; an existing swarm does not wait long for stragglers."""
    stragglers = Deadline.after(min(STRAGGLERS, limit.left), limit.clock)
    probes = all_answers(lambda target: _probe(access, target), list(managers))
    while not all(probe.settled for probe in probes):
        if limit.over or (stragglers.over and any(probe.manages for probe in probes)):
            break
        limit.clock.sleep(0.2)
        again = [probe.target for probe in probes if not probe.settled]
        renewed = {probe.target: probe for probe in all_answers(lambda target: _probe(access, target), again)}
        probes = [renewed.get(probe.target, probe) for probe in probes]
    return probes


def _agreed(probes: Sequence[_Probe]) -> _Probe | None:
    """The manager to go on with, or None when a new swarm is called for. Raises when neither is safe."""
    swarms: dict[str, list[_Probe]] = {}
    for probe in probes:
        if probe.local is not None and probe.local.state != "inactive" and probe.cluster_id:
            swarms.setdefault(probe.cluster_id, []).append(probe)
    if len(swarms) > 1:
        raise SplitDeclaration(
            "looking for the swarm of the declared managers",
            came_back="they are in different swarms: "
            + "; ".join(f"{', '.join(str(p.target) for p in found)} in {key}" for key, found in swarms.items()),
            do_now="Decide which swarm this is, and take the managers of the other one out of it or out of settings.",
        )
    working = next((probe for probe in probes if probe.manages), None)
    if working is not None:
        return working
    locked = next((p for p in probes if p.local is not None and p.local.state == "locked"), None)
    if locked is not None:
        raise SwarmLocked(
            "looking for the swarm of the declared managers",
            where=str(locked.target),
            came_back="its swarm state is locked",
            do_now="Unlock the managers with `proxmox-swarm unlock`, or `docker swarm unlock` on each; then run again.",
        )
    if swarms:
        cluster_id, members = next(iter(swarms.items()))
        seen = sorted({a for p in members if p.local is not None for a in p.local.managers})
        states = "; ".join(f"{p.target}: {_state(p)}" for p in probes)
        if any(p.local is not None and (p.local.control or p.local.error) for p in members):
            raise NoManager(
                f"looking for a working manager of swarm {cluster_id}",
                came_back=states,
                do_now="Bring a majority of its managers back, then run again. No new swarm is made beside it.",
            )
        raise ForeignSwarm(
            "looking for the swarm of the declared managers",
            came_back=f"{', '.join(str(p.target) for p in members)}: worker of swarm {cluster_id}, whose managers are at "
            f"{', '.join(seen) or 'unknown addresses'}",
            do_now="Declare those managers, or take the nodes out of that swarm first.",
        )
    unsettled = [probe for probe in probes if not probe.settled]
    if unsettled:
        raise NoManager(
            "initialising the swarm",
            came_back="; ".join(f"{p.target}: {_state(p)}" for p in unsettled),
            do_now="A new swarm is made only when every declared manager answers: it might be in one. "
            "Start it, or take it out of settings.",
        )
    return None


def _state(probe: _Probe) -> str:
    if probe.local is None:
        return probe.error.came_back.partition("\n")[0] if probe.error is not None else "no answer"
    return f"{probe.local.state} {probe.local.error}".strip()


def _init(first: _Probe, options: InitOptions) -> Failure | None:
    address = with_port(first.target.address, MANAGEMENT)
    body = {
        "ListenAddr": address,
        "AdvertiseAddr": address,
        "DataPathAddr": options.data_path.get(first.target.node, ""),
        "DataPathPort": options.data_path_port,
        "DefaultAddrPool": list(options.address_pool),
        "SubnetSize": options.subnet_size,
        "ForceNewCluster": False,
        "Availability": "active",
        "Spec": options.spec,
    }
    try:
        first.engine.swarm_init(body)
    except (EngineError, HostError) as error:
        return error
    return None


def _require_made_like(facts: ClusterFacts, init: InitOptions, where: Target) -> None:
    """What a swarm was initialised with it keeps: settings that say otherwise would be believed and be wrong."""
    different = []
    if init.address_pool and facts.address_pool and sorted(init.address_pool) != sorted(facts.address_pool):
        different.append(f"addressPool: [{', '.join(facts.address_pool)}]")
    if facts.subnet_size and init.subnet_size != facts.subnet_size:
        different.append(f"subnetSize: {facts.subnet_size}")
    if init.data_path_port != facts.data_path_port:
        different.append(f"dataPathPort: {facts.data_path_port}")
    if different:
        raise SwarmError(
            f"taking over swarm {facts.cluster_id}",
            where=str(where),
            came_back=f"it was initialised with {', '.join(different)}, and keeps that",
            do_now="Say so under swarm:cluster; nothing of it was changed.",
        )


def _facts(probe: _Probe, *, created: bool, deadline: Deadline) -> ClusterFacts:
    facts = _read_facts(probe.engine, probe.target, created=created, deadline=deadline)
    remember(facts.cluster_id, probe.target)
    return facts


def _read_facts(engine: EngineApi, target: Target, *, created: bool, deadline: Deadline) -> ClusterFacts:
    swarm = persist(engine.swarm_inspect, deadline)
    return ClusterFacts(
        cluster_id=swarm["ID"],
        ca_digest=ca_digest36(swarm["TLSInfo"]["TrustRoot"]),
        created=created,
        init_node=target.node,
        address_pool=tuple(swarm.get("DefaultAddrPool") or ()),
        subnet_size=int(swarm.get("SubnetSize") or 0),
        data_path_port=int(swarm.get("DataPathPort") or 4789),
    )
