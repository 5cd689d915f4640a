"""Errors are told in words, and only unforeseen ones show where they came from."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from proxmox_swarm.cli import bring_up, main
from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.lab.image import ImageError
from proxmox_swarm.lab.namespace import LabError
from proxmox_swarm.lab.prerequisites import PrerequisiteError
from proxmox_swarm.proxmox.client import ProxmoxError
from proxmox_swarm.toolchain import ToolchainError


@pytest.mark.parametrize("kind", [CommandError, LabError, ImageError, PrerequisiteError, ProxmoxError, ToolchainError])
def test_foreseen_errors_are_one_line_without_a_traceback(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise kind("what to do now")

    monkeypatch.delenv("PROXMOX_SWARM_DEBUG", raising=False)
    monkeypatch.setattr(bring_up, "bring_up", fail)
    monkeypatch.setattr("sys.argv", ["proxmox-swarm", "up"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: what to do now\n"


def test_an_unforeseen_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(bring_up, "bring_up", fail)
    assert isinstance(CliRunner().invoke(main.app, ["up"]).exception, ZeroDivisionError)
