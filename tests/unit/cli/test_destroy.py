"""What a destroy waits for and clears first, and what is told when it fails."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from proxmox_swarm.cli import away, leftovers
from proxmox_swarm.cli.destroy import destroy
from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.pulumi import Stack
from tests.unit.cli.states import VM, of_node

ROOT = Path(__file__).parents[3]


class Failing(Stack):
    """A stack whose destroy fails and leaves this state."""

    def exists(self) -> bool:
        return True

    def locks(self) -> list[dict[str, Any]]:
        return []

    def command(self, *words: str) -> list[str]:
        return ["false"]

    def run(self, *words: str) -> str:
        assert words == ("stack", "export")
        return json.dumps({"deployment": {"resources": of_node("docker-app-2", "pve02")}})


class Killed(Failing):
    """A stack of two nodes whose last run was killed while it deleted one of them; what is done, in order."""

    def __init__(self, folder: Path, done: list[str]) -> None:
        super().__init__("prod", folder, {})
        self._done = done

    def command(self, *words: str) -> list[str]:
        self._done.append(" ".join(words))
        return ["true"]

    def run(self, *words: str) -> str:
        resources = [*of_node("docker-app-1", "pve01"), *of_node("docker-app-2", "pve02")]
        vm = next(r for r in resources if r["type"] == VM)
        state = {"resources": resources, "pending_operations": [{"type": "deleting", "resource": vm}]}
        return json.dumps({"deployment": state})


class Proxmox:
    """Tells which hosts were asked for tasks of an earlier run."""

    def __init__(self, done: list[str]) -> None:
        self._done = done

    def wait_for_tasks(self, hosts: Collection[str], vm_ids: Collection[int], *, timeout: float) -> None:
        self._done.append(f"tasks on {', '.join(sorted(hosts))}")


@pytest.mark.parametrize(
    ("hosts", "waited", "left"),
    [({}, "tasks on pve01, pve02", ""), ({"pve02": "is offline"}, "tasks on pve01", " --exclude **::docker-app-2")],
)
def test_tasks_of_a_killed_run_are_waited_for_before_anything_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hosts: dict[str, str], waited: str, left: str
) -> None:
    """A machine that is being deleted would be taken for one that is there."""
    for name in ("Pulumi.yaml", "Pulumi.prod.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    done: list[str] = []
    monkeypatch.setattr(leftovers, "Client", lambda *_, **__: Proxmox(done))
    monkeypatch.setattr(away, "Client", lambda *_, **__: object())
    monkeypatch.setattr(away, "absent", lambda *_: hosts)
    destroy(Killed(tmp_path, done), tmp_path / "run", print)
    assert [words.partition(" --clear-pending-creates")[0] for words in done] == [
        waited,
        "refresh --yes --skip-preview",
        "destroy --yes --skip-preview",
    ]
    assert left in done[1]


@pytest.mark.parametrize(
    ("hosts", "told"),
    [
        ({}, "pulumi destroy of stack prod failed"),
        ({"pve02": "is offline"}, "pve02 is offline: docker-app-2 cannot be destroyed"),
    ],
)
def test_what_is_on_a_host_that_is_away_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hosts: dict[str, str], told: str
) -> None:
    for name in ("Pulumi.yaml", "Pulumi.prod.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.setattr(away, "Client", lambda *_, **__: object())
    monkeypatch.setattr(away, "absent", lambda *_: hosts)
    with pytest.raises(CommandError) as failed:
        destroy(Failing("prod", tmp_path, {}), tmp_path / "run", print)
    assert told in str(failed.value)
    assert ("`lab fault clear`" in str(failed.value)) == bool(hosts)
