from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from proxmox_swarm.cli import converge, destroy, leftovers
from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.progress import Progress
from proxmox_swarm.cli.pulumi import Stack
from proxmox_swarm.components.established import OVERRIDE
from proxmox_swarm.settings import Settings, load, read_stack_file

ROOT = Path(__file__).parents[3]
MEMBER = "pulumi-python:dynamic/swarm:Member"


@pytest.fixture(scope="module")
def settings() -> Settings:
    file = ROOT / "Pulumi.prod.yaml"
    return load(read_stack_file(file, "swarm"), project="swarm", stack="prod", base=ROOT)


# -- which nodes come first --------------------------------------------------------------------------------------------


def member(node: str, **outputs: str) -> dict[str, Any]:
    return {"type": MEMBER, "urn": f"urn::{MEMBER}::{node}", "outputs": {"node": node, **outputs}}


def test_members_whose_recorded_verdict_is_not_ok_come_first() -> None:
    resources = [
        member("app-1", verdict="ok"),
        member("app-2", verdict="unreachable"),
        {"type": "swarm:index:SwarmCluster", "urn": "urn"},
        member("app-3", verdict="left"),
        member("app-4"),
        {"type": MEMBER, "urn": "being made"},
    ]
    assert converge._not_well({"resources": resources}) == ["app-2", "app-3"]
    assert converge._not_well({}) == []


def test_those_that_are_drifted_come_after_those_that_are_dead() -> None:
    """A run that ended between draining a manager and demoting it leaves it drifted: taking it out first would be refused."""
    resources = [member("app-1", verdict="drifted"), member("app-2", verdict="left"), member("app-3", verdict="ok")]
    assert converge._not_well({"resources": resources}) == ["app-2", "app-1"]


def test_a_state_without_a_swarm_gets_the_shape_of_bring_up_whatever_its_outputs_say() -> None:
    assert converge.ESTABLISHED == OVERRIDE
    machine = {"type": "proxmoxve:index/vmLegacy:VmLegacy", "urn": "urn"}
    swarm = {"type": "pulumi-python:dynamic/swarm:Cluster", "urn": "urn"}
    assert converge._shape({}) == converge._shape({"resources": [machine]}) == {OVERRIDE: "0"}
    assert converge._shape({"resources": [machine, swarm]}) == {}


# -- following the CLI -------------------------------------------------------------------------------------------------

#: Writes what it is given, piece by piece, as slowly as a reader can stand, then ends as it is told.
CLI = """
import os, sys, time
_, pieces, code, *words = sys.argv
log = words[words.index("--event-log") + 1]
with open(log, "ab", buffering=0) as out:
    for piece in eval(pieces):
        out.write(piece)
        time.sleep(0.05)
print("first:", os.environ["PROXMOX_SWARM_FIRST"], "debug:", os.environ["PULUMI_DEBUG_COMMANDS"])
if int(code) < 0:
    os.kill(os.getpid(), -int(code))
sys.exit(int(code))
"""


class Scripted(Stack):
    """A stack whose CLI writes these pieces of an event log and ends with this code."""

    def __init__(self, folder: Path, pieces: list[bytes], code: int = 0) -> None:
        super().__init__("lab", folder, {})
        self._pieces, self._code = pieces, code

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-c", CLI, repr(self._pieces), str(self._code), *words]


def up(stack: Stack, settings: Settings, folder: Path, first: list[str] | None = None) -> tuple[Progress, list[str]]:
    said: list[str] = []
    progress = Progress(settings, said.append)
    converge._pulumi(stack, folder / "session", progress, {"PROXMOX_SWARM_FIRST": " ".join(first or [])})
    return progress, said


def error(text: str, node: str) -> bytes:
    urn = f"urn:pulumi:lab::swarm::{MEMBER}::{node}"
    events = [
        {"diagnosticEvent": {"severity": "error", "message": text, "urn": urn}},
        {"resOpFailedEvent": {"metadata": {"op": "create", "urn": urn, "type": MEMBER}}},
    ]
    return "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events).encode()


def test_events_are_read_whole_however_they_are_written(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converge, "POLL", 0.01)
    data = error("2377/tcp app-2 → app-1: closed", "docker-app-2")
    arrow = data.index("→".encode()) + 1
    pieces = [data[:10], data[10:arrow], data[arrow : arrow + 30], data[arrow + 30 :]]
    progress, said = up(Scripted(tmp_path, pieces), settings, tmp_path)
    assert said == ["error: docker-app-2: 2377/tcp app-2 → app-1: closed"]
    assert len(progress.failed) == 1


def test_a_failure_names_what_failed_and_says_it_once(settings: Settings, tmp_path: Path) -> None:
    stack = Scripted(tmp_path, [error("cannot", "docker-app-2"), error("no", "docker-app-1")], code=255)
    with pytest.raises(CommandError) as failed:
        up(stack, settings, tmp_path)
    assert str(failed.value) == (
        "pulumi up failed at docker-app-1, docker-app-2. Mend the cause and run `make up` again"
    )


def test_the_clis_own_words_are_told_when_nothing_else_was(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(CommandError) as failed:
        up(Scripted(tmp_path, [], code=1), settings, tmp_path, first=["app-2", "app-3"])
    assert str(failed.value).startswith("pulumi up failed. Mend the cause")
    assert failed.value.detail == "first: app-2 app-3 debug: 1"


def test_a_killed_cli_is_told_as_such(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"ended by signal 9\. Nothing needs cleaning up: run `make up` again"):
        up(Scripted(tmp_path, [], code=-9), settings, tmp_path)


def test_nothing_of_a_run_outlives_it(settings: Settings, tmp_path: Path) -> None:
    class Forking(Scripted):
        """Leaves a child behind, as a killed CLI leaves its plugins."""

        def command(self, *words: str) -> list[str]:
            return ["sh", "-c", f"sleep 60 & echo $! >{tmp_path}/child"]

    up(Forking(tmp_path, []), settings, tmp_path)
    child = (tmp_path / "child").read_text().strip()
    stat = Path(f"/proc/{child}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"
    assert not (tmp_path / "session").exists()


def test_a_refresh_is_a_session_that_the_next_run_can_end(tmp_path: Path) -> None:
    """Killing what started it leaves it at work, with the stack's lock: the next `up` must know of it."""
    record = tmp_path / "session"

    class Refreshing(Scripted):
        def command(self, *words: str) -> list[str]:
            told = f"cp {record} {tmp_path}/told; ps -o sid= $$ > {tmp_path}/sid; echo error: no; exit 3"
            return ["sh", "-c", f"while [ ! -e {record} ]; do sleep 0.01; done; {told}"]

    with pytest.raises(CommandError, match="`pulumi refresh` failed on stack lab:\nerror: no"):
        leftovers.run_recorded(Refreshing(tmp_path, []), record, "refresh", "--yes")
    assert (tmp_path / "told").read_text().split()[0] == (tmp_path / "sid").read_text().strip()
    assert not record.exists()


# -- one at a time -----------------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from proxmox_swarm.cli.converge import alone
with alone(Path(sys.argv[1])):
    print("alone", flush=True)
    time.sleep(60)
"""


def test_a_second_up_or_down_beside_a_living_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(_: Path) -> None:
        raise AssertionError("the processes of the living one were taken for leftovers")

    monkeypatch.setattr(leftovers, "end_session", ended)
    monkeypatch.setattr(converge, "read_settings", lambda *_: None)
    run = tmp_path / "run"
    stack = Stack("lab", tmp_path, {})
    with subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"alone\n"
            with pytest.raises(CommandError, match="another `up` or `down` of this lab is running"):
                converge.converge(stack, run, print)
            with pytest.raises(CommandError, match="another `up` or `down` of this lab is running"):
                destroy.destroy(stack, run, print)
        finally:
            holder.kill()
    began = time.monotonic()
    with converge.alone(run):
        assert time.monotonic() - began < 5, "a dead one holds nobody up"
    assert run.stat().st_mode & 0o777 == 0o700
