"""What goes around an endpoint that was recorded and is gone, and what is told of a command that failed."""

from __future__ import annotations

import pytest

from proxmox_swarm.cli import pulumi as module
from proxmox_swarm.cli.pulumi import around_lost_endpoint

ENDPOINT = "https://pve01:8006"


@pytest.mark.parametrize(("answering", "words"), [(True, []), (False, ["--run-program"])])
def test_the_program_runs_only_where_the_recorded_endpoint_is_gone(
    answering: bool, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(module, "answers", lambda endpoint: asked.append(endpoint) or answering)
    provider = {"type": "pulumi:providers:proxmoxve", "custom": True, "inputs": {"endpoint": ENDPOINT}}
    state = {"resources": [{"type": "swarm:index:SwarmCluster", "custom": False}, provider]}
    assert around_lost_endpoint(state) == words
    assert asked == [ENDPOINT]
    assert around_lost_endpoint({}) == []


def test_of_a_failed_command_only_its_errors_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROXMOX_SWARM_DEBUG", raising=False)
    said = "Refreshing (lab):\n ~ x refreshing\nDiagnostics:\n    error: refreshing x: 1 error:\n    \t* no route\nOutputs:\n"
    assert module._errors(said + said) == "error: refreshing x: 1 error:\n* no route"
    assert module._errors("what is this") == "what is this"
    monkeypatch.setenv("PROXMOX_SWARM_DEBUG", "1")
    assert module._errors(said) == said
