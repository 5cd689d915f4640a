"""Read, and where asked change, the files and services of this host that HostState owns.

``args``: ``paths`` to read; and for a change ``files`` {path: [text or null (delete), mode]}, ``resolved`` and ``resolv``
(texts of the two ways to set name servers, or null), ``daemon`` (text of daemon.json), ``reloadable`` (its keys that
dockerd takes over on SIGHUP), ``may_restart`` (whether dockerd may be restarted now), ``first`` (the first time on this
machine: daemon.json may have come with the first boot, before or after dockerd started), ``timeout`` of a restart. On a
machine that was there before: ``keep`` (keys of daemon.json that are not in ``daemon`` stay), ``spare`` (files that stay
where they are not ours), ``adopting`` (a running dockerd and its daemon.json are left as they are).

Result: ``files`` {path: text or null}, ``resolved`` (systemd-resolved runs), ``pending`` (dockerd has yet to load its
file), and of a change ``restart_needed`` (nothing done about daemon.json yet), ``absent`` (there is no Docker, or not all
of it: daemon.json waits for it) or ``refused`` (why dockerd did not take it; the old file is in place and dockerd runs with
it).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

DAEMON = Path("/etc/docker/daemon.json")
PENDING = Path("/run/proxmox-swarm-dockerd-restart-pending")
#: Docker is being installed, or its installation was cut short; see docker_install.
UNFINISHED = Path("/var/lib/proxmox-swarm/docker-install-unfinished")
MARK = "Managed by proxmox-swarm"
RESOLVED = Path("/etc/systemd/resolved.conf.d/50-proxmox-swarm.conf")
RESOLV = Path("/etc/resolv.conf")
RESOLV_BEFORE = Path("/etc/resolv.conf.before-proxmox-swarm")


def run(*argv: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a program, keep what it says."""
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)


def dockerd() -> str | None:
    """Where dockerd is: Docker's packages put it into /usr/bin, Debian's into /usr/sbin."""
    return shutil.which("dockerd", path="/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin")


def read(path: Path) -> str | None:
    """A file's text, or None."""
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None


def write(path: Path, text: str | None, mode: int = 0o644) -> bool:
    """Make a file be like this (None: absent), whole or not at all; whether that changed anything."""
    if read(path) == text and (text is None or (not path.is_symlink() and path.stat().st_mode & 0o777 == mode)):
        return False
    if text is None:
        path.unlink()
        return True
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".proxmox-swarm-new")
    new.write_text(text)
    new.chmod(mode)
    new.replace(path)
    return True


def resolved_runs() -> bool:
    """Whether systemd-resolved answers names here."""
    return run("systemctl", "is-active", "--quiet", "systemd-resolved").returncode == 0


def set_names(resolved: str | None, resolv: str | None, running: bool) -> None:
    """Name servers, in the way this host uses."""
    if running:
        if write(RESOLVED, resolved):
            run("systemctl", "restart", "systemd-resolved")
        return
    if resolv is None:
        if RESOLV_BEFORE.exists():
            RESOLV_BEFORE.replace(RESOLV)
        return
    if not RESOLV_BEFORE.exists():
        write(RESOLV_BEFORE, read(RESOLV) or "")
    write(RESOLV, resolv)


def parsed(text: str | None) -> Any:
    """daemon.json as an object; something that equals nothing else when it is broken."""
    try:
        return json.loads(text) if text and text.strip() else {}
    except ValueError:
        return {"": text}


def answers(deadline: float) -> bool:
    """Whether dockerd answers a ping on its socket before the deadline (monotonic seconds)."""
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(5)
                connection.connect("/var/run/docker.sock")
                connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                if b" 200 " in connection.recv(100):
                    return True
        except OSError:
            pass
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)


def restart(timeout: float) -> str | None:
    """Restart dockerd and wait until it answers; what it said when it did not."""
    run("systemctl", "reset-failed", "docker.service", "docker.socket")
    deadline = time.monotonic() + timeout
    try:
        result = run("systemctl", "restart", "docker.service", timeout=timeout)
        if result.returncode == 0 and answers(deadline):
            return None
    except subprocess.TimeoutExpired:
        pass
    said = run("journalctl", "-u", "docker.service", "-n", "30", "--no-pager", "-o", "cat").stdout.splitlines()
    errors = [line for line in said if "failed to start daemon" in line or "level=fatal" in line]
    return "\n".join([*errors[-1:], *said[-6:]]) or f"not running after {timeout:.0f} s"


def invalid(text: str) -> str | None:
    """What dockerd has against this configuration. Engines before 23.0 cannot say."""
    program = dockerd()
    if program is None:
        return None
    trial = DAEMON.with_name("daemon.json.proxmox-swarm-trial")
    write(trial, text)
    try:
        result = run(program, "--validate", f"--config-file={trial}")
    finally:
        trial.unlink()
    said = (result.stderr or result.stdout).strip()
    return None if result.returncode == 0 or "unknown flag" in said else said or "dockerd --validate failed"


def started_after(file: Path) -> bool:
    """Whether dockerd, if it runs, was started after the file was written."""
    pid = run("systemctl", "show", "--property=MainPID", "--value", "docker.service").stdout.strip()
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        now, up = time.time(), float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return True
    return now - up + int(fields[19]) / os.sysconf("SC_CLK_TCK") >= file.stat().st_mtime - 0.05


def set_daemon(args: dict[str, Any]) -> dict[str, Any]:
    """Bring daemon.json to its wanted content and dockerd to load it."""
    if dockerd() is None or UNFINISHED.exists():
        write(DAEMON, args["daemon"])
        return {"absent": True}
    if args["adopting"]:
        return {}
    old = read(DAEMON)
    before, wanted = parsed(old), parsed(args["daemon"])
    if args["keep"]:
        wanted = {**{key: value for key, value in before.items() if key}, **wanted}
    text = json.dumps(wanted, indent=2, sort_keys=True) + "\n"
    if args["first"] and before == wanted and not started_after(DAEMON):
        PENDING.touch()
    if before == wanted and not PENDING.exists():
        return {}
    if problem := invalid(text):
        return {"refused": problem}
    changed = {key for key in {*before, *wanted} if before.get(key) != wanted.get(key)}
    state = run("systemctl", "is-active", "docker.service").stdout.strip()
    # The mark outlives a kill of this program between the two steps; a reboot removes it and loads the file.
    if state == "active" and not PENDING.exists() and changed <= set(args["reloadable"]):
        PENDING.touch()
        write(DAEMON, text)
        if run("systemctl", "reload", "docker.service").returncode == 0:
            PENDING.unlink(missing_ok=True)
            return {}
    # One that does not run was stopped by somebody who has it in hand, perhaps; but for the first time it is just starting.
    if not args["may_restart"] and (state == "active" or not args["first"]):
        return {"restart_needed": True}
    PENDING.touch()
    write(DAEMON, text)
    problem = restart(args["timeout"])
    if problem is None:
        PENDING.unlink(missing_ok=True)
        return {}
    write(DAEMON, old)
    again = restart(args["timeout"])
    PENDING.unlink(missing_ok=True)
    return {"refused": problem + (f"\nand with the old file put back: {again}" if again else "")}


def main(args: dict[str, Any]) -> dict[str, Any]:
    """Change what ``args`` asks for, if anything, and report how things are."""
    running = resolved_runs()
    outcome: dict[str, Any] = {}
    if "files" in args:
        for path, (text, mode) in args["files"].items():
            if path not in args["spare"] or MARK in (read(Path(path)) or MARK):
                write(Path(path), text, mode)
        set_names(args["resolved"], args["resolv"], running)
        outcome = set_daemon(args)
    files = {path: read(Path(path)) for path in args["paths"]}
    return {**outcome, "files": files, "resolved": running, "pending": PENDING.exists()}
