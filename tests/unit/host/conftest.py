from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from tests.unit.host.ssh_server import DIAL, FakeDocker, Server


@pytest.fixture
def client_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A key of this test alone; nothing of the person running it is used."""
    path = tmp_path / "id"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.delenv("PROXMOX_SWARM_SSH_JUMP", raising=False)
    monkeypatch.setenv("PROXMOX_SWARM_SSH_KEY", str(path))
    return path


@pytest.fixture
def server(tmp_path: Path, client_key: Path) -> Iterator[Server]:
    folder = tmp_path / "host"
    folder.mkdir()
    server = Server(folder, client_key)
    yield server
    server.stop()


@pytest.fixture
def docker(server: Server, tmp_path: Path) -> Iterator[FakeDocker]:
    """An engine on the host, reached by ``docker system dial-stdio``."""
    fake = FakeDocker(tmp_path / "d.sock")
    server.environment["FAKE_DOCKER"] = str(fake.path)
    server.program("docker", DIAL)
    yield fake
    fake.stop()
