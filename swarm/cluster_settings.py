"""What a swarm as a whole is set to. The engine replaces the spec: it is read, changed and written back whole."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm.access import SSH, Access
from proxmox_swarm.swarm.errors import Failure
from proxmox_swarm.swarm.managers import find_manager
from proxmox_swarm.swarm.retry import persist

TIMEOUT = 90.0
_SECOND = 1_000_000_000

#: Field: its place in the engine's spec, and what one unit of ours is there (the engine counts nanoseconds).
FIELDS: dict[str, tuple[tuple[str, ...], int]] = {
    "election_tick": (("Raft", "ElectionTick"), 1),
    "heartbeat_tick": (("Raft", "HeartbeatTick"), 1),
    "snapshot_interval": (("Raft", "SnapshotInterval"), 1),
    "keep_old_snapshots": (("Raft", "KeepOldSnapshots"), 1),
    "task_history": (("Orchestration", "TaskHistoryRetentionLimit"), 1),
    "certificate_expiry": (("CAConfig", "NodeCertExpiry"), _SECOND),
    "dispatcher_heartbeat": (("Dispatcher", "HeartbeatPeriod"), _SECOND),
}


def apply(
    managers: Sequence[Target], cluster_id: str, wanted: Mapping[str, Any], *, access: Access = SSH
) -> dict[str, Any]:
    """Set the fields that are not None (durations in seconds, ``labels`` as a whole); returns them as they are afterwards.

    Raises NoManager, EngineError; ValueError for a field that is not one of FIELDS or ``labels``.
    """
    _check(wanted)
    limit = Deadline.after(TIMEOUT, access.clock)
    engine = find_manager(access, managers, cluster_id, limit).engine

    def once() -> dict[str, Any]:
        swarm = engine.swarm_inspect()
        spec = copy.deepcopy(swarm["Spec"])
        for name, value in wanted.items():
            if value is not None:
                _put(spec, name, value)
        if spec != swarm["Spec"]:
            engine.swarm_update(swarm["Version"]["Index"], spec)
        return _pick(spec, wanted)

    return persist(once, limit)


def observe(
    managers: Sequence[Target], cluster_id: str, wanted: Mapping[str, Any], *, access: Access = SSH
) -> dict[str, Any] | None:
    """The actual values of the declared fields; None when no manager answers."""
    _check(wanted)
    limit = Deadline.after(20, access.clock)
    try:
        engine = find_manager(access, managers, cluster_id, limit).engine
        return _pick(persist(engine.swarm_inspect, limit)["Spec"], wanted)
    except Failure:
        return None


def _check(wanted: Mapping[str, Any]) -> None:
    unknown = sorted(set(wanted) - {*FIELDS, "labels"})
    if unknown:
        raise ValueError(f"unknown swarm settings: {', '.join(unknown)}")


def _put(spec: dict[str, Any], name: str, value: Any) -> None:
    if name == "labels":
        spec["Labels"] = dict(value)
        return
    (section, key), unit = FIELDS[name]
    spec.setdefault(section, {})[key] = int(value) * unit


def _pick(spec: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in wanted.items():
        if value is None:
            found[name] = None
        elif name == "labels":
            found[name] = dict(spec.get("Labels") or {})
        else:
            (section, key), unit = FIELDS[name]
            actual = (spec.get(section) or {}).get(key) or 0
            found[name] = actual // unit if actual % unit == 0 else actual / unit
    return found
