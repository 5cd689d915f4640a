"""Starting the daemon in namespaces of its own, running programs in them, and ending it all."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from proxmox_swarm.lab import machines
from proxmox_swarm.lab.control import Client, ControlError, NotRunningError
from proxmox_swarm.lab.paths import Paths
from proxmox_swarm.lab.prerequisites import search_path

_START_DEADLINE = 60.0
_END_DEADLINE = 40.0
_LOCK_DEADLINE = _START_DEADLINE + _END_DEADLINE
#: In a mount namespace of its own: the lab's name service files over this machine's, then the command.
#: The lab's stack file is tracked, and the CLI would write the salt of its encryption into it at every run, although it
#: takes the salt from the state (PULUMI_FALLBACK_TO_STATE_SECRETS_MANAGER); it ignores that it may not (3.259.0, measured).
_WITH_NAMES = """
resolv=$1 nsswitch=$2; shift 2
mount --bind "$resolv" /etc/resolv.conf || exit 125
[ ! -e /etc/nsswitch.conf ] || mount --bind "$nsswitch" /etc/nsswitch.conf || exit 125
file=Pulumi.lab.yaml
[ ! -e "$file" ] || { mount --bind "$file" "$file" && mount -o remount,bind,ro "$file"; } || exit 125
exec "$@"
"""


class LabError(RuntimeError):
    """The lab does not start, does not end, or is not running."""


@contextmanager
def locked(paths: Paths) -> Iterator[None]:
    """Only one ``lab up`` or ``lab down`` of a lab at a time. Raises ``LabError`` when another takes too long."""
    descriptor = os.open(paths.root / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + _LOCK_DEADLINE
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LabError(
                        f"another `lab up` or `lab down` of {paths.root} has been at work for {_LOCK_DEADLINE:.0f} s"
                    ) from None
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def start(paths: Paths) -> None:
    """Start the daemon and wait until all of the lab answers. Raises ``LabError``."""
    client = Client(paths.control)
    with (paths.log / "lab.log").open("ab") as log:
        process = subprocess.Popen(
            [
                "unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc", "--",
                sys.executable, "-m", "proxmox_swarm.lab.daemon", str(paths.root),
            ],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
            env={**os.environ, "PATH": search_path()},
        )  # fmt: skip
    deadline = time.monotonic() + _START_DEADLINE
    while True:
        try:
            client.ask("ready", timeout=max(deadline - time.monotonic(), 0.1))
            return
        except NotRunningError:
            if process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            reason = "it ended" if process.poll() is not None else f"no answer in {_START_DEADLINE:.0f} s"
        except (ControlError, TimeoutError) as error:
            reason = str(error)
        process.kill()
        process.wait()
        raise LabError(f"the lab does not start: {reason}; its log: {paths.log / 'lab.log'}\n{_tail(paths)}")


def _tail(paths: Paths) -> str:
    return "\n".join((paths.log / "lab.log").read_text(errors="replace").splitlines()[-5:])


def end(paths: Paths) -> bool:
    """End the daemon and all it runs; returns whether there was one. Raises ``LabError`` if it will not go."""
    client = Client(paths.control)
    try:
        pid = client.pid()
    except NotRunningError:
        machines.clean(paths.run)
        return False
    top = _unshare_of(pid)
    try:
        client.ask("shutdown", timeout=5.0)
    except (NotRunningError, ControlError, TimeoutError):
        os.kill(top, signal.SIGKILL)  # --kill-child takes the rest
    if not _wait_gone(pid, _END_DEADLINE):
        os.kill(top, signal.SIGKILL)
        if not _wait_gone(pid, 10.0):
            raise LabError(f"the lab's daemon (process {pid}) does not end, not even when killed")
    _wait_gone(top, 5.0)
    machines.clean(paths.run)
    return True


def _unshare_of(pid: int) -> int:
    """The outermost process of the lab: the one whose parent is outside of the lab's network namespace."""
    own = os.stat(f"/proc/{pid}/ns/net").st_ino  # noqa: PTH116 - the link's target is not a path
    while True:
        stat = Path(f"/proc/{pid}/stat").read_text()
        parent = int(stat.rpartition(")")[2].split()[1])
        try:
            if parent <= 1 or os.stat(f"/proc/{parent}/ns/net").st_ino != own:  # noqa: PTH116
                return pid
        except OSError:
            return pid
        pid = parent


def _wait_gone(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def inside(paths: Paths, command: Sequence[str]) -> list[str]:
    """The command line that runs ``command`` in the lab's network with the lab's DNS. Raises ``NotRunningError``."""
    pid = Client(paths.control).pid()
    return [
        "nsenter", f"--net=/proc/{pid}/ns/net", "unshare", "--mount", "--",
        "sh", "-c", _WITH_NAMES, "sh", str(paths.resolv_conf), str(paths.nsswitch), *command,
    ]  # fmt: skip


def entered(paths: Paths) -> bool:
    """Whether this process is in the lab's network. Raises ``NotRunningError``."""
    theirs, ours = Path(f"/proc/{Client(paths.control).pid()}/ns/net"), Path("/proc/self/ns/net")
    return theirs.stat().st_ino == ours.stat().st_ino
