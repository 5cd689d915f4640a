"""What a change of a member means, in the words people use for it. Shown by ``pulumi preview`` under the member."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from proxmox_swarm.providers.base import is_unknown, plain
from proxmox_swarm.swarm.quorum import Quorum, can_pause, can_remove

#: What a verdict leads to.
VERDICTS = {
    "left": "joins again",
    "rebuilt": "joins, and the former machine's node is removed",
    "removed": "joins again",
    "foreign": "refused until it is taken out of that swarm, or out of the settings",
    "locked": "unlocked with the key that the other managers have",
    "pending": "waited for, then joined anew",
    "error": "waited for, then joined anew",
    "not_ready": "waited for",
    "unreachable": "refused until it answers",
    "drifted": "put back",
}
#: What `Member.hardware` holds.
HARDWARE = {"cpu": "processors", "memory": "memory", "boot": "boot disk", "gateways": "gateway", "mtus": "MTU"}
AVAILABILITY = {"active": "activate", "pause": "pause", "drain": "drain"}


class Rule(Protocol):
    """Why a manager may not be taken out of such a quorum, None where it may."""

    def __call__(self, quorum: Quorum, *, reachable: bool) -> str | None:
        """See :mod:`proxmox_swarm.swarm.quorum`."""


def of_member(olds: Mapping[str, Any], news: Mapping[str, Any], away: Collection[str] = ()) -> str:
    """The steps that take a member from ``olds`` to ``news`` (resource properties); empty when there are none.

    ``away`` names the managers that were found out of reach.
    """
    if is_unknown(news.get("machine")) or olds.get("machine") != news.get("machine"):
        return _replaced(olds, news, away)
    verdict = str(olds.get("verdict") or "ok")
    steps = []
    if verdict != "ok":
        steps.append(f"{verdict} ({olds.get('detail') or 'no detail'}): {VERDICTS.get(verdict, 'put right')}")
    if changed := _hardware(olds.get("hardware"), news.get("hardware")):
        steps.append(f"drain, power off and on ({', '.join(changed)}), activate{_margin(olds, news, away, can_pause)}")
    # What was declared, where drift hides it, is what this plan changes.
    before = {**olds, **(olds.get("declared") or {})} if verdict != "ok" else olds
    if before.get("role") != news.get("role"):
        steps.append("promote" if news.get("role") == "manager" else "demote")
    if before.get("availability") != news.get("availability"):
        steps.append(AVAILABILITY.get(str(news.get("availability")), "set availability"))
    steps += _labels(before.get("labels"), news.get("labels"))
    return "; ".join(steps)


def _replaced(olds: Mapping[str, Any], news: Mapping[str, Any], away: Collection[str]) -> str:
    demote = "demote, " if olds.get("role") == "manager" else ""
    margin = _margin(olds, news, away, can_remove)
    return f"drain, {demote}leave; its machine is replaced; joins as {news.get('role')}{margin}"


def _margin(olds: Mapping[str, Any], news: Mapping[str, Any], away: Collection[str], rule: Rule) -> str:
    """What a manager's absence leaves of the quorum, beside those that are away; ``rule`` says whether it is refused then."""
    listed = news.get("managers")
    managers = [manager["node"] for manager in listed] if isinstance(listed, list) else []
    if olds.get("role") != "manager" or not managers:
        return ""
    others = [name for name in managers if name in away and name != news["node"]]
    here = len(managers) - len(others)
    words = f"; meanwhile {Quorum(len(managers), here - 1)}"
    if others and news["node"] not in away and rule(Quorum(len(managers), here), reachable=True) is not None:
        words += f": refused until {', '.join(others)} {'is' if len(others) == 1 else 'are'} back"
    return words


def _hardware(before: object, after: object) -> list[str]:
    """In words what the machine takes over when it is powered off and on."""
    old, new = plain(before) or {}, plain(after) or {}
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):  # not known yet
        return []
    return [HARDWARE[key] for key in HARDWARE if old.get(key) != new.get(key)]


def _labels(before: object, after: object) -> list[str]:
    old, new = plain(before) or {}, plain(after) or {}
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):  # not known yet
        return []
    added = [f"{key}={value}" for key, value in sorted(new.items()) if old.get(key) != value]
    gone = [f"without {key}" for key in sorted(old) if key not in new]
    return [f"labels: {', '.join(added + gone)}"] if added or gone else []
