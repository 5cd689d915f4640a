"""SSH and SFTP of the Proxmox VE hosts, as far as uploading a snippet needs them.

No command is ever given to a shell: the two commands that the Proxmox VE provider sends are recognised and done here,
everything else is refused. SFTP sees ``/var/lib/vz/snippets`` alone.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import asyncssh

from proxmox_swarm.lab.paths import write

PORT = 22
SNIPPETS = PurePosixPath("/var/lib/vz/snippets")
_NOT_ALLOWED = 126
_MAX_SNIPPET = 4 << 20

_SHELL = re.compile(r"/bin/bash -c '(?P<script>.*)'", re.DOTALL)
_PROBE = re.compile(r'if \[ "\$\(id -u\)" = "0" \]; then echo "0"; elif [^\n]*; else echo "0"; fi')
_TEE = re.compile(
    r"(?:export TRY_SUDO_USE_SUDO=[01]; )?_try_sudo_check\(\)\{ [^\n]* \}; try_sudo\(\)\{ [^\n]* \}; "
    r"try_sudo /usr/bin/tee /var/lib/vz/snippets/(?P<name>[A-Za-z0-9][A-Za-z0-9._+-]*)"
)


def wanted_snippet(command: str) -> str | None:
    """The file name that ``command`` writes its input to; the empty text for the probe for sudo; ``None`` to refuse."""
    shell = _SHELL.fullmatch(command)
    if shell is None:
        return None
    script = shell["script"].replace("'\"'\"'", "'")
    if _PROBE.fullmatch(script):
        return ""
    tee = _TEE.fullmatch(script)
    return tee["name"] if tee else None


class SnippetSftp(asyncssh.SFTPServer):
    """``/var/lib/vz/snippets`` of one host: files there, and the directories above it to look at."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], snippets: Path) -> None:
        super().__init__(channel)
        self._snippets = snippets

    def map_path(self, path: bytes) -> bytes:
        """The real path of a virtual one; anything outside is not there."""
        virtual = PurePosixPath("/", path.decode(errors="replace"))
        if ".." in virtual.parts:
            raise asyncssh.SFTPPermissionDenied("outside of the snippets directory")
        if virtual == SNIPPETS:
            return bytes(self._snippets)
        if virtual.parent == SNIPPETS and not virtual.name.startswith("."):
            return bytes(self._snippets / virtual.name)
        if virtual in SNIPPETS.parents:
            return bytes(self._snippets.parent)  # a directory, so that making the path step by step works
        raise asyncssh.SFTPNoSuchFile(f"{virtual} is not in {SNIPPETS}")

    def _refuse(self, *_: Any) -> None:
        raise asyncssh.SFTPOpUnsupported("not served by the lab")

    symlink = link = rename = posix_rename = readlink = rmdir = _refuse  # type: ignore[assignment]


class _KeysOnly(asyncssh.SSHServer):
    def password_auth_supported(self) -> bool:
        return False


class HypervisorSsh:
    """The SSH servers of all hosts; whoever has the operator's key may log in."""

    def __init__(
        self,
        addresses: Mapping[str, str],
        host_key: Callable[[str], Path],
        authorized: str,
        snippets: Callable[[str], Path],
    ) -> None:
        self._addresses = addresses
        self._host_key = host_key
        self._authorized = authorized
        self._snippets = snippets
        self._servers: dict[str, asyncssh.SSHAcceptor] = {}
        self._port = PORT

    async def start(self, port: int = PORT) -> None:
        """Listen on every host's address."""
        self._port = port
        for host in self._addresses:
            await self.open(host)

    async def open(self, host: str) -> None:
        """Listen on one host's address; harmless when it does."""
        if host not in self._servers:
            self._servers[host] = await self._listen(host, self._addresses[host], self._port)

    async def shut(self, host: str) -> None:
        """Stop listening on one host's address."""
        if server := self._servers.pop(host, None):
            server.close()
            await server.wait_closed()

    async def _listen(self, host: str, address: str, port: int) -> asyncssh.SSHAcceptor:
        directory = self._snippets(host)

        async def process(session: asyncssh.SSHServerProcess[bytes]) -> None:
            await _serve(session, directory)

        return await asyncssh.listen(
            address,
            port,
            server_factory=_KeysOnly,
            server_host_keys=[str(self._host_key(host))],
            authorized_client_keys=asyncssh.import_authorized_keys(self._authorized),
            process_factory=process,
            sftp_factory=lambda channel: SnippetSftp(channel, directory),
            encoding=None,
            agent_forwarding=False,
            allow_pty=False,
        )

    def ports(self) -> list[int]:
        """The ports it listens on, in the order of the hosts."""
        return [server.get_port() for server in self._servers.values()]

    async def close(self) -> None:
        """Stop listening and end the connections."""
        await asyncio.gather(*(self.shut(host) for host in list(self._servers)))


async def _serve(session: asyncssh.SSHServerProcess[bytes], snippets: Path) -> None:
    name = wanted_snippet(session.command or "")
    if name is None:
        session.stderr.write(b"the lab's hosts only take snippets: this command is not allowed\n")
        session.exit(_NOT_ALLOWED)
        return
    if name == "":
        session.stdout.write(b"0\n")
        session.exit(0)
        return
    content = await session.stdin.read(_MAX_SNIPPET)
    write(snippets / name, content, 0o644)
    session.stdout.write(content)
    session.exit(0)
