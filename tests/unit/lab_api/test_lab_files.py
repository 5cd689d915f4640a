"""Credentials made once, files private, the control socket, the settings file."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from proxmox_swarm.lab import control
from proxmox_swarm.lab.credentials import TOKEN_ID, Credentials
from proxmox_swarm.lab.image import Image
from proxmox_swarm.lab.paths import Paths, write
from proxmox_swarm.lab.workspace import prepare

HOSTS = {"pve01": "192.168.2.11", "pve02": "192.168.2.12"}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(tmp_path / "lab")
    made.make()
    return made


def test_credentials_are_made_once(paths: Paths) -> None:
    credentials = Credentials(paths, HOSTS)
    credentials.ensure()
    first = {p: p.read_bytes() for p in sorted(paths.secrets.iterdir())} | {paths.ca: paths.ca.read_bytes()}
    Credentials(paths, HOSTS).ensure()
    assert {p: p.read_bytes() for p in first} == first
    assert credentials.token.startswith(f"{TOKEN_ID}=")
    assert credentials.public_key.startswith("ssh-ed25519 ")
    names = x509.load_pem_x509_certificate(credentials.tls_certificate.read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert {"pve01", "pve01.lab", "pve02"} <= set(names.value.get_values_for_type(x509.DNSName))
    assert "192.168.2.12" in {str(a) for a in names.value.get_values_for_type(x509.IPAddress)}


def test_what_is_secret_is_private(paths: Paths) -> None:
    Credentials(paths, HOSTS).ensure()
    assert stat.S_IMODE(paths.root.stat().st_mode) == 0o700
    assert stat.S_IMODE(paths.secrets.stat().st_mode) == 0o700
    for path in paths.secrets.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == (0o644 if path.suffix == ".pub" else 0o600), path


def test_a_file_is_replaced_whole_and_never_wider_than_asked(tmp_path: Path) -> None:
    target = tmp_path / "x"
    target.write_text("old")
    target.chmod(0o644)
    write(target, "new")
    assert (target.read_text(), stat.S_IMODE(target.stat().st_mode)) == ("new", 0o600)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_what_lab_up_prepares(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from proxmox_swarm.lab import workspace
    from proxmox_swarm.lab.network import HOSTS as ALL

    monkeypatch.setattr(workspace.image, "docker_cli", lambda: tmp_path / "docker")
    credentials = Credentials(paths, ALL)
    credentials.ensure()
    source = Image(tmp_path / "image", "ab" * 64, 3)
    prepare(paths, credentials, "http://192.168.2.4/images/x.raw", source)
    paths.known_hosts.write_text(paths.known_hosts.read_text() + "192.168.4.30 ssh-ed25519 AAAA\n")
    prepare(paths, credentials, "http://192.168.2.4/images/x.raw", source)
    assert "192.168.4.30" in paths.known_hosts.read_text()  # pins made later are kept
    settings = yaml.safe_load(paths.settings.read_text())
    assert settings == {
        "proxmox": {"image": {"url": "http://192.168.2.4/images/x.raw", "sha512": "ab" * 64, "size": 3}},
        "access": {"keys": [credentials.public_key]},
    }
    assert os.access(paths.bin / "ssh", os.X_OK) and "-F" in (paths.bin / "ssh").read_text()
    assert (paths.bin / "docker").readlink() == tmp_path / "docker"


class Daemon:
    """A control server in a thread, in a directory too deep for a socket address."""

    def __init__(self, directory: Path) -> None:
        deep = directory / ("d" * 100) / "run"
        deep.mkdir(parents=True)
        self.path = deep / "control.sock"
        self._loop = asyncio.new_event_loop()
        self._server = control.Server(self.path, {"echo": self._echo, "fail": self._fail})
        self._thread = threading.Thread(target=self._loop.run_forever)

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result(5)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._server.close(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    @staticmethod
    async def _echo(request: Any) -> Any:
        return dict(request)

    @staticmethod
    async def _fail(_: Any) -> Any:
        raise ValueError("no such thing")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path)
    made.start()
    yield made
    made.stop()


def test_the_control_socket_answers_and_tells_whose_it_is(daemon: Daemon) -> None:
    client = control.Client(daemon.path)
    assert client.ask("echo", a=1) == {"a": 1}
    assert client.pid() == os.getpid()
    assert stat.S_IMODE(daemon.path.stat().st_mode) == 0o600
    with pytest.raises(control.ControlError, match="no such thing"):
        client.ask("fail")
    with pytest.raises(control.ControlError, match="no such command"):
        client.ask("else")


def test_without_a_daemon_the_error_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    client = control.Client(tmp_path / "run" / "control.sock")
    with pytest.raises(control.NotRunningError, match="is not running: lab up"):
        client.ask("status")
    (tmp_path / "run" / "control.sock").touch()  # left by a daemon that was killed
    with pytest.raises(control.NotRunningError):
        client.pid()
