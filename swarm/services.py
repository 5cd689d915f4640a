"""Whether services run as they should: how many tasks run, how many are wanted, and why not, in the engine's own words.

Counted from tasks and nodes: the engine's own ``ServiceStatus`` takes tasks on a node that is down for running ones
(swarmkit manager/controlapi/service.go).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from proxmox_swarm.host.redact import redact
from proxmox_swarm.swarm import nodes
from proxmox_swarm.swarm.engine import Json
from proxmox_swarm.swarm.placement import takes_tasks

Mode = Literal["replicated", "global", "replicated-job", "global-job"]
_MODES: dict[str, Mode] = {
    "Replicated": "replicated",
    "Global": "global",
    "ReplicatedJob": "replicated-job",
    "GlobalJob": "global-job",
}
_FAILED = ("failed", "rejected")
_GIVEN_UP = ("shutdown", "remove")
#: What a task says that no node can take (swarmkit manager/scheduler/scheduler.go, noSuitableNode).
_NO_NODE = "no suitable node"
#: Longer errors are cut: the engine's own commands have the rest.
_QUOTED = 240


@dataclass(frozen=True)
class ServiceStatus:
    """One service. For jobs ``wanted`` is how many completions, ``completed`` how many there are; else it is 0.

    A job is whole while nothing in it has failed that was not completed afterwards. ``no_place`` says that whatever is
    missing waits for a node that would take it.
    """

    service_id: str
    name: str
    mode: Mode
    running: int
    wanted: int
    completed: int
    whole: bool
    reason: str
    no_place: bool = False

    @property
    def is_job(self) -> bool:
        """Whether it is meant to come to an end."""
        return self.mode.endswith("-job")

    @property
    def progress(self) -> str:
        """How far it is, in words."""
        if self.is_job:
            return f"{self.completed} of {self.wanted} completed"
        return f"{self.running} of {self.wanted} running"


def mode_of(service: Json) -> Mode:
    """The mode of a service."""
    return next(mode for key, mode in _MODES.items() if key in (service["Spec"].get("Mode") or {"Replicated": {}}))


def replicas_of(service: Json) -> int:
    """How many tasks a replicated service is to have."""
    replicas = ((service["Spec"].get("Mode") or {}).get("Replicated") or {}).get("Replicas")
    return 1 if replicas is None else int(replicas)


def state_of(task: Json) -> str:
    """new, pending, assigned, accepted, preparing, ready, starting, running, complete, failed, rejected, …."""
    return str((task.get("Status") or {}).get("State") or "new")


def runs(task: Json, down: Collection[str]) -> bool:
    """Whether a task runs and is meant to; the records of a node that is down say so for a day."""
    return task.get("DesiredState") == "running" and state_of(task) == "running" and str(task.get("NodeID")) not in down


def judge(services: Sequence[Json], tasks: Sequence[Json], everyone: Sequence[Json]) -> tuple[ServiceStatus, ...]:
    """Every service by name; ``tasks`` and ``everyone`` are all tasks and all nodes of the swarm."""
    by_id = {node["ID"]: node for node in everyone}
    by_service: dict[str, list[Json]] = {}
    for task in tasks:
        by_service.setdefault(task.get("ServiceID") or "", []).append(task)
    found = [_judge(service, by_service.get(service["ID"], []), by_id) for service in services]
    return tuple(sorted(found, key=lambda service: service.name))


def _judge(service: Json, tasks: list[Json], by_id: Mapping[str, Json]) -> ServiceStatus:
    mode = mode_of(service)
    down = {t["NodeID"] for t in tasks if t.get("NodeID") and _is_down(by_id.get(t["NodeID"]))}
    if mode.endswith("-job"):
        iteration = _index((service.get("JobStatus") or {}).get("JobIteration"))
        tasks = [task for task in tasks if _index(task.get("JobIteration")) == iteration]
    places: dict[Any, list[Json]] = {}
    for task in sorted(tasks, key=lambda task: str(task.get("CreatedAt") or ""), reverse=True):
        places.setdefault(task.get("NodeID") if mode.startswith("global") else task.get("Slot", 0), []).append(task)
    if mode.startswith("global"):
        places = {place: found for place, found in places.items() if _has_place(service, found, by_id.get(place))}
    running = sum(any(runs(task, down) for task in found) for found in places.values())
    if mode.endswith("-job"):
        return _job(service, mode, places, down, running, by_id)
    wanted = replicas_of(service) if mode == "replicated" else len(places)
    absent = [found for found in places.values() if not any(runs(task, down) for task in found)]
    missing = [task for found in absent for task in found]
    no_place = bool(absent) and all(_NO_NODE in _error(found[0]) for found in absent)
    done = sum(_ended_well(service, found[0]) for found in places.values())
    halted = _halted(service)
    whole = running + done >= wanted and not halted
    reason = "" if whole else "; ".join(filter(None, (halted, _reason(missing, down, by_id))))
    return ServiceStatus(service["ID"], service["Spec"]["Name"], mode, running, wanted, 0, whole, reason, no_place)


def _job(
    service: Json, mode: Mode, places: Mapping[Any, list[Json]], down: set[str], running: int, by_id: Mapping[str, Json]
) -> ServiceStatus:
    open_places = [found for found in places.values() if not any(state_of(task) == "complete" for task in found)]
    completed = len(places) - len(open_places)
    total = ((service["Spec"].get("Mode") or {}).get("ReplicatedJob") or {}).get("TotalCompletions", 1)
    wanted = int(total) if mode == "replicated-job" else len(places)
    running = sum(state_of(t) == "running" and t.get("NodeID") not in down for found in open_places for t in found)
    troubled = [t for found in open_places if any(_error(task) for task in found) for t in found]
    whole = completed >= wanted or not troubled
    reason = "" if whole else _reason(troubled, down, by_id)
    return ServiceStatus(service["ID"], service["Spec"]["Name"], mode, running, wanted, completed, whole, reason)


def _has_place(service: Json, found: Sequence[Json], node: Json | None) -> bool:
    """Whether the swarm wants a task of a global service on this node, going by the tasks it made there."""
    if node is None or _is_down(node):
        return any(state_of(task) == "complete" for task in found)
    if any(task.get("DesiredState") not in _GIVEN_UP for task in found):
        return True
    # Given up after a failure that is not to be restarted; tasks taken away in good order end otherwise.
    return state_of(found[0]) in (*_FAILED, "complete") and takes_tasks(service["Spec"], node)


def _ended_well(service: Json, newest: Json) -> bool:
    """Whether a task came to its end and is not to be started again."""
    policy = (service["Spec"].get("TaskTemplate") or {}).get("RestartPolicy") or {}
    return state_of(newest) == "complete" and (policy.get("Condition") or "any") != "any"


def _halted(service: Json) -> str:
    """Why an update of the service stands still; "" when none does."""
    update = service.get("UpdateStatus") or {}
    if update.get("State") not in ("paused", "rollback_paused"):
        return ""
    return _quoted(str(update.get("Message") or "its update is paused"))


def _reason(tasks: Sequence[Json], down: set[str], by_id: Mapping[str, Json]) -> str:
    """Why tasks do not run: the newest error among them, else what they are at."""
    failed = [task for task in tasks if _error(task)]
    if failed:
        newest = max(failed, key=lambda task: str((task.get("Status") or {}).get("Timestamp") or ""))
        where = f" on {_hostname(newest, by_id)}" if newest.get("NodeID") else ""
        when = str((newest.get("Status") or {}).get("Timestamp") or "")[:19].replace("T", " ")
        return f"{state_of(newest)}{where}{f' at {when} UTC' if when else ''}: {_error(newest)}"
    lost = sorted({_hostname(task, by_id) for task in tasks if task.get("NodeID") in down})
    at_work = Counter(state_of(task) for task in tasks if task.get("DesiredState") not in _GIVEN_UP)
    told = [f"{', '.join(lost)} {'is' if len(lost) == 1 else 'are'} down"] if lost else []
    told += [f"{count} {state}" for state, count in sorted(at_work.items()) if state != "running"]
    return ", ".join(told) or "no task was made yet"


def _error(task: Json) -> str:
    status = task.get("Status") or {}
    if status.get("Err"):
        return _quoted(str(status["Err"]))
    return str(status.get("Message") or "no reason given") if state_of(task) in _FAILED else ""


def _quoted(text: str) -> str:
    line = " ".join(redact(text).split())
    return f'"{line}"' if len(line) <= _QUOTED else f'"{line[:_QUOTED]}…"'


def _hostname(task: Json, by_id: Mapping[str, Json]) -> str:
    node = by_id.get(task.get("NodeID") or "")
    return nodes.hostname_of(node) if node is not None else "a node that is gone"


def _is_down(node: Json | None) -> bool:
    return node is None or nodes.state_of(node) == "down"


def _index(version: Json | None) -> int:
    return int((version or {}).get("Index") or 0)  # an index of 0 is left out
