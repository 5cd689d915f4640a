from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from proxmox_swarm.cli.down import down
from proxmox_swarm.cli.errors import CommandError


class Lab:
    """Stands for a lab with machines in it."""

    def __init__(self, folder: Path, *machines: tuple[int, str, str | None]) -> None:
        self.paths = SimpleNamespace(state=folder / "state")
        self.paths.state.mkdir()
        self.machines = [{"vmid": i, "name": name, "tags": tags} for i, name, tags in machines]
        self.did: list[str] = []

    def up(self, _: Any) -> None:
        self.did.append("up")

    def status(self) -> dict[str, Any]:
        return {"machines": self.machines}

    def command(self, words: list[str]) -> list[str]:
        return ["inside", *words]

    def environment(self) -> dict[str, str]:
        return {"LAB": "1"}

    def down(self) -> None:
        self.did.append("down")


class Run:
    def __init__(self) -> None:
        self.calls: list[tuple[list[str], dict[str, Any]]] = []
        self.code = 0

    def __call__(self, words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        self.calls.append((words, options))
        return subprocess.CompletedProcess(words, self.code)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    fake = Run()
    monkeypatch.setattr(subprocess, "run", fake)
    return fake


def go(lab: Lab, stack: str = "lab") -> list[str]:
    said: list[str] = []
    down(lab, stack, Path("/project"), said.append)  # type: ignore[arg-type]
    return said


def test_the_labs_stack_is_destroyed_and_then_the_lab_stopped(tmp_path: Path, run: Run) -> None:
    lab = Lab(tmp_path, (4100, "docker-app-1", "swarm-lab"), (4700, "docker-infra-1-data", "swarm-lab"))
    assert go(lab) == ["lab       down; nothing of it runs or is mounted"]
    ((words, options),) = run.calls
    assert words == ["inside", "proxmox-swarm", "destroy", "--stack", "lab"], "whichever stack is selected"
    assert (options["cwd"], options["env"]) == (Path("/project"), {"LAB": "1"})
    assert lab.did == ["up", "down"]


@pytest.mark.parametrize("stack", ["prod", "second", "lab2", ""])
def test_any_other_stack_is_refused_before_anything_is_done(tmp_path: Path, run: Run, stack: str) -> None:
    lab = Lab(tmp_path)
    with pytest.raises(CommandError, match=f"works on stack `lab` only, not on `{stack}`"):
        go(lab, stack)
    assert (lab.did, run.calls) == ([], [])


def test_refused_while_other_stacks_have_machines_there(tmp_path: Path, run: Run) -> None:
    lab = Lab(tmp_path, (4100, "a", "swarm-lab"), (5100, "b", "swarm-second"), (5200, "c", "swarm-third;swarm-second"))
    with pytest.raises(CommandError) as refused:
        go(lab)
    assert "other stacks still have machines in the lab: swarm-second, swarm-third" in str(refused.value)
    assert "lab exec -- pulumi destroy -s second" in str(refused.value)
    assert run.calls == []
    assert "down" not in lab.did


@pytest.mark.parametrize("tags", [None, "", ";"])
def test_machines_of_no_stack_are_named(tmp_path: Path, run: Run, tags: str | None) -> None:
    lab = Lab(tmp_path, (4100, "a", "swarm-lab"), (777, "by-hand", tags))
    with pytest.raises(CommandError, match=r"machines of no stack are in the lab: 777 'by-hand'\. .*--purge"):
        go(lab)
    assert run.calls == []
    assert "down" not in lab.did


def test_a_stack_that_is_not_destroyed_leaves_the_lab_running(tmp_path: Path, run: Run) -> None:
    run.code = 1
    lab = Lab(tmp_path, (4100, "a", "swarm-lab"))
    with pytest.raises(CommandError, match="so the lab is left running"):
        go(lab)
    assert lab.did == ["up"]


def test_without_a_lab_there_is_nothing_to_do(tmp_path: Path, run: Run) -> None:
    lab = Lab(tmp_path)
    lab.paths.state.rmdir()
    assert go(lab) == ["lab       there is none"]
    assert (lab.did, run.calls) == ([], [])
