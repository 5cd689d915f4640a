"""``proxmox-swarm unlock``: whose key it takes, and that it is seen by nobody on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proxmox_swarm.cli import unlock as module
from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.pulumi import Stack
from proxmox_swarm.swarm import autolock

ROOT = Path(__file__).parents[3]
HOST_KEYS = {f"docker-app-{n}": f"ssh-ed25519 {n}" for n in (1, 2, 3)}


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The Pulumi commands that were run; secrets are shown to those who ask."""
    ran: list[tuple[str, ...]] = []

    def run(self: Stack, *words: str) -> str:
        ran.append(words)
        key, before = ("SWMKEY-1-now", "SWMKEY-1-before") if "--show-secrets" in words else ("[secret]", "[secret]")
        return json.dumps({"clusterId": "c1", "sshHostKeys": HOST_KEYS, "unlockKey": key, "previousUnlockKey": before})

    monkeypatch.setattr(Stack, "run", run)
    monkeypatch.setattr(module, "stack_here", lambda name, project: Stack(name, project, {}))
    return ran


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the managers were unlocked with."""
    found: list[Any] = []

    def unlock_managers(managers: Any, cluster_id: str, keys: list[str]) -> list[str]:
        assert [m.node for m in managers] == list(HOST_KEYS) and cluster_id == "c1"
        found.append(keys)
        return ["docker-app-2"]

    monkeypatch.setattr(autolock, "unlock_managers", unlock_managers)
    return found


def test_the_stacks_keys_are_tried_the_present_one_first(commands: list[Any], tried: list[Any]) -> None:
    assert module.unlock("prod", ROOT, None) == ["docker-app-2"]
    assert tried == [["SWMKEY-1-now", "SWMKEY-1-before"]]
    assert commands == [("stack", "output", "--json", "--show-secrets")]


def test_a_key_of_ones_own_needs_no_secret_of_the_stack(commands: list[Any], tried: list[Any]) -> None:
    module.unlock("prod", ROOT, "SWMKEY-1-mine")
    assert tried == [["SWMKEY-1-mine"]]
    assert commands == [("stack", "output", "--json")]


def test_no_key_on_standard_input_is_an_error(commands: list[Any], tried: list[Any]) -> None:
    with pytest.raises(CommandError, match="no key came"):
        module.unlock("prod", ROOT, "")
    assert tried == commands == []


def test_a_stack_from_before_there_were_keys_has_none(tried: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = {"clusterId": "c1", "sshHostKeys": HOST_KEYS}
    monkeypatch.setattr(Stack, "outputs", lambda *_, **__: outputs)
    monkeypatch.setattr(module, "stack_here", lambda name, project: Stack(name, project, {}))
    module.unlock("prod", ROOT, None)
    assert tried == [["", ""]]
