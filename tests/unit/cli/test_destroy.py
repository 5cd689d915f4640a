"""What is told when a destroy fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from proxmox_swarm.cli import away
from proxmox_swarm.cli.destroy import destroy
from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.pulumi import Stack
from tests.unit.cli.states import of_node

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
        destroy(Failing("prod", tmp_path, {}), tmp_path / "run")
    assert told in str(failed.value)
    assert ("`lab fault clear`" in str(failed.value)) == bool(hosts)
