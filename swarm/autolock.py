"""Managers whose keys are encrypted at rest: on, off, another key, and unlocking those whose engine has restarted."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm.access import SSH, Access, place_of
from proxmox_swarm.swarm.engine import Json
from proxmox_swarm.swarm.errors import (
    EngineError,
    Failure,
    HostError,
    NoManager,
    RotationFailed,
    SwarmError,
    SwarmLocked,
)
from proxmox_swarm.swarm.lock import cluster_lock
from proxmox_swarm.swarm.managers import find_manager
from proxmox_swarm.swarm.parallel import all_answers
from proxmox_swarm.swarm.retry import persist

TIMEOUT = 90.0
#: How long an engine that took a key may keep us in the dark about whether it fits. Without a majority it answers an
#: /info after 20 s only.
JUDGE = 60.0
#: How long a refresh waits for an election to end.
PATIENCE = 5.0
#: A manager must not leave by itself: it would stay in raft and count in every majority.
NO_KEY = (
    "`pulumi up --refresh` tries the key before this one as well, `proxmox-swarm unlock --key-from-stdin` takes an older "
    "one. If that is lost, raise `generation` of {} in the settings, then `pulumi up --refresh`: where the other managers "
    "have a majority it is taken out of raft and rebuilt; its data disk stays."
)


@dataclass(frozen=True)
class Lock:
    """Whether managers lock themselves when their engine restarts, and the key that unlocks them ("" when they do not)."""

    enabled: bool
    key: str = field(default="", repr=False)


@dataclass(frozen=True)
class Seen:
    """The declared managers that wait for the key, by name, and what a manager that works says; None where none does."""

    locked: tuple[str, ...]
    lock: Lock | None


def observe(managers: Sequence[Target], cluster_id: str, *, access: Access = SSH) -> Seen:
    """What is there. Raises nothing that a host or an engine can cause."""
    limit = Deadline.after(PATIENCE, access.clock)
    lock: Lock | None = None
    try:
        engine = find_manager(access, managers, cluster_id, limit).engine
        enabled = _enabled(persist(engine.swarm_inspect, limit))
        lock = Lock(enabled, persist(engine.swarm_unlock_key, limit) if enabled else "")
    except Failure:
        pass
    return Seen(tuple(target.node for target in _locked(access, managers)), lock)


def apply(
    managers: Sequence[Target],
    cluster_id: str,
    *,
    enabled: bool,
    rotate: bool = False,
    timeout: float = TIMEOUT,
    access: Access = SSH,
) -> Lock:
    """Turn locking on or off, or keep it on with another key, and return the key as it is then.

    Whoever holds no copy of the key while all managers restart has lost the swarm: it must be kept before anything else
    is done. Raises NoManager, EngineError, LockBusy, RotationFailed.
    """
    with cluster_lock(cluster_id, "locking managers" if enabled else "no longer locking managers", access.clock):
        limit = Deadline.after(timeout, access.clock)
        manager = find_manager(access, managers, cluster_id, limit)
        engine = manager.engine
        before = persist(engine.swarm_unlock_key, limit)

        def once() -> None:
            swarm = engine.swarm_inspect()
            spec = copy.deepcopy(swarm["Spec"])
            spec["EncryptionConfig"] = {**(spec.get("EncryptionConfig") or {}), "AutoLockManagers": enabled}
            # The first key is new by itself; and a request that ended with an error may have been taken all the same.
            again = rotate and enabled and bool(before) and engine.swarm_unlock_key() == before
            if again or _enabled(swarm) != enabled:
                engine.swarm_update(swarm["Version"]["Index"], spec, rotateManagerUnlockKey=again)

        persist(once, limit)
        key = persist(engine.swarm_unlock_key, limit) if enabled else ""
        if enabled and (not key or (rotate and key == before)):
            raise RotationFailed(
                "rotating the unlock key" if before else "locking the managers",
                where=str(manager.target),
                came_back="the engine took the request and still gives the old key" if before else "it gives no key",
                do_now="Look at `journalctl -u docker` there, then run again.",
            )
        return Lock(enabled, key)


def require_off(managers: Sequence[Target], cluster_id: str, *, access: Access = SSH) -> None:
    """Raise SwarmError where managers lock themselves and nobody declared it: that is not undone in passing."""
    limit = Deadline.after(TIMEOUT, access.clock)
    manager = find_manager(access, managers, cluster_id, limit)
    if _enabled(persist(manager.engine.swarm_inspect, limit)):
        raise SwarmError(
            "taking over the swarm",
            where=str(manager.target),
            came_back="its managers lock themselves, and settings do not say so",
            do_now="Declare `cluster.autolock: true`; or run `docker swarm update --autolock=false` there first.",
        )


def unlock_managers(
    managers: Sequence[Target], cluster_id: str, keys: Iterable[str], *, access: Access = SSH
) -> list[str]:
    """Unlock every declared manager of this swarm that is locked, all at once; the names of those that were.

    At once, because an engine that got its key has nothing to say until a majority is there. The key that the swarm has
    now, where a manager can be asked, is tried before ``keys``. Raises SwarmLocked naming those that no key fits, after
    the others are unlocked.
    """
    opened, refused = _unlock_all(managers, cluster_id, keys, access)
    if refused is not None:
        raise refused
    return opened


def unlock_to_a_quorum(
    managers: Sequence[Target], cluster_id: str, keys: Sequence[str], *, timeout: float, access: Access = SSH
) -> list[str]:
    """As :func:`unlock_managers`, again and again until a manager works: machines may still be on their way.

    One that no key fits stays locked where the others work without it: what becomes of it is its member's own matter, which
    may be to be rebuilt. Raises SwarmLocked or NoManager when none works after ``timeout`` seconds.
    """
    limit = Deadline.after(timeout, access.clock)
    names: list[str] = []
    while True:
        opened, refused = _unlock_all(managers, cluster_id, keys, access)
        names += opened
        try:
            find_manager(access, managers, cluster_id, Deadline.after(min(PATIENCE, limit.left), access.clock))
        except NoManager as error:
            if limit.over:
                raise (refused or error) from error
            access.clock.sleep(1)
        else:
            return names


def live_key(access: Access, managers: Sequence[Target], cluster_id: str) -> str:
    """The key that the swarm has now, from any manager that works; "" when none does or there is none."""
    try:
        limit = Deadline.after(PATIENCE, access.clock)
        return persist(find_manager(access, managers, cluster_id, limit).engine.swarm_unlock_key, limit)
    except Failure:
        return ""


def unlock(access: Access, target: Target, key: str) -> None:
    """Give a locked engine the key of its swarm. It may then still wait for other managers. Raises SwarmLocked."""
    known = _distinct([key])
    if not _opens(access, target, known):
        raise _no_key([target], known)


def _unlock_all(
    managers: Sequence[Target], cluster_id: str, keys: Iterable[str], access: Access
) -> tuple[list[str], SwarmLocked | None]:
    """The names of those that are unlocked now, and an error that names those that no key fits, where there are any."""
    waiting = [target for target in _locked(access, managers) if _ours(access, target, cluster_id)]
    if not waiting:
        return [], None
    known = _distinct([live_key(access, managers, cluster_id), *keys])
    answers = all_answers(lambda target: _opens(access, target, known), waiting)
    shut = [target for target, is_open in zip(waiting, answers, strict=True) if not is_open]
    opened = [target.node for target in waiting if target not in shut]
    return opened, _no_key(shut, known) if shut else None


def _opens(access: Access, target: Target, keys: Sequence[str]) -> bool:
    return any(_fits(access, target, key) for key in keys)


def _no_key(shut: Sequence[Target], keys: Sequence[str]) -> SwarmLocked:
    return SwarmLocked(
        "unlocking",
        where=", ".join(map(str, shut)),
        came_back="no key fits: it was off when its key was replaced" if keys else "no key is known",
        do_now=NO_KEY.format(" and ".join(target.node for target in shut)),
    )


def _distinct(keys: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(filter(None, keys)))


def _fits(access: Access, target: Target, key: str) -> bool:
    try:
        access.engine(target).swarm_unlock(key)
    except EngineError as error:
        if error.status in (400, 401):
            return False
    except HostError:
        pass  # it has taken the key and waits for a majority; or it has gone: its state tells

    def judged() -> bool | None:
        local = place_of(access, target)
        if local is None or (local.state == "pending" and not local.control):
            return None
        return local.state != "locked"

    return bool(Deadline.after(JUDGE, access.clock).poll(judged, 0.2))


def _locked(access: Access, managers: Sequence[Target]) -> list[Target]:
    found = all_answers(lambda target: place_of(access, target), list(managers))
    return [
        target for target, local in zip(managers, found, strict=True) if local is not None and local.state == "locked"
    ]


def _ours(access: Access, target: Target, cluster_id: str) -> bool:
    """A locked engine does not tell which swarm it is in; its certificate, which is not encrypted, does."""
    local = place_of(access, target)
    try:
        return local is not None and access.cluster_on_disk(target, local.root) == cluster_id
    except Failure:
        return False


def _enabled(swarm: Json) -> bool:
    return bool((swarm["Spec"].get("EncryptionConfig") or {}).get("AutoLockManagers"))
