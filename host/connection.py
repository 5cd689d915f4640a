"""SSH to one host: a synchronous face over connections that one background loop keeps open for the whole process.

Every host is known by its pinned key. Connections are shared by all threads, reused by later operations and dropped
when they break. Commands of one connection are kept below sshd's ``MaxSessions`` (10 by default).
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from proxmox_swarm.host import pool
from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.host.errors import AuthenticationFailed, CommandFailed, HostKeyMismatch, Unreachable
from proxmox_swarm.host.loop import call
from proxmox_swarm.host.target import Target

__all__ = ["Connection", "Result", "Target", "connect", "wait_for_ssh"]

#: A first boot may show the image's own host keys, and refuse the user, until cloud-init has done its part; a wrong key
#: is final after that long.
GRACE = 30.0

_READ = 'if [ -e "$1" ]; then exec cat -- "$1"; fi; exit 44'
_WRITE = (
    'set -e; umask 077; mkdir -p -- "${1%/*}"; t=$(mktemp -- "$1.XXXXXX"); trap \'rm -f -- "$t"\' EXIT; '
    'cat >"$t"; chown -- "$3" "$t"; chmod -- "$2" "$t"; mv -f -- "$t" "$1"; trap - EXIT'
)


@dataclass(frozen=True)
class Result:
    """How a command ended: its exit code (-1 when a signal ended it) and what it wrote."""

    code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class Connection:
    """A way to run commands on one host. Leaving the ``with`` block keeps the SSH connection for the next user."""

    target: Target

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def command(self, argv: Sequence[str], *, sudo: bool = False) -> str:
        """The command line for the host's shell; root needs no sudo."""
        words = [*(["sudo", "-n", "--"] if sudo and self.target.user != "root" else []), *argv]
        return shlex.join(words)

    def run(self, argv: Sequence[str], *, input: bytes | None = None, sudo: bool = False, timeout: float) -> Result:
        """Run a command to its end, within ``timeout`` seconds. A code other than 0 is a result, not an error.

        Secrets belong in ``input``, never in ``argv``, which the host's process list shows. Raises Unreachable,
        AuthenticationFailed, HostKeyMismatch and CommandTimeout.
        """
        code, stdout, stderr = call(pool.run(self.target, self.command(argv, sudo=sudo), input or b"", timeout))
        return Result(code, stdout, stderr)

    def check(self, argv: Sequence[str], *, input: bytes | None = None, sudo: bool = False, timeout: float) -> bytes:
        """Run a command that has to succeed and return what it wrote. Raises CommandFailed besides what run raises."""
        result = self.run(argv, input=input, sudo=sudo, timeout=timeout)
        if result.code != 0:
            raise CommandFailed(
                f"running {argv[0]}",
                where=str(self.target),
                came_back=result.stderr.decode(errors="replace").strip() or f"exit code {result.code}",
                do_now="See what the host says.",
            )
        return result.stdout

    def read_file(self, path: str, *, timeout: float = 30) -> bytes | None:
        """The content of a file, read as root; None when there is none."""
        result = self.run(["sh", "-c", _READ, "sh", path], sudo=True, timeout=timeout)
        if result.code == 44:
            return None
        if result.code != 0:
            raise CommandFailed(
                f"reading {path}",
                where=str(self.target),
                came_back=result.stderr.decode(errors="replace"),
                do_now=f"Check that {self.target.user} may use sudo without a password.",
            )
        return result.stdout

    def write_file(
        self, path: str, data: bytes, mode: int = 0o644, owner: str = "root:root", *, timeout: float = 30
    ) -> None:
        """Put a file in place as root, whole or not at all. Missing folders are made."""
        self.check(["sh", "-c", _WRITE, "sh", path, f"{mode:o}", owner], input=data, sudo=True, timeout=timeout)


def connect(target: Target, timeout: float) -> Connection:
    """Log in to a host, or use the connection that is open already, within ``timeout`` seconds.

    Raises Unreachable, AuthenticationFailed, HostKeyMismatch.
    """
    call(pool.ensure(target, timeout))
    return Connection(target)


def wait_for_ssh(target: Target, deadline: float) -> Connection:
    """Try every 0.2 seconds until the host lets us in, for at most ``deadline`` seconds.

    Raises the last error met once the time is over: Unreachable, AuthenticationFailed or HostKeyMismatch. The latter
    two end the wait early when they last longer than a first boot explains.
    """
    limit = Deadline.after(deadline)
    refused_since: float | None = None
    while True:
        try:
            # A booting machine drops packets: short tries notice its first answer at once.
            call(pool.ensure(target, max(0.5, min(limit.left, 10.0)), tcp_timeout=1.0))
            return Connection(target)
        except (HostKeyMismatch, AuthenticationFailed):
            refused_since = refused_since or limit.clock.now()
            if limit.over or limit.clock.now() - refused_since > GRACE:
                raise
        except Unreachable as error:
            refused_since = None
            if limit.over:
                raise Unreachable(
                    f"waiting {deadline:.0f} s for SSH",
                    where=str(target),
                    came_back=error.came_back,
                    do_now="Look at the machine's console; raise the boot deadline if it is merely slow.",
                ) from error
        limit.clock.sleep(0.2)
