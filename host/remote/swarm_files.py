"""Work on dockerd's swarm folder while dockerd is stopped for it: pack it, put a packed one in place, detach it.

``args``: ``root`` of dockerd's data, ``save`` (the packed folder goes to stdout, before the result), ``put`` (a packed one
comes from stdin, behind the arguments, of this ``sha256``), ``detach``, ``undo``, ``finish``, ``timeout`` of a stop and a
start each; or ``stop`` or ``start`` alone, for work by somebody else in between. Result: ``down`` (seconds without dockerd),
of a save ``size`` and ``sha256``, of a put and of an undo ``aside`` (where the folder that was there is now, or null).

Detached means that dockerd does not find the swarm when it starts (daemon/cluster/utils.go, loadPersistentState), while
raft's log and the node's certificate stay: an init with ForceNewCluster takes them up. A mark stays until ``finish``, which
restarts dockerd: it keeps the force in memory, and would force again whenever its swarm part restarts (noderunner.go).
``undo`` is for a node whose swarm came back without a force: it goes back into it with its own state; state from a backup
is taken away, for a node id may live once only.

dockerd is started again whatever happens here: a timer of systemd does it if this program is killed.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import IO, Any

SOCKET = "/var/run/docker.sock"
GUARD = "proxmox-swarm-docker-back"
MARK = "proxmox-swarm-recovery"
STATE = "docker-state.json"
DETACHED = "docker-state.json.detached"


def run(*argv: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a program, keep what it says."""
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)


def units() -> list[str]:
    """dockerd, and the socket that would start it for whoever asks."""
    listening = run("systemctl", "cat", "docker.socket").returncode == 0
    return ["docker.socket", "docker.service"] if listening else ["docker.service"]


def guard(seconds: float) -> None:
    """Have dockerd started by systemd after so long, whatever becomes of this program."""
    stop_guard()
    start = f"--on-active={seconds:.0f}"
    made = run("systemd-run", "--quiet", "--collect", f"--unit={GUARD}", start, "systemctl", "start", *units())
    if made.returncode != 0:
        raise SystemExit(
            f"no timer that starts dockerd again could be made, so it was not stopped: {made.stderr.strip()}"
        )


def stop_guard() -> None:
    """There is no need of it any more."""
    run("systemctl", "stop", f"{GUARD}.timer")


def stop(timeout: float) -> None:
    """Stop dockerd. Raises SystemExit when it does not end."""
    try:
        done = run("systemctl", "stop", *units(), timeout=timeout)
        said = done.stderr.strip() if done.returncode else ""
    except subprocess.TimeoutExpired:
        said = f"not after {timeout:.0f} s"
    if said or run("systemctl", "is-active", "docker.service").stdout.strip() not in ("inactive", "failed"):
        raise SystemExit(f"dockerd did not stop: {said}")


def start(timeout: float, verb: str = "start") -> None:
    """Start dockerd and wait until it answers. Raises SystemExit with its last words."""
    run("systemctl", "reset-failed", *units())
    deadline = time.monotonic() + timeout
    try:
        if run("systemctl", verb, *units(), timeout=timeout).returncode == 0 and answers(deadline):
            return
    except subprocess.TimeoutExpired:
        pass
    said = run("journalctl", "-u", "docker.service", "-n", "30", "--no-pager", "-o", "cat").stdout.splitlines()
    errors = [line for line in said if "failed to start daemon" in line or "level=fatal" in line]
    raise SystemExit("dockerd did not start again: " + " ".join([*errors[-1:], *said[-3:]]))


def answers(deadline: float) -> bool:
    """Whether dockerd answers a ping on its socket before the deadline (monotonic seconds)."""
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(5)
                connection.connect(SOCKET)
                connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                if b" 200 " in connection.recv(100):
                    return True
        except OSError:
            pass
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)


def pack(swarm: Path) -> IO[bytes]:
    """The folder as a compressed archive, in a file that has no name: nothing of it is left behind, whatever happens."""
    packed = tempfile.TemporaryFile(dir=swarm.parent)  # noqa: SIM115 - read after dockerd is back

    def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        spare = member.name.startswith("./raft/") and member.name.endswith(".tmp")  # room that the log made beforehand
        return (
            member
            if (member.isreg() or member.isdir()) and not spare and Path(member.name).name not in (MARK, DETACHED)
            else None
        )

    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
        archive.add(swarm, arcname=".", filter=wanted)
    return packed


def unpack(data: bytes, folder: Path) -> None:
    """An archive of ours into a fresh folder: plain files and folders below it, and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            path = folder / member.name
            if ".." in path.parts or Path(member.name).is_absolute() or not (member.isreg() or member.isdir()):
                raise SystemExit(f"the archive has {member.name}, which no archive of ours has: nothing was changed")
            if member.isdir():
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            elif content := archive.extractfile(member):
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, member.mode & 0o777)
                with open(handle, "wb") as file:  # noqa: PTH123 - of a handle
                    shutil.copyfileobj(content, file)
                    os.fsync(handle)


def put(data: bytes, swarm: Path) -> str | None:
    """The unpacked archive in the folder's place, detached; where what was there is now."""
    fresh = swarm.with_name("swarm.restoring")
    unpack(data, fresh)
    (fresh / MARK).touch(mode=0o600)
    (fresh / STATE).unlink(missing_ok=True)
    aside = set_aside(swarm)
    fresh.rename(swarm)
    return aside


def set_aside(swarm: Path) -> str | None:
    """Move the folder out of dockerd's way; where it is now, or None where it was empty."""
    if swarm.exists() and any(swarm.iterdir()):
        stem = time.strftime("swarm.before-%Y%m%dT%H%M%SZ", time.gmtime())
        names = (swarm.with_name(f"{stem}-{number}" if number else stem) for number in itertools.count())
        aside = next(name for name in names if not name.exists())
        swarm.rename(aside)
        return str(aside)
    if swarm.exists():
        swarm.rmdir()
    return None


def detach(swarm: Path) -> None:
    """Keep dockerd from finding the swarm. The mark comes first, so that a kill in between is seen."""
    (swarm / MARK).touch(mode=0o600)
    if (swarm / STATE).exists():
        (swarm / STATE).replace(swarm / DETACHED)


def undo(swarm: Path) -> str | None:
    """Attach what was detached; take away what came from a backup."""
    if not (swarm / DETACHED).exists() and not (swarm / STATE).exists():
        return set_aside(swarm)
    if not (swarm / STATE).exists():
        (swarm / DETACHED).replace(swarm / STATE)
    (swarm / DETACHED).unlink(missing_ok=True)
    (swarm / MARK).unlink(missing_ok=True)
    return None


def work(args: dict[str, Any], swarm: Path, data: bytes) -> tuple[dict[str, Any], IO[bytes] | None]:
    """What is asked for, with dockerd stopped."""
    timeout = args["timeout"]
    if not args.get("put") and not (swarm / "raft").is_dir():
        raise SystemExit(f"there is no raft state in {swarm}")
    guard(3 * timeout)
    begun = time.monotonic()
    result: dict[str, Any] = {}
    packed = None
    try:
        stop(timeout)
        if args.get("save"):
            packed = pack(swarm)
        if args.get("put"):
            result["aside"] = put(data, swarm)
        elif args.get("detach"):
            detach(swarm)
        elif args.get("undo"):
            result["aside"] = undo(swarm)
    finally:
        start(timeout)
        stop_guard()
    return {**result, "down": round(time.monotonic() - begun, 1)}, packed


def main(args: dict[str, Any]) -> dict[str, Any]:
    """Stop dockerd, work, start it; then send what was packed."""
    for name in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)  # whoever started this may be gone: it ends by itself
    if args.get("stop"):
        guard(3 * args["timeout"])
        stop(args["timeout"])
        return {}
    if args.get("start"):
        start(args["timeout"])
        stop_guard()
        return {}
    swarm = Path(args["root"]) / "swarm"
    if args.get("finish"):
        begun = time.monotonic()
        start(args["timeout"], "restart")
        (swarm / DETACHED).unlink(missing_ok=True)
        (swarm / MARK).unlink(missing_ok=True)
        return {"down": round(time.monotonic() - begun, 1)}
    data = sys.stdin.buffer.read() if args.get("put") else b""
    if args.get("put") and hashlib.sha256(data).hexdigest() != args["sha256"]:
        raise SystemExit("the archive did not arrive as it was sent: nothing was changed")
    result, packed = work(args, swarm, data)
    if packed is None:
        return result
    with packed:
        digest, size = hashlib.sha256(), packed.tell()
        packed.seek(0)
        while block := packed.read(1 << 20):
            digest.update(block)
            sys.stdout.buffer.write(block)
        sys.stdout.buffer.write(b"\n")
        sys.stdout.buffer.flush()
    return {**result, "size": size, "sha256": digest.hexdigest()}
