"""`proxmox-swarm repair`: after a killed `pulumi up` outside of the lab."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from proxmox_swarm import toolchain
from proxmox_swarm.cli import away, leftovers, repair
from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.main import app
from proxmox_swarm.cli.pulumi import Stack
from proxmox_swarm.proxmox.client import Guest
from proxmox_swarm.proxmox.ownership import Marker
from tests.unit.cli.states import of_node

ROOT = Path(__file__).parents[3]
VM = "proxmoxve:index/vmLegacy:VmLegacy"
CLAIM = "pulumi-python:dynamic/swarm:Claim"
PREFIX = "urn:pulumi:prod::swarm::swarm:index:SwarmCluster$swarm:index:VirtualMachine"


def deployment(*creating: str) -> dict[str, Any]:
    """State with the claim of docker-app-1, and machines that were being made."""
    claim = {"urn": f"{PREFIX}${CLAIM}::docker-app-1", "type": CLAIM, "outputs": {"claim": "ours"}}
    pending = [{"resource": {"urn": f"{PREFIX}${VM}::{name}", "type": VM}, "type": "creating"} for name in creating]
    return {"resources": [claim], "pending_operations": pending}


class Pulumi:
    """The CLI: what it is told, with which environment, and what it knows."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.state = deployment()
        self.calls: list[str] = []
        self.environments: list[dict[str, str]] = []
        self.fails: dict[str, str] = {}

    def __call__(self, words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert words[0] == "pulumi" and "--non-interactive" in words
        said = " ".join(word for word in words[1:] if word not in ("--non-interactive",))
        self.calls.append(said)
        self.environments.append(dict(options["env"]))
        for start, error in self.fails.items():
            if said.startswith(start):
                return subprocess.CompletedProcess(words, 255, "", error)
        out = ""
        if said.startswith("whoami"):
            out = json.dumps({"user": "me", "url": self.backend})
        elif said.startswith("stack export"):
            out = json.dumps({"version": 3, "deployment": self.state})
        return subprocess.CompletedProcess(words, 0, out, "")

    def did(self) -> list[str]:
        """The subcommands that change something."""
        return [said for said in self.calls if not said.startswith(("whoami", "stack export"))]


class Proxmox:
    """A Proxmox VE with one guest, and when it was removed."""

    def __init__(self, pulumi: Pulumi) -> None:
        self.guest = Guest(4100, "docker-app-1", "pve01", "qemu", "stopped", ())
        self.claim = "ours"
        self.removed: list[str] = []
        self._pulumi = pulumi

    def guests(self) -> tuple[Guest, ...]:
        return (self.guest,)

    def config(self, _: Guest) -> dict[str, str]:
        return {"description": str(Marker("swarm", "prod", "docker-app-1", self.claim))}

    def wait_unlocked(self, _: Guest, *, timeout: float) -> None:
        pass

    def destroy(self, guest: Guest, *, timeout: float) -> None:
        assert not any(said.startswith("refresh") for said in self._pulumi.calls), "then nobody knows of it any more"
        self.removed.append(guest.name)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("Pulumi.yaml", "Pulumi.prod.yaml"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    (folder / ".pulumi").mkdir(parents=True)
    return folder


@pytest.fixture
def pulumi(state: Path, monkeypatch: pytest.MonkeyPatch) -> Pulumi:
    fake = Pulumi(f"file://{state}")
    monkeypatch.setattr(subprocess, "run", fake)
    return fake


@pytest.fixture
def proxmox(pulumi: Pulumi, monkeypatch: pytest.MonkeyPatch) -> Proxmox:
    fake = Proxmox(pulumi)
    monkeypatch.setattr(leftovers, "Client", lambda *_, **__: fake)
    return fake


Repair = Callable[..., list[str]]


@pytest.fixture
def mend(project: Path, monkeypatch: pytest.MonkeyPatch) -> Repair:
    """Repair stack prod; returns what was said."""

    def run(cancelled: bool = False, **environment: str) -> list[str]:
        said: list[str] = []
        repair.repair(Stack("prod", project, {"PATH": "/bin", **environment}), said.append, cancelled=cancelled)
        return said

    return run


def lock(state: Path, pid: int, hostname: str = "") -> None:
    folder = state / ".pulumi" / "locks" / "organization" / "swarm" / "prod"
    folder.mkdir(parents=True)
    text = json.dumps({"pid": pid, "username": "me", "hostname": hostname or socket.gethostname()})
    (folder / "0.json").write_text(text)


def dead() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


REFRESH = "refresh --yes --skip-preview --clear-pending-creates --stack prod"


def test_lock_machines_and_pending_creates_in_this_order(
    pulumi: Pulumi, proxmox: Proxmox, state: Path, mend: Repair
) -> None:
    lock(state, dead())
    pulumi.state = deployment("docker-app-1", "docker-app-2")
    said = mend()
    assert pulumi.did() == ["cancel --yes --stack prod", REFRESH]
    assert proxmox.removed == ["docker-app-1"]
    assert [line.split()[0].rstrip(":") for line in said] == ["lock", "repair", "refresh", "next"]
    assert "2 unfinished" in said[1] and "docker-app-1" in said[1]
    assert "pulumi up -s prod" in said[-1]


def test_without_a_lock_and_with_nothing_pending_the_state_is_compared(pulumi: Pulumi, mend: Repair) -> None:
    said = mend()
    assert pulumi.did() == [REFRESH]
    assert [line.split()[0].rstrip(":") for line in said] == ["refresh", "next"]


def test_what_is_on_a_host_that_is_away_is_left_alone(
    pulumi: Pulumi, mend: Repair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(away, "Client", lambda *_, **__: object())
    monkeypatch.setattr(away, "absent", lambda *_: {"pve02": "is offline"})
    pulumi.state = {"resources": [*of_node("docker-app-1", "pve01"), *of_node("docker-app-2", "pve02")]}
    said = mend()
    assert said[0] == "away      pve02 is offline: docker-app-2; left alone"
    (refreshed,) = pulumi.did()
    assert "--exclude **::docker-app-2" in refreshed and "docker-app-1" not in refreshed


def test_a_machine_of_somebody_else_stays(pulumi: Pulumi, proxmox: Proxmox, mend: Repair) -> None:
    pulumi.state = deployment("docker-app-1")
    proxmox.claim = "another"
    mend()
    assert proxmox.removed == []


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A living process by the CLI's name."""
    program = tmp_path / "pulumi"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    process = subprocess.Popen([program, "60"])
    yield process
    process.kill()
    process.wait(timeout=5)


def test_while_a_run_lives_nothing_is_touched(
    pulumi: Pulumi, proxmox: Proxmox, state: Path, mend: Repair, cli: subprocess.Popen[bytes]
) -> None:
    lock(state, cli.pid)
    pulumi.state = deployment("docker-app-1")
    with pytest.raises(CommandError, match=f"stack prod is being changed by process {cli.pid}"):
        mend()
    assert (pulumi.did(), proxmox.removed) == ([], [])


def test_a_lock_of_another_machine_stays(pulumi: Pulumi, state: Path, mend: Repair) -> None:
    lock(state, dead(), hostname="elsewhere")
    with pytest.raises(CommandError, match=r"on elsewhere.*`pulumi cancel prod`"):
        mend()
    assert pulumi.did() == []


@pytest.mark.parametrize(
    "backend", ["s3://bucket?region=eu-1&profile=swarm", "https://app.pulumi.com/me", "azblob://c"]
)
def test_where_the_locks_owner_cannot_be_seen_a_person_has_to_cancel(
    pulumi: Pulumi, proxmox: Proxmox, mend: Repair, backend: str
) -> None:
    pulumi.backend, pulumi.state = backend, deployment("docker-app-1")
    with pytest.raises(
        CommandError, match=r"`pulumi cancel prod`.*`proxmox-swarm repair --stack prod --cancelled`"
    ) as told:
        mend()
    assert "profile" not in str(told.value) and "\n" not in str(told.value)
    assert (pulumi.did(), proxmox.removed) == ([], [])
    mend(cancelled=True)
    assert (pulumi.did(), proxmox.removed) == ([REFRESH], ["docker-app-1"])


def test_the_word_of_a_person_does_not_open_a_lock_that_can_be_seen(
    pulumi: Pulumi, state: Path, mend: Repair, cli: subprocess.Popen[bytes]
) -> None:
    lock(state, cli.pid)
    with pytest.raises(CommandError, match="is being changed"):
        mend(cancelled=True)


def test_the_backend_of_the_environment_is_taken_first(pulumi: Pulumi, mend: Repair, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / ".pulumi").mkdir(parents=True)
    lock(other, dead(), hostname="elsewhere")
    with pytest.raises(CommandError, match="elsewhere"):
        mend(PULUMI_BACKEND_URL=f"file://{other}?metadata=skip")


def test_a_backend_that_is_not_logged_in_to_is_told(pulumi: Pulumi, mend: Repair) -> None:
    pulumi.fails = {"whoami": "error: PULUMI_ACCESS_TOKEN must be set for login"}
    with pytest.raises(CommandError, match="PULUMI_BACKEND_URL") as told:
        mend()
    assert "PULUMI_ACCESS_TOKEN must be set" in str(told.value)


def test_a_state_that_is_not_where_it_is_said_to_be_is_no_state_without_locks(
    pulumi: Pulumi, mend: Repair, tmp_path: Path
) -> None:
    with pytest.raises(CommandError, match="no Pulumi state in"):
        mend(PULUMI_BACKEND_URL=f"file://{tmp_path / 'nowhere'}")
    assert pulumi.did() == []


@pytest.mark.parametrize(("url", "expected"), [("file://./there", "{project}/there"), ("file:///a/b?x=1", "/a/b")])
def test_where_a_backend_of_files_is(project: Path, url: str, expected: str) -> None:
    stack = Stack("prod", project, {"PULUMI_BACKEND_URL": url})
    assert stack.state_folder() == Path(expected.format(project=project))


def test_a_backend_in_the_home_is_that_of_the_account(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the CLI reads it: not that of HOME."""
    import pwd

    monkeypatch.setenv("HOME", "/elsewhere")
    stack = Stack("prod", project, {"PULUMI_BACKEND_URL": "file://~/swarm-state"})
    assert stack.state_folder() == Path(pwd.getpwuid(os.getuid()).pw_dir) / "swarm-state"


def test_what_pulumi_says_comes_through(pulumi: Pulumi, mend: Repair) -> None:
    pulumi.fails = {"refresh": "error: the stack is currently locked by 1 lock(s)"}
    with pytest.raises(CommandError, match="currently locked"):
        mend()


def test_the_lab_mends_itself(pulumi: Pulumi, project: Path) -> None:
    with pytest.raises(CommandError, match="`make up` does this by itself"):
        repair.repair(Stack("lab", project, {}), print, cancelled=False)
    assert pulumi.calls == []


# -- processes ---------------------------------------------------------------------------------------------------------

#: A plugin as the CLI starts it: in the project's folder. Without a CLI above, nobody writes down what it does.
PLUGIN = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"


def plugin(folder: Path, *words: str) -> subprocess.Popen[str]:
    """A process by a plugin's name whose parent is gone, or (with words) lives and is called as they say."""
    program = folder.parent / "pulumi-resource-thing"
    if not program.exists():
        program.symlink_to(sys.executable)
    start = f"exec -a {program} {sys.executable} -c '{PLUGIN}' 127.0.0.1:4711"
    return subprocess.Popen(
        [*words, "bash", "-c", start if words else f"({start}) &"], cwd=folder, stdout=subprocess.PIPE, text=True
    )


def pid_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_a_killed_run_left_working_in_the_project_is_ended(project: Path) -> None:
    orphan = plugin(project)
    pid = pid_of(orphan)
    orphan.wait()
    assert leftovers.end_orphans(project) == [pid]
    limit = time.monotonic() + 5  # a process that is ending has no command line any more, and is listed a moment longer
    while lives(pid) and time.monotonic() < limit:
        time.sleep(0.01)
    assert not lives(pid)
    assert leftovers.end_orphans(project) == []


def test_plugins_of_a_living_run_and_of_other_projects_go_on(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    elsewhere = plugin(other)
    stranger = pid_of(elsewhere)
    program = tmp_path / "pulumi"
    program.write_text('#!/bin/sh\n"$@"\n')
    program.chmod(0o755)
    working = plugin(project, str(program))
    ours = pid_of(working)
    try:
        assert leftovers.end_orphans(project) == []
        assert lives(ours) and lives(stranger)
    finally:
        for pid in (ours, stranger):
            os.kill(pid, 9)
        working.wait()
        elsewhere.wait()


def test_they_are_ended_before_the_machines_they_work_on_are_looked_at(
    pulumi: Pulumi, proxmox: Proxmox, mend: Repair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "end_orphans", lambda _: [17, 18] if not proxmox.removed else pytest.fail("late"))
    pulumi.state = deployment("docker-app-1")
    said = mend()
    assert said[0].startswith("processes") and "17, 18" in said[0]
    assert proxmox.removed == ["docker-app-1"]


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_has_the_tools_on_its_path(
    project: Path, pulumi: Pulumi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Tools:
        def env(self) -> dict[str, str]:
            return {"PATH": "/tools"}

        def link_plugins(self, home: Path) -> None:
            assert home == tmp_path / "home"

    monkeypatch.setattr(toolchain, "locate", lambda: Tools())
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PULUMI_BACKEND_URL", raising=False)
    monkeypatch.chdir(project)
    done = CliRunner().invoke(app, ["repair", "--stack", "prod"])
    assert done.exit_code == 0, done.output
    assert {environment["PATH"] for environment in pulumi.environments} == {"/tools"}
    assert pulumi.did() == [REFRESH]


def test_the_stack_has_to_be_named() -> None:
    assert CliRunner().invoke(app, ["repair"]).exit_code == 2
