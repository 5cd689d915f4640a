from __future__ import annotations

from pathlib import Path

import asyncssh
import pytest

from proxmox_swarm.host.pinned import pinned_key


def public(kind: str) -> str:
    key = asyncssh.generate_private_key(kind, **({"key_size": 2048} if kind == "ssh-rsa" else {}))
    return " ".join(key.export_public_key().decode().split()[:2])


@pytest.fixture(scope="module")
def keys() -> dict[str, str]:
    return {kind: public(kind) for kind in ("ssh-ed25519", "ssh-rsa")}


def test_an_ed25519_key_is_preferred_whatever_the_order(tmp_path: Path, keys: dict[str, str]) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"192.168.4.30 {keys['ssh-rsa']}\n192.168.4.30 {keys['ssh-ed25519']} by hand\n")
    assert pinned_key(file, "192.168.4.30") == keys["ssh-ed25519"]


def test_another_type_will_do(tmp_path: Path, keys: dict[str, str]) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"app-1,192.168.4.30 {keys['ssh-rsa']}\n")
    assert pinned_key(file, "192.168.4.30") == keys["ssh-rsa"]
    assert pinned_key(file, "192.168.4.31") is None


def test_no_file_pins_nothing(tmp_path: Path) -> None:
    assert pinned_key(tmp_path / "known_hosts", "192.168.4.30") is None
