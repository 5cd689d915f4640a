"""What all our dynamic providers share: plain numbers, diffs by declared inputs, unknowns, short errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pulumi.dynamic import ConfigureRequest, DiffResult, ResourceProvider
from pulumi.output import Unknown
from pulumi.runtime.rpc import UNKNOWN

from proxmox_swarm.host.target import Target
from proxmox_swarm.providers import threads

Props = Mapping[str, Any]


class Provider(ResourceProvider):
    """Base of every dynamic provider here.

    Instances carry no state: they are pickled by reference, so that state holds the class's dotted path and nothing else,
    and one instance serves many threads at once.
    """

    serialize_as_secret_always = False

    #: Inputs whose change is a change of the resource. Others may change without any effect on it.
    watched: ClassVar[tuple[str, ...]] = ()
    #: Of these, the ones that call for a replacement (delete first: names and addresses are fixed).
    replacing: ClassVar[tuple[str, ...]] = ()

    def configure(self, req: ConfigureRequest) -> None:
        """One readable line an error (with PROXMOX_SWARM_DEBUG a traceback), and threads enough for those that wait."""
        threads.widen()
        if not os.environ.get("PROXMOX_SWARM_DEBUG"):
            sys.tracebacklimit = 0

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """Compare the watched inputs with what was last recorded.

        What is unknown in an input counts as unchanged: it comes from a resource that is about to change in place, and
        would otherwise preview as a change of everything behind it. A replacing input that is unknown is the opposite: it
        is unknown exactly when what it stands for is being replaced.
        """
        changed = [key for key in self.watched if self._differs(key, _olds, _news)]
        replaces = [key for key in changed if key in self.replacing]
        return DiffResult(changes=bool(changed), replaces=replaces, delete_before_replace=True)

    def _differs(self, key: str, olds: Props, news: Props) -> bool:
        new = news.get(key)
        if is_unknown(new) and key in self.replacing:
            return True
        return not _as_far_as_known(plain(olds.get(key)), plain(new))


def _as_far_as_known(old: Any, new: Any) -> bool:
    """Whether two plain values are the same where the new one is known already."""
    if isinstance(new, Unknown) or new == UNKNOWN:
        return True
    if isinstance(new, dict) and isinstance(old, dict):
        return all(_as_far_as_known(old.get(key), new.get(key)) for key in {*old, *new})
    if isinstance(new, list) and isinstance(old, list):
        return len(new) == len(old) and all(map(_as_far_as_known, old, new))
    return bool(new == old)


def is_unknown(value: object) -> bool:
    """Whether a value, or anything in it, is not known yet in this preview."""
    if isinstance(value, Unknown) or value == UNKNOWN:
        return True
    if isinstance(value, Mapping):
        return any(is_unknown(v) for v in value.values())
    if isinstance(value, list | tuple):
        return any(is_unknown(v) for v in value)
    return False


def plain(value: Any) -> Any:
    """Undo what the wire does to values: whole numbers arrive as floats, empty things may arrive as None."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items() if v is not None and not k.startswith("__")}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def target(props: Props) -> Target:
    """A node's SSH address out of resource properties."""
    return Target(node=props["node"], address=props["address"], user=props["user"], host_key=props["host_key"])


def targets(entries: Iterable[Props]) -> list[Target]:
    """The managers' SSH addresses out of resource properties."""
    return [target(entry) for entry in entries]


def say(node: str, text: str) -> None:
    """One line of progress, under the node's name: providers' output carries no resource name of its own."""
    print(f"{node}: {text}", file=sys.stderr, flush=True)
