"""SSH: who is trusted, what is kept open, what happens when it breaks."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncssh
import pytest

from proxmox_swarm.host import connection as connection_module
from proxmox_swarm.host import pool
from proxmox_swarm.host.connection import connect, wait_for_ssh
from proxmox_swarm.host.errors import (
    AuthenticationFailed,
    CommandFailed,
    CommandTimeout,
    HostKeyMismatch,
    Unreachable,
)
from proxmox_swarm.host.loop import call
from proxmox_swarm.host.target import Target
from tests.unit.host.ssh_server import Server


def test_a_command_gets_its_input_and_gives_code_and_both_outputs(server: Server) -> None:
    with connect(server.target(), 10) as host:
        result = host.run(["sh", "-c", "cat; echo err >&2; exit 3"], input=b"\x00\xffin", timeout=10)
        assert (result.code, result.stdout, result.stderr) == (3, b"\x00\xffin", b"err\n")
        assert host.run(["printf", "%s|", "a b", "$HOME", "'"], timeout=10).stdout == b"a b|$HOME|'|"


def test_sudo_never_asks_and_root_does_not_need_it(server: Server) -> None:
    assert connect(server.target(), 10).command(["id", "-u"], sudo=True) == "sudo -n -- id -u"
    assert connect(server.target(user="root"), 10).command(["id"], sudo=True) == "id"
    server.program("sudo", "#!/bin/sh\necho 'sudo: a password is required' >&2; exit 1\n")
    with pytest.raises(CommandFailed, match="a password is required"):
        connect(server.target(), 10).check(["id"], sudo=True, timeout=10)


def test_one_login_serves_all_threads_within_the_limit_of_sessions(server: Server) -> None:
    target = server.target()
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda i: connect(target, 10).run(["echo", str(i)], timeout=30).stdout, range(40)))
    assert found == [f"{i}\n".encode() for i in range(40)]
    assert server.logins == 1 and 1 < server.most_sessions <= 9


def test_a_broken_connection_is_replaced_without_notice(server: Server) -> None:
    host = connect(server.target(), 10)
    host.run(["true"], timeout=10)
    server.break_connections()
    assert host.run(["echo", "again"], timeout=10).stdout == b"again\n"
    assert server.logins == 2


def test_a_connection_that_breaks_under_a_command_is_an_error_not_a_result(server: Server) -> None:
    host = connect(server.target(), 10)
    threading.Timer(0.3, server.break_connections).start()
    with pytest.raises(Unreachable, match=r"n1 \(127.0.0.1\)"):
        host.run(["sleep", "5"], timeout=10)


def test_a_command_has_its_time_and_no_more(server: Server) -> None:
    host = connect(server.target(), 10)
    start = time.monotonic()
    with pytest.raises(CommandTimeout, match="sleep 20"):
        host.run(["sleep", "20"], timeout=0.4)
    assert time.monotonic() - start < 3
    assert host.run(["echo", "ok"], timeout=10).stdout == b"ok\n"
    assert server.logins == 1


def test_another_host_key_is_refused_before_anything_is_sent(server: Server) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    with pytest.raises(HostKeyMismatch, match=r"n1 \(127.0.0.1\).*nothing was sent"):
        connect(server.target(host_key=other), 10)
    with pytest.raises(HostKeyMismatch, match="pinned host key"):
        connect(server.target(host_key="ssh-ed25519 nonsense"), 10)
    assert server.logins == 0


def test_an_unknown_user_key_is_an_authentication_failure(server: Server, client_key: Path) -> None:
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(client_key)
    with pytest.raises(AuthenticationFailed, match="logging in as me on n1"):
        connect(server.target(), 10)


def test_a_key_that_cannot_be_read_is_named(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROXMOX_SWARM_SSH_KEY", str(tmp_path / "missing"))
    with pytest.raises(AuthenticationFailed, match=r"PROXMOX_SWARM_SSH_KEY names .*missing"):
        connect(server.target(), 10)
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / "locked", "pkcs8-pem", passphrase="x")
    monkeypatch.setenv("PROXMOX_SWARM_SSH_KEY", str(tmp_path / "locked"))
    with pytest.raises(AuthenticationFailed, match="ssh-agent"):
        connect(server.target(), 10)


def test_no_answer_is_unreachable_within_the_timeout(server: Server) -> None:
    target = server.target()
    server.stop()
    start = time.monotonic()
    with pytest.raises(Unreachable, match="Connection refused"):
        connect(target, 5)
    assert time.monotonic() - start < 2
    server.start()


def test_those_who_ask_at_the_same_time_share_one_try(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that is off costs a refresh its patience once, not once for everybody who asks for it."""
    tries: list[float] = []

    async def dial(_target: Target, timeout: float) -> socket.socket:
        tries.append(timeout)
        await asyncio.sleep(min(timeout, 0.6))
        raise ConnectionError("no answer")

    monkeypatch.setattr(pool, "_dial", dial)

    def ask(_: int) -> str:
        with pytest.raises(Unreachable) as refused:
            connect(server.target(), 10)
        return refused.value.came_back

    start = time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(ask, range(8))) == {"no answer"}
    assert time.monotonic() - start < 1.5
    assert tries == [pool.DIAL_TIMEOUT]


def test_a_short_try_does_not_speak_for_those_with_more_patience(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    dial = pool._dial

    async def slow(target: Target, timeout: float) -> socket.socket:
        await asyncio.sleep(0.5)
        if timeout < 1:
            raise ConnectionError("no answer")
        return await dial(target, timeout)

    monkeypatch.setattr(pool, "_dial", slow)
    with ThreadPoolExecutor(2) as threads:
        short = threads.submit(lambda: call(pool.ensure(server.target(), 10, tcp_timeout=0.5)))
        time.sleep(0.1)
        patient = threads.submit(lambda: connect(server.target(), 10))
        with pytest.raises(Unreachable):
            short.result()
        assert patient.result().run(["true"], timeout=10).code == 0


def test_waiting_ends_as_soon_as_the_host_lets_us_in(server: Server) -> None:
    target = server.target()
    server.stop()
    threading.Timer(1.0, server.start).start()
    start = time.monotonic()
    assert wait_for_ssh(target, 20).run(["true"], timeout=10).code == 0
    assert 0.9 < time.monotonic() - start < 3


def test_waiting_ends_at_the_deadline_with_the_last_reason(server: Server) -> None:
    target = server.target()
    server.stop()
    with pytest.raises(Unreachable, match=r"waiting 1 s for SSH on n1 .*Connection refused"):
        wait_for_ssh(target, 1)
    server.start()


def test_a_wrong_key_ends_the_wait_when_a_first_boot_no_longer_explains_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "GRACE", 0.5)
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    start = time.monotonic()
    with pytest.raises(HostKeyMismatch):
        wait_for_ssh(server.target(host_key=other), 60)
    assert 0.4 < time.monotonic() - start < 5


def test_files_are_read_and_put_in_place_whole(server: Server) -> None:
    host = connect(server.target(), 10)
    path = server.folder / "etc" / "sub" / "file"
    owner = f"{path.parent.parent.parent.stat().st_uid}:{path.parent.parent.parent.stat().st_gid}"
    assert host.read_file(str(path)) is None
    host.write_file(str(path), b"one\x00", 0o640, owner)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"one\x00", 0o640)
    host.write_file(str(path), b"", 0o600, owner)
    assert host.read_file(str(path)) == b"" and path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["file"], "no half-written file stays"


def test_a_jump_host_is_strict_about_its_own_key(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROXMOX_SWARM_SSH_JUMP", f"me@127.0.0.1:{server.port}")
    with pytest.raises((HostKeyMismatch, Unreachable), match=r"jump host me@127\.0\.0\.1"):
        connect(server.target(), 10)
    assert server.logins == 0
    monkeypatch.setenv("PROXMOX_SWARM_SSH_JUMP", "no user")
    with pytest.raises(AuthenticationFailed, match=r"user@host\[:port\]"):
        connect(server.target(), 10)
