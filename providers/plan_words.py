"""What a change of a member means, in the words people use for it. Shown by ``pulumi preview`` under the member."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxmox_swarm.providers.base import is_unknown, plain
from proxmox_swarm.swarm.quorum import Quorum

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
AVAILABILITY = {"active": "activate", "pause": "pause", "drain": "drain"}


def of_member(olds: Mapping[str, Any], news: Mapping[str, Any]) -> str:
    """The steps that take a member from ``olds`` to ``news`` (resource properties); empty when there are none."""
    if is_unknown(news.get("machine")) or olds.get("machine") != news.get("machine"):
        return _replaced(olds, news)
    verdict = str(olds.get("verdict") or "ok")
    steps = []
    if verdict != "ok":
        steps.append(f"{verdict} ({olds.get('detail') or 'no detail'}): {VERDICTS.get(verdict, 'put right')}")
    if plain(olds.get("hardware")) != plain(news.get("hardware")):
        steps.append(f"drain, power off and on, activate{_margin(olds, news)}")
    # What was declared, where drift hides it, is what this plan changes.
    before = {**olds, **(olds.get("declared") or {})} if verdict != "ok" else olds
    if before.get("role") != news.get("role"):
        steps.append("promote" if news.get("role") == "manager" else "demote")
    if before.get("availability") != news.get("availability"):
        steps.append(AVAILABILITY.get(str(news.get("availability")), "set availability"))
    steps += _labels(before.get("labels"), news.get("labels"))
    return "; ".join(steps)


def _replaced(olds: Mapping[str, Any], news: Mapping[str, Any]) -> str:
    demote = "demote, " if olds.get("role") == "manager" else ""
    return f"drain, {demote}leave; its machine is replaced; joins as {news.get('role')}{_margin(olds, news)}"


def _margin(olds: Mapping[str, Any], news: Mapping[str, Any]) -> str:
    """What a manager's absence leaves of the quorum: raft has one member fewer where it leaves, as many where it is off."""
    managers = len(news.get("managers") or ())
    if olds.get("role") != "manager" or managers == 0:
        return ""
    return f"; meanwhile {Quorum(managers, managers - 1)}"


def _labels(before: object, after: object) -> list[str]:
    old, new = plain(before) or {}, plain(after) or {}
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):  # not known yet
        return []
    added = [f"{key}={value}" for key, value in sorted(new.items()) if old.get(key) != value]
    gone = [f"without {key}" for key in sorted(old) if key not in new]
    return [f"labels: {', '.join(added + gone)}"] if added or gone else []
