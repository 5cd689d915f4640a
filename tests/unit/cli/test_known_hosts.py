from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.known_hosts import known_hosts_file, write_known_hosts
from proxmox_swarm.cli.pulumi import Stack

OURS = ["192.168.4.30 ssh-ed25519 NEW30", "192.168.4.3 ssh-ed25519 NEW3"]


class Outputs(Stack):
    def __init__(self, outputs: dict[str, Any]) -> None:
        super().__init__("lab", Path("/nowhere"), {})
        self._outputs = outputs

    def outputs(self) -> dict[str, Any]:
        return self._outputs


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROXMOX_SWARM_LAB", str(tmp_path / "lab"))
    return tmp_path / "lab" / "known_hosts"


def test_keys_are_written_for_this_user_alone(file: Path) -> None:
    assert write_known_hosts(Outputs({"sshKnownHosts": OURS})) == file
    assert file.read_text().splitlines() == OURS
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_lines_of_our_addresses_are_replaced_and_all_others_kept(file: Path) -> None:
    file.parent.mkdir()
    others = [
        "# a comment",
        "192.168.4.31 ssh-ed25519 ANOTHER",
        "192.168.4.300 ssh-ed25519 LONGER",
        "|1|hash= ssh-rsa HASHED",
        "@revoked * ssh-rsa REVOKED",
    ]
    file.write_text("\n".join([others[0], "192.168.4.30 ssh-ed25519 OLD", "", *others[1:], "192.168.4.3 ssh-rsa OLD"]))
    write_known_hosts(Outputs({"sshKnownHosts": OURS}))
    assert file.read_text().splitlines() == [*others, *OURS]


def test_writing_twice_is_writing_once(file: Path) -> None:
    for _ in range(2):
        write_known_hosts(Outputs({"sshKnownHosts": OURS}))
    assert file.read_text().splitlines() == OURS
    assert [path.name for path in file.parent.iterdir()] == ["known_hosts"]


@pytest.mark.parametrize("outputs", [{}, {"sshKnownHosts": []}])
def test_without_keys_the_file_stays_as_it_is(file: Path, outputs: dict[str, Any]) -> None:
    file.parent.mkdir()
    file.write_text("192.168.4.30 ssh-ed25519 OLD\n")
    with pytest.raises(CommandError, match="stack lab has no host keys to pin"):
        write_known_hosts(Outputs(outputs))
    assert file.read_text() == "192.168.4.30 ssh-ed25519 OLD\n"


def test_outside_of_the_lab_it_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROXMOX_SWARM_LAB", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert known_hosts_file() == tmp_path / ".ssh" / "known_hosts"
