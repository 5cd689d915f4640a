"""What can go wrong between us and a host. Every error says what was tried, where, what came back, what to do now."""

from __future__ import annotations

from proxmox_swarm.host.redact import redact


class Failure(Exception):
    """An action that failed, told so that the first line alone is enough to act on.

    ``what`` was tried, on ``where`` (node and address), ``came_back``, ``do_now``. Further lines of ``came_back`` are
    kept below the first line. Secrets are removed here, whoever raises it.
    """

    def __init__(self, what: str, *, where: str = "", came_back: str = "", do_now: str = "") -> None:
        self.what = redact(what)
        self.where = where
        self.came_back = redact(came_back.strip())
        self.do_now = redact(do_now)
        super().__init__(self._text())

    def _text(self) -> str:
        first, _, rest = self.came_back.partition("\n")
        line = self.what + (f" on {self.where}" if self.where else "")
        if first:
            line += f": {first.rstrip('.')}"
        line += f". {self.do_now}" if self.do_now else ""
        return line + (f"\n{rest}" if rest else "")


class HostError(Failure):
    """Anything that failed on or on the way to a host."""


class Unreachable(HostError):
    """The host did not answer, or the connection broke. It may be off, booting, or cut off: never proof that it is gone."""


class AuthenticationFailed(HostError):
    """The host answered and refused our login, or we have no usable key."""


class HostKeyMismatch(HostError):
    """The host presented another key than the pinned one: another machine, or a rebuilt one."""


class CommandFailed(HostError):
    """A command ran and ended with a code other than 0."""


class CommandTimeout(HostError):
    """A command did not end in its time. It may still be running on the host."""


class DiskAbsent(HostError):
    """The machine does not show a disk that it should have, or not all of it."""


class EngineConfigRefused(HostError):
    """dockerd refused its new configuration, or did not come back with it. The old one is in place again."""
