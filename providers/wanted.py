"""The managers that this run declares: said by ``ClusterSettings``, asked by a member that is about to go.

A delete gets nothing but last outputs, and the managers in there are those of the last run. All our resources of a run
live in one process, and ``ClusterSettings`` is checked before anything is deleted. Where nothing was said (``destroy``),
nobody counts as leaving.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from proxmox_swarm.host.target import Target
from proxmox_swarm.providers.base import Props, targets

_names: frozenset[str] | None = None


def declare(names: Iterable[str]) -> None:
    """These are the managers from now on."""
    global _names
    _names = frozenset(names)


def leaving(managers: Sequence[Props]) -> list[Target]:
    """Those of a member's managers that are to be none any more."""
    known = _names
    return [] if known is None else [target for target in targets(managers) if target.node not in known]
