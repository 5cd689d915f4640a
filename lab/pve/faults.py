"""Faults that tests ask for: each is a rule that matches tasks or hosts until it is used up or cleared."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Kind = Literal["lock-timeout", "fail", "slow", "api-down", "host-down", "host-lost"]
LOCK_TIMEOUT = "can't lock file '/var/lock/qemu-server/lock-{vmid}.conf' - got timeout"

#: Where Proxmox VE takes the VM's lock before it forks a worker, a lock timeout is the answer to the request itself.
_REFUSED_AT_REQUEST = {"qmcreate", "qmconfig"}


@dataclass
class Fault:
    """A rule. ``task`` (a task type of Proxmox VE) and ``host`` may be ``*``.

    ``lock-timeout`` and ``fail``: the next ``count`` matching tasks fail, the latter with ``message``; ``slow``: they take
    ``seconds`` longer; ``api-down``: the host's API answers nothing until the faults are cleared; ``host-down``: the host has
    no power; ``host-lost``: it was taken out of the Proxmox VE cluster after that.
    """

    kind: Kind
    task: str = "*"
    host: str = "*"
    count: int = 1
    seconds: float = 0.0
    message: str = LOCK_TIMEOUT

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"no fault '{self.kind}': {', '.join(get_args(Kind))}")

    def matches(self, kinds: tuple[Kind, ...], host: str, task: str) -> bool:
        """Whether the rule is for one of these kinds of event on this host."""
        return self.kind in kinds and self.host in ("*", host) and self.task in ("*", task)


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

    def is_down(self, host: str) -> bool:
        """Whether the host's API is dead, with the host or alone."""
        return any(rule.matches(("api-down", "host-down", "host-lost"), host, "*") for rule in self._rules)

    def is_off(self, host: str) -> bool:
        """Whether the host has no power."""
        return any(rule.matches(("host-down", "host-lost"), host, "*") for rule in self._rules)

    def is_lost(self, host: str) -> bool:
        """Whether the host is no member of the Proxmox VE cluster any more."""
        return any(rule.matches(("host-lost",), host, "*") for rule in self._rules)

    def mend_host(self, host: str) -> None:
        """Drop the rules that keep a host from answering."""
        self._rules = [rule for rule in self._rules if not (rule.host == host and self._of_hosts(rule))]

    @staticmethod
    def _of_hosts(rule: Fault) -> bool:
        return rule.kind in ("api-down", "host-down", "host-lost")

    def at_request(self, host: str, task: str, vmid: str) -> str | None:
        """The text to refuse the request with, if any."""
        return self._failure(host, task, vmid) if task in _REFUSED_AT_REQUEST else None

    async def at_task(self, host: str, task: str, vmid: str) -> str | None:
        """Wait as slow rules say, then return the text to fail the task with, if any."""
        if slow := self._take(("slow",), host, task):
            await asyncio.sleep(slow.seconds)
        return self._failure(host, task, vmid) if task not in _REFUSED_AT_REQUEST else None

    def _failure(self, host: str, task: str, vmid: str) -> str | None:
        rule = self._take(("lock-timeout", "fail"), host, task)
        return rule.message.format(vmid=vmid, node=host) if rule else None

    def _take(self, kinds: tuple[Kind, ...], host: str, task: str) -> Fault | None:
        for rule in self._rules:
            if rule.matches(kinds, host, task):
                rule.count -= 1
                if rule.count <= 0:
                    self._rules.remove(rule)
                return rule
        return None
