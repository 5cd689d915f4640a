"""What an ``up`` that was killed leaves behind: processes, a lock, operations it never finished, half-made machines.

Killing the CLI leaves its plugins running, and they go on changing things (measured). So each ``up`` runs in a session of
its own, whose id is written down; whatever of it still lives is ended, by id, before the next begins.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from proxmox_swarm.cli.away import host_of
from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.pulumi import Stack
from proxmox_swarm.proxmox.client import Client
from proxmox_swarm.proxmox.ownership import Marker
from proxmox_swarm.settings.model import Settings

GENTLE_SECONDS = 3.0
VM_TYPE = "proxmoxve:index/vmLegacy:VmLegacy"


def remember_session(record: Path, pid: int) -> None:
    """Write down the session that process ``pid`` leads, whole or not at all."""
    temporary = record.with_name(record.name + ".new")
    temporary.write_text(f"{pid} {start_time(pid)} {_boot()}")
    temporary.replace(record)


@contextlib.contextmanager
def session(record: Path, command: Sequence[str], stack: Stack, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a session of its own, which ``record`` names while it lives; what it leaves running is ended."""
    process = subprocess.Popen(
        command,
        cwd=stack.project,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        **{"env": stack.environment, **options},
    )
    try:
        remember_session(record, process.pid)
        yield process
    finally:
        end_session(record)


def run_recorded(stack: Stack, record: Path, *words: str) -> None:
    """Run a subcommand that changes the stack's state as a session of its own. Raises CommandError with what it said."""
    with session(record, stack.command(*words), stack, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        said = process.communicate()[0].decode(errors="replace")
    if process.returncode != 0:
        raise stack.failed(words[0], said)


def end_session(record: Path) -> None:
    """End what still runs of the session that ``record`` names, then forget it."""
    if not record.exists():
        return
    session, started, boot, *_ = [*record.read_text().split(), "", "", ""]
    # Ids begin anew at each boot: a record of an earlier one would name somebody else's processes.
    if session and boot == _boot():
        _end_all(lambda: session_members(int(session), started))
    record.unlink()


def end_orphans(project: Path) -> list[int]:
    """End what a CLI that was killed left working in the project's folder; returns the ids of those processes."""
    return _end_all(lambda: orphans(project))


def orphans(project: Path) -> list[int]:
    """Pulumi's plugins at work in the project's folder whose CLI is dead: nobody writes down what they do any more.

    The CLI starts its plugins there, each with the address of its own engine, 127.0.0.1:port (measured with 3.259.0).
    """
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            here = _is_plugin(words) and (entry / "cwd").readlink() == project.resolve()
        except OSError:  # it ended, or is somebody else's
            continue
        if here and not _below_cli(int(entry.name)):
            found.append(int(entry.name))
    return found


def _is_plugin(words: list[str]) -> bool:
    names = {word.rpartition("/")[2] for word in words[:4]}
    ours = any(name.startswith(("pulumi-resource-", "pulumi-language-")) or name == "pulumi.dynamic" for name in names)
    return ours and any(word.startswith("127.0.0.1:") for word in words)


def _below_cli(pid: int) -> bool:
    """Whether a living CLI is among a process's ancestors."""
    while pid > 1:
        if _alive(pid) and Path(f"/proc/{pid}/comm").read_text() == "pulumi\n":
            return True
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False


def _end_all(living: Callable[[], list[int]]) -> list[int]:
    """End the processes that ``living`` names, gently first; returns their ids. Raises CommandError when some do not end."""
    first = members = living()
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in members:
            _signal(pid, number)
        limit = time.monotonic() + GENTLE_SECONDS
        while (members := living() if members else []) and time.monotonic() < limit:
            time.sleep(0.05)
    if members:
        raise CommandError(f"processes of an earlier run do not end: {members}. End them, then run this again")
    return first


def session_members(session: int, started: str) -> list[int]:
    """The living processes of the session whose leader began at ``started`` (clock ticks since boot).

    The kernel gives a session's id to nobody else while one of its processes lives; a leader that began at another moment
    shows that the id was given out anew.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(entry.name) == session and fields[19] != started:
            return []
        if int(fields[3]) == session and int(fields[19]) >= int(started) and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def start_time(pid: int) -> str:
    """When a process started, in clock ticks since boot (proc_pid_stat(5), field 22)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def release_lock(stack: Stack) -> bool:
    """Cancel the stack's locks when the processes that took them are dead; refuse while one lives. Whether there were any."""
    locks = stack.locks()
    for lock in locks:
        if lock.get("hostname") != socket.gethostname():
            raise CommandError(
                f"stack {stack.name} is locked by process {lock.get('pid')} on {lock.get('hostname')}. "
                f"If nothing works on it there: `pulumi cancel {stack.name}`"
            )
        if _alive(int(lock["pid"])):
            raise CommandError(
                f"stack {stack.name} is being changed by process {lock['pid']} on this machine. Wait for it, or end it"
            )
    if locks:
        stack.run("cancel", "--yes")  # takes away all of them
    return bool(locks)


def unfinished(state: dict[str, Any]) -> list[str]:
    """The URNs of operations that the state still calls pending."""
    pending: list[dict[str, Any]] = state.get("pending_operations") or []
    return [operation["resource"]["urn"] for operation in pending]


def wait_for_tasks(state: dict[str, Any], settings: Settings, away: Collection[str] = ()) -> None:
    """Wait until Proxmox VE has ended what an earlier run began with this stack's machines, on hosts that are not ``away``.

    A machine that is being deleted is still listed: a refresh would take it for one that is there. Raises ProxmoxError.
    """
    resources: list[dict[str, Any]] = state.get("resources") or []
    pending: list[dict[str, Any]] = state.get("pending_operations") or []
    machines: set[tuple[str, int]] = set()
    for resource in [*resources, *(operation["resource"] for operation in pending)]:
        values = {**(resource.get("inputs") or {}), **(resource.get("outputs") or {})}
        if resource["type"] == VM_TYPE and values.get("vmId") and (host := host_of(resource)):
            machines.add((host, int(values["vmId"])))
    hosts = {host for host, _ in machines} - set(away)
    if hosts:
        client = Client(settings.proxmox.endpoints, insecure=settings.proxmox.insecure)
        client.wait_for_tasks(hosts, {vm_id for _, vm_id in machines}, timeout=settings.deadlines.boot)


def remove_half_made(state: dict[str, Any], settings: Settings) -> list[str]:
    """Remove machines whose creation was never finished: made with an earlier run's settings, maybe half imported.

    Only a VM that carries a claim held by this stack's own state is touched, and none that the state holds as made: a change
    that was interrupted is no reason to lose a machine. Proxmox VE goes on with a task when its client is gone, so the VM's
    lock is waited for first. Returns the names of what was removed.
    """
    half_made = _half_made(state)
    if not half_made:
        return []
    claims = _claims(state)
    client = Client(settings.proxmox.endpoints, insecure=settings.proxmox.insecure)
    removed = []
    for guest in client.guests():
        if guest.name not in half_made:
            continue
        marker = Marker.find(str(client.config(guest).get("description", "")))
        if marker is None or marker.claim not in claims:
            continue
        client.wait_unlocked(guest, timeout=settings.deadlines.boot)
        client.destroy(guest, timeout=settings.deadlines.boot)
        removed.append(guest.name)
    return removed


def _half_made(state: dict[str, Any]) -> set[str]:
    """Names of the VMs that were being created and are not recorded: resource and VM have the same name."""
    pending: list[dict[str, Any]] = state.get("pending_operations") or []
    resources: list[dict[str, Any]] = state.get("resources") or []
    # One that is replaced stays recorded, marked, while its successor is made: the old machine is deleted first.
    made = {r["urn"] for r in resources if not (r.get("pendingReplacement") or r.get("delete"))}
    creating = {o["resource"]["urn"] for o in pending if o["type"] == "creating"}
    return {urn.rpartition("::")[2] for urn in creating - made if f"{VM_TYPE}::" in urn}


def _claims(state: dict[str, Any]) -> set[str]:
    resources: list[dict[str, Any]] = state.get("resources") or []
    return {
        resource["outputs"]["claim"]
        for resource in resources
        if resource["type"] == "pulumi-python:dynamic/swarm:Claim" and "claim" in resource.get("outputs", {})
    }


def _alive(pid: int) -> bool:
    """Whether the Pulumi that had this id still has it: ids are given out anew, most of all after a reboot.

    A dead process whose parent has not asked for its end yet is still listed (a zombie); that may last for ever where
    nobody adopts orphans.
    """
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return False
    return name.startswith("pulumi") and rest.split()[0] not in "ZX"


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
