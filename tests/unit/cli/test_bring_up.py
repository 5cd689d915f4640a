from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from proxmox_swarm.cli import bring_up as module
from proxmox_swarm.cli.bring_up import bring_up
from proxmox_swarm.cli.errors import CommandError


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is done, in order; nothing is missing on this machine."""
    done: list[Any] = []

    class Lab:
        def up(self, _: Any) -> None:
            done.append("lab")

        def command(self, words: list[str]) -> list[str]:
            return ["inside", *words]

        def environment(self) -> dict[str, str]:
            return {"LAB": "1"}

    def run(words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        done.append((words, options["cwd"], options["env"]))
        return subprocess.CompletedProcess(words, 1 if "bad" in words else 0)

    monkeypatch.setattr(module, "Lab", Lab)
    monkeypatch.setattr(
        module, "prerequisites", SimpleNamespace(missing=list, install=lambda _: done.append("install"))
    )
    monkeypatch.setattr(module, "toolchain", SimpleNamespace(ensure=lambda _: done.append("toolchain")))
    monkeypatch.setattr(module, "image", SimpleNamespace(ensure=lambda _: done.append("image")))
    monkeypatch.setattr(subprocess, "run", run)
    return done


def test_production_is_refused_before_anything_is_done(steps: list[Any]) -> None:
    with pytest.raises(CommandError, match=r"For production run `pulumi up -s prod`"):
        bring_up("prod", Path("/project"), print)
    assert steps == []


def test_tools_image_lab_and_then_the_stack_inside_the_lab(steps: list[Any]) -> None:
    bring_up("lab", Path("/project"), print)
    words = ["inside", "proxmox-swarm", "converge", "--stack", "lab"]
    assert steps == ["toolchain", "image", "lab", (words, Path("/project"), {"LAB": "1"})]


def test_what_is_missing_is_installed_first(steps: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.prerequisites, "missing", lambda: ["systemd-container"])
    bring_up("lab", Path("/project"), print)
    assert steps[0] == "install"


def test_a_stack_that_does_not_come_up_is_told(steps: list[Any]) -> None:
    with pytest.raises(CommandError, match=r"stack bad is not up \(after \d+ s\)"):
        bring_up("bad", Path("/project"), print)
