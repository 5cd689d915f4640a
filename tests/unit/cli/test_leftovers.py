from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxmox_swarm.cli import leftovers
from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.leftovers import end_session, release_lock, remember_session, remove_half_made
from proxmox_swarm.cli.pulumi import Stack
from proxmox_swarm.proxmox.client import Guest
from proxmox_swarm.proxmox.ownership import Marker
from proxmox_swarm.settings import Settings, load, read_stack_file

ROOT = Path(__file__).parents[3]
TWO = "sleep 60 & sleep 60 & wait"

Start = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a shell script in a session of its own; whatever is left of it afterwards is ended."""
    leaders: list[subprocess.Popen[bytes]] = []

    def begin(script: str) -> subprocess.Popen[bytes]:
        leader = subprocess.Popen(["sh", "-c", script], start_new_session=True, stdout=subprocess.PIPE)
        leaders.append(leader)
        return leader

    yield begin
    for leader in leaders:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader.pid, signal.SIGKILL)
        leader.wait(timeout=5)


def living(session: int) -> list[int]:
    """The processes of a session that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(stat.parent.name))
    return found


def wait_for(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "session"


# -- processes ---------------------------------------------------------------------------------------------------------


def test_all_of_a_session_is_ended_and_forgotten(start: Start, record: Path) -> None:
    leader = start(TWO)
    wait_for(lambda: len(living(leader.pid)) == 3)
    remember_session(record, leader.pid)
    end_session(record)
    assert living(leader.pid) == []
    assert not record.exists()


def test_what_its_dead_leader_left_running_is_ended(start: Start, record: Path) -> None:
    leader = start("sleep 60 & wait")  # as a CLI that was killed leaves its plugins
    wait_for(lambda: len(living(leader.pid)) == 2)
    remember_session(record, leader.pid)
    leader.kill()
    leader.wait()
    assert len(living(leader.pid)) == 1
    end_session(record)
    assert living(leader.pid) == []


def test_who_does_not_listen_is_killed(start: Start, record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "GENTLE_SECONDS", 0.2)
    leader = start("trap '' TERM; echo deaf; while :; do sleep 60; done")
    assert leader.stdout is not None
    assert leader.stdout.readline() == b"deaf\n"
    remember_session(record, leader.pid)
    end_session(record)
    assert living(leader.pid) == []


def test_another_session_is_left_alone(start: Start, record: Path) -> None:
    ours, other = start(TWO), start(TWO)
    wait_for(lambda: len(living(other.pid)) == 3)
    remember_session(record, ours.pid)
    end_session(record)
    assert len(living(other.pid)) == 3


def test_a_process_id_that_was_given_out_anew_is_left_alone(start: Start, record: Path) -> None:
    leader = start(TWO)
    wait_for(lambda: len(living(leader.pid)) == 3)
    for earlier in (-1, +1):
        remember_session(record, leader.pid)
        session, started, boot = record.read_text().split()
        record.write_text(f"{session} {int(started) + earlier} {boot}")
        end_session(record)
        assert len(living(leader.pid)) == 3
        assert not record.exists()


def test_a_record_from_before_a_reboot_names_nobody(start: Start, record: Path) -> None:
    leader = start(TWO)
    wait_for(lambda: len(living(leader.pid)) == 3)
    remember_session(record, leader.pid)
    session, started, _ = record.read_text().split()
    record.write_text(f"{session} {started} 00000000-0000-0000-0000-000000000000")
    end_session(record)
    assert len(living(leader.pid)) == 3
    assert not record.exists()


@pytest.mark.parametrize("text", ["", "4711", "4711 17"])
def test_a_record_that_was_never_finished_is_forgotten(record: Path, text: str) -> None:
    record.write_text(text)
    end_session(record)
    assert not record.exists()


def test_nothing_to_end(record: Path) -> None:
    end_session(record)


def test_what_will_not_end_is_named(start: Start, record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "GENTLE_SECONDS", 0.05)
    monkeypatch.setattr(leftovers, "_signal", lambda *_: None)
    leader = start("exec sleep 60")
    wait_for(lambda: Path(f"/proc/{leader.pid}/comm").read_text() == "sleep\n")
    remember_session(record, leader.pid)
    with pytest.raises(CommandError, match=rf"do not end: \[{leader.pid}\]\. End them, then run this again"):
        end_session(record)
    assert record.exists(), "the next run must know of them too"


# -- the lock ----------------------------------------------------------------------------------------------------------

PROJECT = "swarm"


class Locked(Stack):
    """A stack with locks in a backend of files; its subcommands are only written down."""

    def __init__(self, folder: Path) -> None:
        (folder / "Pulumi.yaml").write_text(f"name: {PROJECT}\nruntime: python\n")
        super().__init__("lab", folder, {"PULUMI_BACKEND_URL": f"file://{folder / 'state'}"})
        self.folder = folder / "state" / ".pulumi" / "locks" / "organization" / PROJECT / "lab"
        self.ran: list[tuple[str, ...]] = []

    def take(self, pid: int, hostname: str = "") -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = {
            "pid": pid,
            "username": "root",
            "hostname": hostname or socket.gethostname(),
            "timestamp": "2026-11-21T10:18:19.295236011Z",
        }
        name = f"{len(list(self.folder.iterdir()))}.json"
        (self.folder / name).write_text(json.dumps(lock))
        (self.folder / f"{name}.attrs").write_text('{"user.cache_control":""}')

    def run(self, *words: str) -> str:
        self.ran.append(words)
        return ""


@pytest.fixture
def stack(tmp_path: Path) -> Locked:
    return Locked(tmp_path)


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A living process by the CLI's name."""
    program = tmp_path / "pulumi"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    process = subprocess.Popen([program, "60"])
    yield process
    process.kill()
    process.wait(timeout=5)


def dead() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_no_lock_is_nothing_to_cancel(stack: Locked) -> None:
    release_lock(stack)
    assert stack.ran == []


def test_a_living_owner_keeps_its_lock(stack: Locked, cli: subprocess.Popen[bytes]) -> None:
    stack.take(cli.pid)
    with pytest.raises(CommandError, match=f"stack lab is being changed by process {cli.pid} on this machine"):
        release_lock(stack)
    assert stack.ran == []


def test_a_dead_owners_lock_is_cancelled(stack: Locked) -> None:
    stack.take(dead())
    release_lock(stack)
    assert stack.ran == [("cancel", "--yes")]


def test_a_killed_owner_that_nobody_reaped_is_dead(stack: Locked, cli: subprocess.Popen[bytes]) -> None:
    stack.take(cli.pid)
    cli.kill()
    wait_for(lambda: Path(f"/proc/{cli.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    release_lock(stack)
    assert stack.ran == [("cancel", "--yes")]


def test_an_owner_whose_id_went_to_another_program_is_dead(stack: Locked) -> None:
    stack.take(os.getpid())
    release_lock(stack)
    assert stack.ran == [("cancel", "--yes")]


def test_one_living_owner_among_dead_ones_keeps_all(stack: Locked, cli: subprocess.Popen[bytes]) -> None:
    """`pulumi cancel` takes every lock away, also those of the living."""
    for pid in (dead(), cli.pid, dead()):
        stack.take(pid)
    with pytest.raises(CommandError, match=f"process {cli.pid}"):
        release_lock(stack)
    assert stack.ran == []


def test_a_lock_of_another_machine_is_not_judged(stack: Locked) -> None:
    stack.take(dead(), hostname="elsewhere")
    with pytest.raises(CommandError, match=r"locked by process \d+ on elsewhere"):
        release_lock(stack)
    assert stack.ran == []


# -- machines ----------------------------------------------------------------------------------------------------------

VM = "proxmoxve:index/vmLegacy:VmLegacy"
PARENT = "urn:pulumi:prod::swarm::swarm:index:SwarmCluster$swarm:index:VirtualMachine"
OURS = "c1a1m"


def urn(name: str, kind: str = VM) -> str:
    return f"{PARENT}${kind}::{name}"


def state(*pending: dict[str, Any], made: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    claim = "pulumi-python:dynamic/swarm:Claim"
    resources = [
        {"urn": urn("docker-app-1", claim), "type": claim, "outputs": {"claim": OURS}},
        {"urn": urn("docker-app-2", claim), "type": claim, "inputs": {}},
        {"urn": "urn:pulumi:prod::swarm::pulumi:pulumi:Stack::swarm-prod", "type": "pulumi:pulumi:Stack"},
        *made,
    ]
    return {"resources": resources, "pending_operations": list(pending)}


def pending(name: str, kind: str = "creating", of: str = VM) -> dict[str, Any]:
    return {"resource": {"urn": urn(name, of), "type": of, "inputs": {}}, "type": kind}


class Proxmox:
    """A Proxmox VE: guests with their descriptions, and what was done to whom in which order."""

    def __init__(self) -> None:
        self.descriptions: dict[Guest, str] = {}
        self.done: list[tuple[str, str, float]] = []
        self.read: list[str] = []
        self.waited: list[tuple[set[str], set[int], float]] = []

    def has(self, vm_id: int, name: str, description: str) -> None:
        self.descriptions[Guest(vm_id, name, "pve01", "qemu", "stopped", ())] = description

    def guests(self) -> tuple[Guest, ...]:
        return tuple(self.descriptions)

    def config(self, guest: Guest) -> dict[str, str]:
        self.read.append(guest.name)
        return {"description": self.descriptions[guest]}

    def wait_unlocked(self, guest: Guest, *, timeout: float) -> None:
        self.done.append(("unlocked", guest.name, timeout))

    def destroy(self, guest: Guest, *, timeout: float) -> None:
        self.done.append(("destroy", guest.name, timeout))

    def wait_for_tasks(self, hosts: Collection[str], vm_ids: Collection[int], *, timeout: float) -> None:
        self.waited.append((set(hosts), set(vm_ids), timeout))


@pytest.fixture(scope="module")
def settings() -> Settings:
    file = ROOT / "Pulumi.prod.yaml"
    return load(read_stack_file(file, PROJECT), project=PROJECT, stack="prod", base=ROOT)


@pytest.fixture
def proxmox(monkeypatch: pytest.MonkeyPatch) -> Proxmox:
    fake = Proxmox()
    monkeypatch.setattr(leftovers, "Client", lambda *_, **__: fake)
    return fake


def marked(claim: str = OURS, node: str = "docker-app-1") -> str:
    return str(Marker("swarm", "prod", node, claim))


def test_a_half_made_machine_of_ours_is_removed_once_its_lock_is_free(proxmox: Proxmox, settings: Settings) -> None:
    proxmox.has(4100, "docker-app-1", marked())
    assert remove_half_made(state(pending("docker-app-1")), settings) == ["docker-app-1"]
    boot = settings.deadlines.boot
    assert proxmox.done == [("unlocked", "docker-app-1", boot), ("destroy", "docker-app-1", boot)]


@pytest.mark.parametrize(
    "description",
    ["", "a VM of somebody else", marked("another-claim")],
    ids=["no description", "a stranger's", "a claim that state does not hold"],
)
def test_a_machine_without_a_claim_in_state_is_not_touched(
    proxmox: Proxmox, settings: Settings, description: str
) -> None:
    proxmox.has(4100, "docker-app-1", description)
    assert remove_half_made(state(pending("docker-app-1")), settings) == []
    assert proxmox.done == []


def test_a_machine_that_was_not_being_made_is_not_even_asked_about(proxmox: Proxmox, settings: Settings) -> None:
    proxmox.has(4101, "docker-app-2", marked())
    proxmox.has(100, "web", "")
    assert remove_half_made(state(pending("docker-app-1")), settings) == []
    assert proxmox.read == []


@pytest.mark.parametrize("operation", ["updating", "deleting", "reading", "importing"])
def test_an_operation_that_was_interrupted_on_a_machine_costs_no_machine(
    proxmox: Proxmox, settings: Settings, operation: str
) -> None:
    proxmox.has(4700, "docker-infra-1-data", marked())
    assert remove_half_made(state(pending("docker-infra-1-data", operation)), settings) == []
    assert proxmox.done == []


def test_a_data_holder_that_state_holds_is_never_removed(proxmox: Proxmox, settings: Settings) -> None:
    """Its replacement could not be made under the same id: what is there is the old one, with the data."""
    proxmox.has(4700, "docker-infra-1-data", marked())
    made = ({"urn": urn("docker-infra-1-data"), "type": VM, "outputs": {}},)
    assert remove_half_made(state(pending("docker-infra-1-data"), made=made), settings) == []
    assert proxmox.done == []


@pytest.mark.parametrize("mark", ["pendingReplacement", "delete"])
def test_a_half_made_successor_of_a_machine_that_is_gone_is_removed(
    proxmox: Proxmox, settings: Settings, mark: str
) -> None:
    proxmox.has(4100, "docker-app-1", marked())
    made = ({"urn": urn("docker-app-1"), "type": VM, "outputs": {}, mark: True},)
    assert remove_half_made(state(pending("docker-app-1"), made=made), settings) == ["docker-app-1"]


def test_without_a_pending_machine_proxmox_is_not_asked(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("asked")

    monkeypatch.setattr(leftovers, "Client", refuse)
    assert remove_half_made(state(), settings) == []
    other = pending("docker-app-1", of="pulumi-python:dynamic/swarm:Member")
    assert remove_half_made(state(other), settings) == []
    assert remove_half_made({}, settings) == []


def test_tasks_of_machines_that_are_recorded_or_were_being_made_are_waited_for(
    proxmox: Proxmox, settings: Settings
) -> None:
    """But for those on hosts that are away; before it is asked what is there."""
    made = tuple(
        {"urn": urn(str(vm_id)), "type": VM, "inputs": {"nodeName": host}, "outputs": {"vmId": vm_id, "nodeName": host}}
        for host, vm_id in (("pve01", 4100), ("pve01", 4101), ("pve03", 4102))
    )
    making = pending("docker-infra-1")
    making["resource"]["inputs"] = {"vmId": 4200, "nodeName": "pve02"}
    leftovers.wait_for_tasks(state(making, made=made), settings, {"pve03": "offline"})
    assert proxmox.waited == [({"pve01", "pve02"}, {4100, 4101, 4102, 4200}, settings.deadlines.boot)]
    leftovers.wait_for_tasks(state(), settings)
    assert len(proxmox.waited) == 1


def test_unfinished_names_every_pending_operation() -> None:
    found = leftovers.unfinished(state(pending("docker-app-1"), pending("docker-app-2", "updating")))
    assert found == [urn("docker-app-1"), urn("docker-app-2")]
    assert leftovers.unfinished({}) == []
