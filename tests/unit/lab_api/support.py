"""The emulated cluster over plain HTTP on loopback, with machines that only pretend to run."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from yarl import URL

from proxmox_swarm.lab.machines.spec import MachineSpec
from proxmox_swarm.lab.pve.core import Download, Pve
from proxmox_swarm.lab.pve.faults import Faults
from proxmox_swarm.lab.pve.power import Power
from proxmox_swarm.lab.pve.record import Record
from proxmox_swarm.lab.pve.schema import Schema
from proxmox_swarm.lab.pve.server import Server
from proxmox_swarm.lab.pve.state import HOSTS, State
from proxmox_swarm.lab.pve.storages import Storages
from proxmox_swarm.lab.pve.tasks import Tasks

TOKEN_ID, SECRET = "root@pam!swarm", "11111111-2222-3333-4444-555555555555"
IMAGE_URL = "http://192.168.2.4/images/debian-13.raw"
IMAGE_SHA = "ab" * 64
GIB = 1 << 30
SCHEMA = Schema()


class FakeMachines:
    """Remembers what was started."""

    def __init__(self) -> None:
        self.specs: dict[int, MachineSpec] = {}
        self.history: list[MachineSpec] = []
        self.agent_answers: dict[str, Any] = {}

    async def start(self, spec: MachineSpec) -> None:
        self.specs[spec.vmid] = spec
        self.history.append(spec)

    async def shutdown(self, vmid: int, timeout: float) -> None:
        self.specs.pop(vmid, None)

    async def kill(self, vmid: int) -> None:
        self.specs.pop(vmid, None)

    def running(self, vmid: int) -> bool:
        return vmid in self.specs

    def pid(self, vmid: int) -> int | None:
        return 1000 + vmid if vmid in self.specs else None

    async def agent(
        self, vmid: int, command: str, arguments: Mapping[str, object] | None = None, timeout: float = 5
    ) -> object:
        from proxmox_swarm.lab.machines import AgentNotRunning

        if command not in self.agent_answers:
            raise AgentNotRunning("QEMU guest agent is not running")
        return self.agent_answers[command]

    async def set_link(self, vmid: int, nic: int, up: bool) -> None:
        pass


@dataclasses.dataclass
class Answer:
    status: int
    reason: str
    body: dict[str, Any]

    @property
    def data(self) -> Any:
        assert self.status == 200, f"{self.status} {self.reason} {self.body}"
        return self.body["data"]


class Api:
    """A client of the emulated cluster, with shortcuts for what tests do often."""

    def __init__(self, session: ClientSession, base: str, pve: Pve, machines: FakeMachines) -> None:
        self._session = session
        self._base = base
        self.pve = pve
        self.machines = machines
        self.headers = {"Authorization": f"PVEAPIToken={TOKEN_ID}={SECRET}"}

    async def call(self, method: str, path: str, /, **parameters: Any) -> Answer:
        """``path`` as sent (raw); ``_`` in a parameter's name is ``-``."""
        form = [(k.replace("__", "-"), str(v)) for k, v in parameters.items()]
        url = f"{self._base}/api2/json/{path}"
        data = None
        if method in ("GET", "DELETE"):
            url += ("&" if "?" in url else "?") + urllib.parse.urlencode(form) if form else ""
        elif form:
            data = urllib.parse.urlencode(form)
        headers = {**self.headers, **({"Content-Type": "application/x-www-form-urlencoded"} if data else {})}
        async with self._session.request(method, URL(url, encoded=True), data=data, headers=headers) as response:
            return Answer(response.status, response.reason or "", json.loads(await response.text()))

    async def get(self, path: str, /, **parameters: Any) -> Any:
        return (await self.call("GET", path, **parameters)).data

    async def task(self, method: str, path: str, /, **parameters: Any) -> str:
        """Start a task, wait for its end, return its exit status."""
        upid = (await self.call(method, path, **parameters)).data
        node = upid.split(":")[1]
        while True:
            status = await self.get(f"nodes/{node}/tasks/{urllib.parse.quote(upid, safe=':@')}/status")
            if status["status"] == "stopped":
                return str(status["exitstatus"])
            await asyncio.sleep(0.01)

    async def download(self, node: str = "pve01") -> None:
        status = await self.task(
            "POST",
            f"nodes/{node}/storage/local/download-url",
            content="import",
            filename="debian-13.raw",
            url=IMAGE_URL,
            checksum=IMAGE_SHA,
            checksum__algorithm="sha512",
        )
        assert status == "OK"

    async def create(self, vmid: int = 4100, node: str = "pve01", **more: Any) -> str:
        """A VM with a boot disk from the image and two NICs, as the Proxmox VE provider asks for it."""
        return await self.task("POST", f"nodes/{node}/qemu", **vm_parameters(vmid, **more))


def vm_parameters(vmid: int, datastore: str = "local-lvm", **more: Any) -> dict[str, Any]:
    return {
        "vmid": vmid,
        "name": f"vm{vmid}",
        "acpi": 1,
        "agent": "enabled=1,fstrim_cloned_disks=1,type=virtio",
        "boot": "order=scsi0;net0",
        "cores": 4,
        "cpu": "host",
        "memory": 1024,
        "onboot": 1,
        "ostype": "l26",
        "scsihw": "virtio-scsi-single",
        "serial0": "socket",
        "tags": "swarm-lab",
        "ide2": f"file={datastore}:cloudinit,",
        "ipconfig0": "gw=192.168.4.1,ip=192.168.4.30/24",
        "ipconfig1": "ip=192.168.12.30/24",
        "nameserver": "192.168.2.4 192.168.4.5",
        "net0": "model=virtio,bridge=vmbr0,firewall=0,macaddr=bc:24:11:04:00:1e,tag=4",
        "net1": "model=virtio,bridge=vmbr0,firewall=0,macaddr=bc:24:11:0c:00:1e,tag=12",
        "scsi0": f"file={datastore}:0,import-from=local:import/debian-13.raw,size=53687091200,aio=io_uring,backup=1,"
        "iothread=1,ssd=0,discard=on,cache=none,replicate=1",
        **more,
    }


Scenario = Callable[[Api], Awaitable[Any]]


class Cluster:
    """Runs scenarios against one cluster; afterwards no answer may have broken the official schema."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.image = directory / "image.raw"
        with self.image.open("wb") as stream:
            stream.truncate(3 * GIB)

    def run(self, scenario: Scenario) -> Any:
        return asyncio.run(self._run(scenario))

    async def _run(self, scenario: Scenario) -> Any:
        machines, faults = FakeMachines(), Faults()
        record = Record(self.directory / "api.jsonl")
        state = State.load(self.directory / "state.json")
        for host in HOSTS:
            state.dns.setdefault(host, {"search": "lab", "dns1": "192.168.2.4"})
        storages = Storages(self.directory / "storage", state)
        pve = Pve(
            state, storages, Power(state, storages, machines), Tasks(record, faults), faults, record,
            {host: f"127.0.0.{n}" for n, host in enumerate(HOSTS, 1)},
            {IMAGE_URL: Download(IMAGE_URL, self.image, IMAGE_SHA)},
        )  # fmt: skip
        async with TestServer(Server(pve, SCHEMA, TOKEN_ID, SECRET).app()) as server, ClientSession() as session:
            result = await scenario(Api(session, str(server.make_url("")).rstrip("/"), pve, machines))
        record.close()
        assert record.violations == []
        return result

    def record(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.directory / "api.jsonl").read_text().splitlines()]
