"""A lab of the tests' own, and the ways tests look at it: the real commands, the engines themselves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from proxmox_swarm.lab import Lab

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv" / "bin"
#: An election ends within a few ticks of a second each; on a loaded machine it may take several rounds.
ELECTION = 45
#: Nodes that an election made unknown are down after 33 s at most, and ready again with their next heartbeat.
SETTLE = 45
#: What an engine answers meanwhile.
IN_AN_ELECTION = ("does not have a leader", "context deadline exceeded")


class Site:
    """A lab in a folder of its own, driven by the commands people type."""

    def __init__(self, folder: Path, project: Path = ROOT) -> None:
        self.folder = folder
        self.project = project
        self.environment = {
            **{
                k: v
                for k, v in os.environ.items()
                if not k.startswith(("PULUMI", "PROXMOX", "DOCKER", "SSL_", "REQUESTS_"))
            },
            "PROXMOX_SWARM_LAB": str(folder),
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }

    def run(
        self, *argv: str, check: bool = True, timeout: float = 600, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A command in the project's folder, as a person would type it."""
        done = subprocess.run(
            argv,
            cwd=self.project,
            env=environment or self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def start(self, *argv: str, log: Path) -> subprocess.Popen[bytes]:
        """A command that goes on while the test does something to it."""
        with log.open("wb") as sink:
            return subprocess.Popen(
                argv,
                cwd=self.project,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def make(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """``make`` with these words."""
        return _shown(self.run("make", "--silent", *words, check=check))

    def exec(self, *argv: str, check: bool = True, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """A command inside the lab's network."""
        return self.run("lab", "exec", "--", *argv, check=check, timeout=timeout)

    def pulumi(self, *words: str, check: bool = True, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """The CLI inside the lab."""
        done = self.exec("pulumi", *words, "--non-interactive", check=check, timeout=timeout)
        return _shown(done) if words[0] in ("up", "refresh") else done

    def outputs(self, stack: str = "lab") -> dict[str, Any]:
        """The stack's outputs."""
        found: dict[str, Any] = json.loads(self.pulumi("stack", "output", "--json", "--stack", stack).stdout)
        return found

    def state(self, stack: str = "lab") -> dict[str, Any]:
        """The stack's state, secrets encrypted."""
        found: dict[str, Any] = json.loads(self.pulumi("stack", "export", "--stack", stack).stdout)["deployment"]
        return found

    def steps(self, *words: str, stack: str = "lab") -> dict[str, str]:
        """What a preview would do to what is not the same: operation by ``<type's last part> <name>``."""
        shown = json.loads(self.pulumi("preview", "--json", "--stack", stack, *words).stdout)
        return {
            f"{step['urn'].split('$')[-1].split('::')[0].split(':')[-1]} {step['urn'].split('::')[-1]}": step["op"]
            for step in shown["steps"]
            if step["op"] not in ("same", "read", "refresh")
        }

    def ssh(self, address: str, script: str, check: bool = True) -> str:
        """A root shell script on a node, over SSH as an operator has it."""
        return self.exec("ssh", f"ansible@{address}", "sudo", "-n", "sh", "-c", _quoted(script), check=check).stdout

    def nodes(self, address: str = "192.168.4.30") -> dict[str, dict[str, Any]]:
        """``docker node inspect`` of every node, by host name, as the engine at ``address`` tells it."""
        listed = self._asked(address, "ids=$(docker node ls -q) && docker node inspect $ids")
        return {node["Description"]["Hostname"]: node for node in json.loads(listed)}

    def mend(self) -> bool:
        """Put right what the engine is known to do wrong by itself; whether there was any."""
        return False

    def _asked(self, address: str, script: str) -> str:
        """What a manager answers. Two labs on two cores make heartbeats late: an election is waited out, nothing else."""
        limit = time.monotonic() + ELECTION
        while True:
            try:
                return self.ssh(address, script)
            except AssertionError as error:
                if not any(words in str(error) for words in IN_AN_ELECTION) or time.monotonic() > limit:
                    raise
            time.sleep(1)

    def summary(self, address: str = "192.168.4.30") -> list[tuple[str, str, str, str]]:
        """``docker node ls``: name, status, availability, manager status."""
        form = "{{.Hostname}}|{{.Status}}|{{.Availability}}|{{.ManagerStatus}}"
        listed = self._asked(address, f"docker node ls --format '{form}'").split("\n")
        return sorted(tuple(line.split("|")) for line in listed if line)  # type: ignore[misc]


def _shown(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """Where a test fails pytest shows what was printed in it; elsewhere nobody has asked for it."""
    if "PYTEST_CURRENT_TEST" in os.environ:
        print(time.strftime("%H:%M:%S"), *done.args[-6:], done.stdout, done.stderr)
    return done


T = TypeVar("T")


def until(check: Callable[[], T], seconds: float, what: str) -> T:
    """What ``check`` gives once it gives something true; ``what`` says in words what is waited for."""
    limit = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < limit, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.3)
    return found


def _quoted(script: str) -> str:
    return "'" + script.replace("'", "'\\''") + "'"


def stack_file(change: dict[str, Any], target: Path, source: str = "lab") -> Path:
    """A copy of a stack's file with some top-level keys changed (deep-merged), for ``--config-file``."""
    content = yaml.safe_load((ROOT / f"Pulumi.{source}.yaml").read_text())
    _merge(content["config"], {f"swarm:{key}": value for key, value in change.items()})
    target.write_text(yaml.safe_dump(content, sort_keys=False))
    return target


def _merge(into: dict[str, Any], change: dict[str, Any]) -> None:
    for key, value in change.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


SEVEN = [
    "docker-app-1",
    "docker-app-2",
    "docker-app-3",
    "docker-infra-1",
    "docker-infra-2",
    "docker-infra-3",
    "swarmpit-mgmt",
]


def assert_whole(site: Site, names: list[str] = SEVEN, managers: int = 3, address: str = "192.168.4.30") -> None:
    """The engines themselves agree: these nodes and no others, all ready and active, one leader, the rest reachable.

    After a change of leader that takes until every node has registered with the new one.
    """
    roles = ["Leader", *["Reachable"] * (managers - 1)]
    wanted = (sorted(names), {("Ready", "Active")}, roles)
    limit, mended = time.monotonic() + SETTLE, False
    while True:
        rows = site.summary(address)
        found = ([row[0] for row in rows], {row[1:3] for row in rows}, sorted(row[3] for row in rows if row[3]))
        if found == wanted:
            return
        if time.monotonic() > limit:
            assert not mended and site.mend(), rows
            limit, mended = time.monotonic() + SETTLE, True
        time.sleep(0.5)


def pending(site: Site, kind: str, name: str, operation: str = "creating") -> bool:
    """Whether the stack's own state says that this is being done to a resource right now."""
    file = site.folder / "state" / ".pulumi" / "stacks" / "swarm" / "lab.json"
    try:
        state = json.loads(file.read_text())
    except (OSError, ValueError):
        return False
    operations = (state.get("checkpoint", {}).get("latest") or {}).get("pending_operations") or []
    return any(o["resource"]["urn"].endswith(f"{kind}::{name}") and o["type"] == operation for o in operations)


def task_runs(site: Site, kind: str) -> bool:
    """Whether the Proxmox VE API runs such a task right now, by its own record."""
    begun: set[str] = set()
    for entry in Lab(site.folder).record():
        if entry.get("event") == "task-start" and entry["type"] == kind:
            begun.add(entry["upid"])
        elif entry.get("event") == "task-end":
            begun.discard(entry["upid"])
    return bool(begun)


def kill(site: Site, up: int, whole_group: bool) -> None:
    """Kill the Pulumi of a running ``make up`` (process ``up``): the CLI alone, or everything that belongs to it."""
    session = int((site.folder / "run" / "session").read_text().split()[0])
    if whole_group:
        os.killpg(up, signal.SIGKILL)  # make, our command, and what runs in the lab
        for entry in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = entry.read_text().rpartition(")")[2].split()
                if int(fields[3]) == session:
                    os.kill(int(entry.parent.name), signal.SIGKILL)
            except (OSError, ValueError):
                continue
    else:
        os.kill(session, signal.SIGKILL)
