"""Draining a node: its tasks have ended, and the services they were of are whole elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.swarm import nodes, services
from proxmox_swarm.swarm.access import Access
from proxmox_swarm.swarm.engine import EngineApi, Json
from proxmox_swarm.swarm.errors import DrainTimeout
from proxmox_swarm.swarm.lock import cluster_lock
from proxmox_swarm.swarm.retry import persist
from proxmox_swarm.swarm.services import ServiceStatus


def _drained(spec: dict[str, Any]) -> None:
    spec["Availability"] = "drain"


def drain(
    access: Access,
    engine: EngineApi,
    node: Json,
    where: object,
    cluster_id: str,
    timeout: float,
    mark: Callable[[dict[str, Any]], None] = _drained,
) -> None:
    """Drain a node, by what ``mark`` does to its spec; wait until tasks have ended and services are whole elsewhere.

    Not waited for: a node that is down, a service that was not whole before, one whose missing tasks no other node can take.
    One node of a swarm at a time, so that two do not take both tasks of a service. Raises DrainTimeout naming what is left,
    LockBusy, EngineError; the node then stays drained.
    """
    with cluster_lock(f"drains of {cluster_id}", f"draining {where}", access.clock):
        limit = Deadline.after(timeout, access.clock)
        carried = _carried(engine, node["ID"], limit)
        nodes.update(engine, node["ID"], mark, limit)
        _await_end_of_tasks(engine, node["ID"], where, limit)
        if carried:
            _await_services(engine, carried, where, limit)


def _judged(engine: EngineApi, limit: Deadline) -> tuple[tuple[ServiceStatus, ...], list[Json]]:
    def once() -> tuple[tuple[ServiceStatus, ...], list[Json]]:
        listed = engine.services()
        tasks = engine.tasks({}) if listed else []
        return services.judge(listed, tasks, engine.nodes() if listed else []), tasks

    return persist(once, limit)


def _carried(engine: EngineApi, node_id: str, limit: Deadline) -> set[str]:
    """The services that are whole now, with a task on this node."""
    judged, tasks = _judged(engine, limit)
    here = {task.get("ServiceID") for task in tasks if task.get("NodeID") == node_id and services.runs(task, ())}
    return {service.service_id for service in judged if service.whole and service.service_id in here}


def _await_end_of_tasks(engine: EngineApi, node_id: str, where: object, limit: Deadline) -> None:
    left: list[Json] = []

    def empty() -> bool | None:
        left[:] = nodes.unfinished_tasks(engine, node_id, limit)
        if not left:
            return True
        # Nobody ends the tasks of a node that is down: their records stay "running" for a day.
        current = nodes.get(engine, node_id, limit)
        return True if current is None or nodes.state_of(current) == "down" else None

    if limit.poll(empty, 0.2) is None:
        of = sorted({f"{task.get('ServiceID', '?')} ({task['Status'].get('State')})" for task in left})
        raise DrainTimeout(
            f"draining for {limit.seconds:.0f} s",
            where=str(where),
            came_back=f"{len(left)} tasks have not ended, of services {', '.join(of)}",
            do_now="Raise the drain deadline, or look at `docker service ps` for them.",
        )


def _await_services(engine: EngineApi, carried: set[str], where: object, limit: Deadline) -> None:
    left: list[ServiceStatus] = []

    def whole() -> bool | None:
        judged, _ = _judged(engine, limit)
        left[:] = [s for s in judged if s.service_id in carried and not (s.whole or s.no_place)]
        return not left or None

    if limit.poll(whole, 0.5) is None:
        told = "; ".join(f"{service.name}: {service.progress}, {service.reason}" for service in left)
        raise DrainTimeout(
            f"draining for {limit.seconds:.0f} s",
            where=str(where),
            came_back=f"services that its tasks were of are not whole on the other nodes: {told}",
            do_now="Mend them, or raise the drain deadline; then run again.",
        )
