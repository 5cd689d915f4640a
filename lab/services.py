"""The lab's other services: DNS (dnsmasq), a registry (docker-registry), the machine image over HTTP."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from proxmox_swarm.lab.paths import Paths, write
from proxmox_swarm.lab.pve.core import Download

DOMAIN = "lab"
REGISTRY_PORT = 5000
_STOP_DEADLINE = 3.0


class ServiceError(RuntimeError):
    """A service of the lab does not start."""


class Process:
    """A child process with its output in a log file."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *arguments: str) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )

    async def wait_for_port(self, address: str, port: int, deadline: float = 10.0) -> None:
        """Wait until it accepts connections. Raises ``ServiceError`` with the end of its log."""
        end = asyncio.get_running_loop().time() + deadline
        while True:
            try:
                _, writer = await asyncio.open_connection(address, port)
            except OSError:
                ended = self._process is None or self._process.returncode is not None
                if ended or asyncio.get_running_loop().time() > end:
                    said = self._log.read_text(errors="replace").strip().splitlines()[-5:]
                    raise ServiceError(
                        f"{self.name} does not answer on {address}:{port}: {' | '.join(said) or 'no output'}"
                    ) from None
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return

    def signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self._process and self._process.returncode is None:
            self._process.send_signal(number)

    async def stop(self) -> None:
        """End it."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_DEADLINE)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


class Dns:
    """dnsmasq with the lab's names, each as ``name`` and ``name.lab``; it knows no other servers."""

    def __init__(self, paths: Paths, addresses: tuple[str, ...]) -> None:
        self._addresses = addresses
        self._hosts = paths.run / "hosts"
        self._process = Process("dnsmasq", paths.log / "dnsmasq.log")

    def set_names(self, names: Mapping[str, str]) -> None:
        """Serve these names (name to address) from now on."""
        write(self._hosts, "".join(f"{address} {name}\n" for name, address in sorted(names.items())), 0o644)
        self._process.signal(signal.SIGHUP)

    async def start(self) -> None:
        """Start it; ``set_names`` was called before."""
        listen = [f"--listen-address={address}" for address in self._addresses]
        await self._process.start(
            "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--log-facility=-", "--pid-file", "--user=root",
            "--group=root", "--bind-interfaces", "--no-resolv", "--no-hosts", f"--addn-hosts={self._hosts}",
            f"--domain={DOMAIN}", f"--local=/{DOMAIN}/", "--expand-hosts", "--cache-size=0", *listen,
        )  # fmt: skip
        await self._process.wait_for_port(self._addresses[0], 53)

    async def stop(self) -> None:
        """End it."""
        await self._process.stop()


class Registry:
    """Debian's docker-registry; what is pushed stays over ``lab down``."""

    def __init__(self, paths: Paths, address: str) -> None:
        self._address = address
        self._paths = paths
        self._process = Process("docker-registry", paths.log / "registry.log")

    async def start(self) -> None:
        """Start it; it needs a moment to answer, see ``ready``."""
        config = self._paths.run / "registry.yml"
        write(
            config,
            "version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\n"
            f"storage: {{filesystem: {{rootdirectory: '{self._paths.root / 'registry'}'}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: '{self._address}:{REGISTRY_PORT}'}}\n",
        )
        await self._process.start("docker-registry", "serve", str(config))

    async def ready(self) -> None:
        """Wait until it answers."""
        await self._process.wait_for_port(self._address, REGISTRY_PORT)

    async def stop(self) -> None:
        """End it."""
        await self._process.stop()


def image_url(address: str, path: Path) -> str:
    """Where the image server at ``address`` has a file."""
    return f"http://{address}/images/{path.name}"


class ImageServer:
    """The machine images over plain HTTP, for whoever wants to fetch it."""

    def __init__(self, address: str, port: int = 80) -> None:
        self._address = address
        self.port = port
        self.downloads: dict[str, Download] = {}
        self._runner: web.AppRunner | None = None

    def offer(self, path: Path, sha512: str) -> Download:
        """Serve one more image from now on; what was served before stays."""
        made = Download(image_url(self._address, path), path, sha512)
        self.downloads[made.url] = made
        return made

    async def start(self) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_get("/images/{name}", self._file)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._address, self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner:
            await self._runner.cleanup()

    async def _file(self, request: web.Request) -> web.StreamResponse:
        found = next((d for d in self.downloads.values() if d.path.name == request.match_info["name"]), None)
        if found is None:
            raise web.HTTPNotFound
        return web.FileResponse(found.path)
