"""Faults that tests ask for: each is a rule that matches tasks or hosts until it is used up or cleared."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["fail", "slow", "down"]

#: Where Proxmox VE takes the VM's lock before it forks a worker, a lock timeout is the answer to the request itself.
_REFUSED_AT_REQUEST = {"qmcreate", "qmconfig"}


@dataclass
class Fault:
    """``fail``: the next ``count`` matching tasks fail with ``message``; ``slow``: they take ``seconds`` longer;
    ``down``: the host's API answers nothing until cleared. ``task`` (a task type of Proxmox VE) and ``node`` may be ``*``.
    """

    kind: Kind
    task: str = "*"
    node: str = "*"
    count: int = 1
    seconds: float = 0.0
    message: str = "can't lock file '/var/lock/qemu-server/lock-{vmid}.conf' - got timeout"

    def matches(self, kind: Kind, node: str, task: str) -> bool:
        """Whether the rule is for this kind of event on this host."""
        return self.kind == kind and self.node in ("*", node) and self.task in ("*", task)


class Faults:
    """The rules in force."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Put a rule in force."""
        self._rules.append(fault)

    def clear(self) -> None:
        """Drop all rules."""
        self._rules.clear()

    def rules(self) -> list[dict[str, Any]]:
        """The rules in force, for the control socket."""
        return [asdict(rule) for rule in self._rules]

    def is_down(self, node: str) -> bool:
        """Whether the host's API is to be dead."""
        return any(rule.matches("down", node, "*") for rule in self._rules)

    def at_request(self, node: str, task: str, vmid: str) -> str | None:
        """The text to refuse the request with, if any."""
        return self._failure(node, task, vmid) if task in _REFUSED_AT_REQUEST else None

    async def at_task(self, node: str, task: str, vmid: str) -> str | None:
        """Wait as slow rules say, then return the text to fail the task with, if any."""
        if slow := self._take("slow", node, task):
            await asyncio.sleep(slow.seconds)
        return self._failure(node, task, vmid) if task not in _REFUSED_AT_REQUEST else None

    def _failure(self, node: str, task: str, vmid: str) -> str | None:
        rule = self._take("fail", node, task)
        return rule.message.format(vmid=vmid, node=node) if rule else None

    def _take(self, kind: Kind, node: str, task: str) -> Fault | None:
        for rule in self._rules:
            if rule.matches(kind, node, task):
                rule.count -= 1
                if rule.count <= 0:
                    self._rules.remove(rule)
                return rule
        return None
