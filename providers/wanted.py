"""The managers that this run declares: said by ``ClusterSettings``, asked by a member that is about to go.

A delete gets nothing but last outputs, and the managers in there are those of the last run. All our resources of a run
live in one process, and ``ClusterSettings`` is checked before anything is deleted. Where nothing was said (``destroy``),
nobody counts as leaving.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxmox_swarm.host.target import Target
from proxmox_swarm.providers.base import Props, targets

_managers: Mapping[str, str] | None = None


def declare(managers: Mapping[str, str]) -> None:
    """These are the managers from now on, each with its address."""
    global _managers
    _managers = dict(managers)


def leaving(managers: Sequence[Props]) -> list[Target]:
    """Those of recorded managers that are to be none any more. An address that a declared one has now is that one's."""
    declared = _managers
    if declared is None:
        return []
    taken = set(declared.values())
    return [target for target in targets(managers) if target.node not in declared and target.address not in taken]
