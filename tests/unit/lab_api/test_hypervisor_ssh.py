"""What the hosts' SSH servers do, and all they refuse."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncssh
import pytest

from proxmox_swarm.lab.hypervisor_ssh import HypervisorSsh, wanted_snippet

# As the Proxmox VE provider 0.111.1 sends them (recorded).
PROBE = (
    """/bin/bash -c 'if [ "$(id -u)" = "0" ]; then echo "0"; elif [ $(sudo -n /usr/sbin/pvesm apiinfo 2>&1 | """
    """grep "APIVER" | wc -l) -gt 0 ] || sudo -n /usr/sbin/qm --help >/dev/null 2>&1; then echo "1"; else echo "0"; fi'"""
)
TEE = (
    """/bin/bash -c 'export TRY_SUDO_USE_SUDO=0; _try_sudo_check(){ if [ -z "${_try_sudo_cached:-}" ]; then """
    """_try_sudo_use_sudo="${TRY_SUDO_USE_SUDO:-0}"; _try_sudo_cached=1; fi; }; try_sudo(){ _try_sudo_check; """
    """if [ "$_try_sudo_use_sudo" = "1" ]; then sudo "$@"; else "$@"; fi; }; try_sudo /usr/bin/tee """
    """/var/lib/vz/snippets/n1-abc.yaml'"""
)


def test_the_two_commands_are_recognised() -> None:
    assert wanted_snippet(PROBE) == ""
    assert wanted_snippet(TEE) == "n1-abc.yaml"


@pytest.mark.parametrize(
    "command",
    [
        "",
        "id",
        "/bin/bash -c 'id'",
        TEE.replace("n1-abc.yaml", "../../x"),
        TEE.replace("n1-abc.yaml", "x; id"),
        TEE.replace("n1-abc.yaml", ".hidden"),
        TEE.replace("/var/lib/vz/snippets/", "/etc/"),
        TEE[:-1] + "; id'",
        TEE + "; id",
        PROBE[:-1] + "; id'",
        PROBE + "\nid",
    ],
)
def test_everything_else_is_refused(command: str) -> None:
    assert wanted_snippet(command) is None


class Host:
    """One SSH server on loopback."""

    def __init__(self, directory: Path) -> None:
        self.snippets = directory / "local" / "snippets"
        self.snippets.mkdir(parents=True)
        (directory / "local" / "secret").write_text("no")
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.host_key = directory / "host_key"
        self.host_key.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
        self.host_key.chmod(0o600)

    def run(self, scenario: Callable[[asyncssh.SSHClientConnection], Awaitable[None]]) -> None:
        async def main() -> None:
            server = HypervisorSsh(
                {"pve01": "127.0.0.1"},
                lambda _: self.host_key,
                self.key.export_public_key().decode(),
                lambda _: self.snippets,
            )
            await server.start(port=0)
            try:
                async with asyncssh.connect(
                    "127.0.0.1", server.ports()[0], username="root", client_keys=[self.key], known_hosts=None, config=None
                ) as connection:  # fmt: skip
                    await scenario(connection)
            finally:
                await server.close()

        asyncio.run(main())


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_snippet_arrives_and_can_be_looked_at(host: Host) -> None:
    async def scenario(connection: asyncssh.SSHClientConnection) -> None:
        assert (await connection.run(PROBE)).stdout == "0\n"
        done = await connection.run(TEE, input="#cloud-config\n")
        assert (done.exit_status, done.stdout) == (0, "#cloud-config\n")
        async with connection.start_sftp_client() as sftp:
            assert (await sftp.stat("/var/lib/vz/snippets/n1-abc.yaml")).size == 14
            await sftp.chmod("/var/lib/vz/snippets/n1-abc.yaml", 0o600)
            await sftp.makedirs("/var/lib/vz/snippets", exist_ok=True)  # upload mode "sftp"
            async with sftp.open("/var/lib/vz/snippets/two.yaml", "w") as file:
                await file.write("two")

    host.run(scenario)
    assert (host.snippets / "n1-abc.yaml").read_text() == "#cloud-config\n"
    assert (host.snippets / "two.yaml").read_text() == "two"


def test_nothing_else_can_be_done(host: Host) -> None:
    async def scenario(connection: asyncssh.SSHClientConnection) -> None:
        refused = await connection.run("cat /etc/passwd")
        assert (refused.exit_status, refused.stdout) == (126, "")
        async with connection.start_sftp_client() as sftp:
            for path in ("/etc/passwd", "/var/lib/vz/secret", "/var/lib/vz/snippets/../secret", "/root/.ssh/x"):
                with pytest.raises(asyncssh.SFTPError):
                    await sftp.open(path)
            with pytest.raises(asyncssh.SFTPError):
                await sftp.symlink("/etc/passwd", "/var/lib/vz/snippets/link")
            with pytest.raises(asyncssh.SFTPError):
                await sftp.mkdir("/var/lib/vz/snippets/sub/dir")

    host.run(scenario)
    assert list(host.snippets.iterdir()) == []


def test_a_stranger_is_not_let_in(host: Host) -> None:
    async def scenario(connection: asyncssh.SSHClientConnection) -> None:
        port = connection.get_extra_info("peername")[1]
        stranger = asyncssh.generate_private_key("ssh-ed25519")
        for options in ({"client_keys": [stranger]}, {"client_keys": None, "password": "x"}):
            with pytest.raises(asyncssh.PermissionDenied):
                await asyncssh.connect("127.0.0.1", port, username="root", known_hosts=None, config=None, **options)

    host.run(scenario)
