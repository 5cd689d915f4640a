"""Even out services after nodes came back: tasks do not move by themselves, a forced update has them placed anew.

A forced update restarts every task of a service, in the service's own update policy. So only services are touched whose
tasks could be spread better, and of those none that would lose something by it.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm import nodes, placement
from proxmox_swarm.swarm import services as judged
from proxmox_swarm.swarm.access import SSH, Access
from proxmox_swarm.swarm.engine import EngineApi, Json
from proxmox_swarm.swarm.errors import Failure, SwarmError
from proxmox_swarm.swarm.managers import find_manager
from proxmox_swarm.swarm.retry import persist

#: How long a manager is looked for, and its answers waited for, an election included.
PATIENCE = 30.0
EVEN = "even"
_AT_WORK = ("updating", "rollback_started")
_NANO = 1_000_000_000


@dataclass(frozen=True)
class Plan:
    """What is to become of a service. ``spread`` has its running tasks a node, by host name, for every node that could
    take one; ``untouched`` says why it is left alone, "" when it is to be evened out.
    """

    service_id: str
    name: str
    spread: dict[str, int] = field(default_factory=dict)
    policy: str = ""
    untouched: str = ""

    @property
    def tasks(self) -> int:
        """How many tasks are started anew."""
        return sum(self.spread.values())


@dataclass(frozen=True)
class Outcome:
    """What became of a service: the spread before and after, and how many tasks are on another node now."""

    before: dict[str, int]
    after: dict[str, int]
    moved: int
    even: bool


@dataclass(frozen=True)
class _Seen:
    """The lists of one moment."""

    services: Sequence[Json]
    tasks: Sequence[Json]
    nodes: Sequence[Json]

    def tasks_of(self, service: Json) -> list[Json]:
        """The running tasks of a service."""
        down = {node["ID"] for node in self.nodes if nodes.state_of(node) == "down"}
        return [t for t in self.tasks if t.get("ServiceID") == service["ID"] and judged.runs(t, down)]


def plan(
    managers: Sequence[Target], cluster_id: str, names: Sequence[str] = (), *, access: Access = SSH
) -> tuple[Plan, ...]:
    """What would be done to the named services, or to all, sorted by name. Raises NoManager, EngineError, and SwarmError
    for a name that no service has.
    """
    limit = Deadline.after(PATIENCE, access.clock)
    engine = find_manager(access, managers, cluster_id, limit).engine
    seen = persist(lambda: _see(engine), limit)
    known = {service["Spec"]["Name"]: service for service in seen.services}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SwarmError(
            "looking for services",
            came_back=f"there is no {', '.join(unknown)}; there are: {', '.join(sorted(known)) or 'none'}",
            do_now="Name them as `docker service ls` does.",
        )
    return tuple(_plan(seen, known[name], named=name in names) for name in sorted(names or known))


def uneven(services: Sequence[Json], tasks: Sequence[Json], everyone: Sequence[Json]) -> tuple[Plan, ...]:
    """The services that would be evened out, by name, from all services, tasks and nodes of a swarm."""
    seen = _Seen(services, tasks, everyone)
    plans = [_plan(seen, service, named=False) for service in services]
    return tuple(sorted((plan for plan in plans if not plan.untouched), key=lambda plan: plan.name))


def even_out(
    managers: Sequence[Target], cluster_id: str, chosen: Plan, *, timeout: float, access: Access = SSH
) -> Outcome:
    """Restart the tasks of one service so that the scheduler places them anew; wait for its update to end well.

    Raises SwarmError when the update stands still, was rolled back, or has not ended after ``timeout`` seconds; it goes on
    by itself then. Raises NoManager, EngineError.
    """
    limit = Deadline.after(timeout, access.clock)
    engine = find_manager(access, managers, cluster_id, limit).engine
    seen = persist(lambda: _see(engine), limit)
    service = _find(seen, chosen)
    before = _plan(seen, service, named=True)
    if before.untouched:  # it has become even, or is no longer whole, while others had their turn
        return Outcome(before.spread, before.spread, 0, before.untouched == EVEN)
    places = {task.get("Slot"): task["NodeID"] for task in seen.tasks_of(service)}
    _force(engine, chosen.service_id, limit)
    last: list[Any] = [None]

    def ended() -> _Seen | None:
        try:
            engine = find_manager(access, managers, cluster_id, Deadline.after(1, access.clock)).engine
            seen = _see(engine)
        except Failure as error:
            last[0] = error
            return None
        service = _find(seen, chosen)
        update = service.get("UpdateStatus") or {}
        last[0] = update.get("Message") or update.get("State") or "it has not begun"
        state = update.get("State")
        if state in ("paused", "rollback_paused", "rollback_completed"):
            raise _failed(seen, chosen, str(last[0]))
        (status,) = judged.judge([service], seen.tasks, seen.nodes)
        return seen if state == "completed" and status.whole else None

    now = limit.poll(ended, 0.5)
    if now is None:
        said = last[0].came_back if isinstance(last[0], Failure) else last[0]
        raise SwarmError(
            f"evening out service {chosen.name}",
            came_back=f"its update has not ended after {timeout:.0f} s: {said}",
            do_now="It goes on by itself: `docker service ps` shows how far it is.",
        )
    service = _find(now, chosen)
    after = _plan(now, service, named=True)
    moved = sum(places.get(task.get("Slot")) not in (None, task["NodeID"]) for task in now.tasks_of(service))
    return Outcome(before.spread, after.spread, moved, after.untouched == EVEN)


def _see(engine: EngineApi) -> _Seen:
    return _Seen(engine.services(), engine.tasks({}), engine.nodes())


def _find(seen: _Seen, chosen: Plan) -> Json:
    for service in seen.services:
        if service["ID"] == chosen.service_id:
            return service
    raise SwarmError(f"evening out service {chosen.name}", came_back="it was removed meanwhile", do_now="")


def _plan(seen: _Seen, service: Json, *, named: bool) -> Plan:
    spec = service["Spec"]
    mode = judged.mode_of(service)
    if mode != "replicated":
        why = "a job" if mode.endswith("-job") else "global: one task a node"
        return Plan(service["ID"], spec["Name"], untouched=why)
    able = [node for node in seen.nodes if placement.takes_tasks(spec, node)]
    counts = Counter(task["NodeID"] for task in seen.tasks_of(service))
    rooms = {node["ID"]: placement.room(spec, node, _others(seen, service, node)) for node in able}
    spread = {
        nodes.hostname_of(node): counts[node["ID"]] for node in seen.nodes if node in able or counts.get(node["ID"])
    }
    why = _untouched(seen, service, able, placement.is_even(spec, counts, rooms, able), named)
    return Plan(service["ID"], spec["Name"], dict(sorted(spread.items())), _policy(spec), why)


def _untouched(seen: _Seen, service: Json, able: Sequence[Json], even: bool, named: bool) -> str:
    (status,) = judged.judge([service], seen.tasks, seen.nodes)
    if (service.get("UpdateStatus") or {}).get("State") in _AT_WORK:
        return "an update of it is at work"
    if not status.whole:
        return f"not whole: {status.progress}"
    if not able:
        return "no node can take its tasks now"
    if len(able) == 1:
        return f"{nodes.hostname_of(able[0])} alone can run it"
    if even:
        return EVEN
    data = _local_volumes(service["Spec"])
    if data and not named:
        return f"uneven, but it has data on its nodes, in volume {', '.join(data)}: name it to move it all the same"
    return ""


def _others(seen: _Seen, service: Json, node: Json) -> list[Json]:
    return [
        task
        for task in seen.tasks
        if task.get("NodeID") == node["ID"]
        and task.get("ServiceID") != service["ID"]
        and judged.state_of(task) not in nodes.ENDED
    ]


def _local_volumes(spec: Json) -> list[str]:
    """Named volumes that exist on the node alone: a task that moves starts with an empty one."""
    mounts = ((spec.get("TaskTemplate") or {}).get("ContainerSpec") or {}).get("Mounts") or ()

    def is_local(mount: Mapping[str, Any]) -> bool:
        driver = (mount.get("VolumeOptions") or {}).get("DriverConfig") or {}
        return (driver.get("Name") or "local") == "local" and not driver.get("Options")

    return sorted(m["Source"] for m in mounts if m.get("Type") == "volume" and m.get("Source") and is_local(m))


def _policy(spec: Json) -> str:
    """How the service's tasks are updated, in words; what is left out is the engine's default."""
    update = spec.get("UpdateConfig") or {"Parallelism": 1}
    parallel = int(update.get("Parallelism") or 0)
    words = [f"{parallel} at a time" if parallel else "all at once", update.get("Order") or "stop-first"]
    if delay := int(update.get("Delay") or 0):
        words.append(f"{delay / _NANO:.0f} s apart")
    return ", ".join(words)


def _force(engine: EngineApi, service_id: str, limit: Deadline) -> None:
    """Count ForceUpdate up by one, once: a write that timed out may have been applied."""
    wanted: list[int] = []

    def once() -> None:
        service = engine.service(service_id)
        spec = copy.deepcopy(service["Spec"])
        count = int(spec["TaskTemplate"].get("ForceUpdate") or 0)
        if not wanted:
            wanted.append(count + 1)
        if count < wanted[0]:
            spec["TaskTemplate"]["ForceUpdate"] = wanted[0]
            engine.service_update(service_id, service["Version"]["Index"], spec)

    persist(once, limit)


def _failed(seen: _Seen, chosen: Plan, message: str) -> SwarmError:
    (status,) = judged.judge([_find(seen, chosen)], seen.tasks, seen.nodes)
    return SwarmError(
        f"evening out service {chosen.name}",
        came_back=f"its update ended badly: {message}" + (f"; {status.reason}" if status.reason else ""),
        do_now="Look at `docker service ps --no-trunc`; nothing else was touched.",
    )
