"""The managers that this run declares, and which of them are away: said by ``ClusterSettings``, asked by members.

A delete gets nothing but last outputs, and the managers in there are those of the last run. All our resources of a run
live in one process, and ``ClusterSettings`` is checked before anything is deleted. Where nothing was said (``destroy``),
nobody counts as leaving.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from proxmox_swarm.host.target import Target
from proxmox_swarm.providers.base import Props, targets

_managers: Mapping[str, str] | None = None
_away: set[str] = set()


def declare(managers: Mapping[str, str], away: Collection[str] = ()) -> None:
    """These are the managers from now on, each with its address; ``away`` those that a refresh found out of reach."""
    global _managers, _away
    _managers = dict(managers)
    _away = set(away)


def away() -> Collection[str]:
    """The managers that are away, without those whose own turn to be put right was before."""
    return frozenset(_away)


def had_its_turn(manager: str) -> None:
    """Managers are taken one after the other: whoever comes after this one finds it back, or is not reached."""
    _away.discard(manager)


def leaving(managers: Sequence[Props]) -> list[Target]:
    """Those of recorded managers that are to be none any more. An address that a declared one has now is that one's."""
    declared = _managers
    if declared is None:
        return []
    taken = set(declared.values())
    return [target for target in targets(managers) if target.node not in declared and target.address not in taken]
