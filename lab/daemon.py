"""The lab itself, one process in namespaces of its own: ``python -m proxmox_swarm.lab.daemon DIRECTORY``.

It is started under ``unshare --mount --pid --net --fork --kill-child``: whatever happens to it, the kernel takes machines,
mounts and networks away with it.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import ssl
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxmox_swarm.lab import control, image, machines
from proxmox_swarm.lab.credentials import TOKEN_ID, Credentials
from proxmox_swarm.lab.host_power import HostPower
from proxmox_swarm.lab.hypervisor_ssh import HypervisorSsh
from proxmox_swarm.lab.image_links import drop_unused, link_image, linked
from proxmox_swarm.lab.network import DNS_SERVERS, HOSTS, REGISTRY, Network
from proxmox_swarm.lab.paths import Paths
from proxmox_swarm.lab.pve import server
from proxmox_swarm.lab.pve.core import Pve
from proxmox_swarm.lab.pve.faults import Fault, Faults
from proxmox_swarm.lab.pve.power import Power
from proxmox_swarm.lab.pve.record import Record
from proxmox_swarm.lab.pve.schema import Schema
from proxmox_swarm.lab.pve.seed import nics
from proxmox_swarm.lab.pve.state import State
from proxmox_swarm.lab.pve.storages import Storages
from proxmox_swarm.lab.pve.tasks import Tasks
from proxmox_swarm.lab.pve.vm_power import summary
from proxmox_swarm.lab.services import Dns, ImageServer, Registry

log = logging.getLogger("lab")
#: Seconds the machines get to power off on ``lab down``.
_POWER_OFF = 10.0
_LOCK_WAIT = 10.0


class Daemon:
    """Everything a lab runs."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._end = asyncio.Event()
        self._ready = asyncio.Event()
        self._error: str | None = None
        self._credentials = Credentials(paths, HOSTS)
        self._network = Network()
        self._machines = machines.Machines(paths.run, self._network, on_exit=self._machine_ended)
        self._dns = Dns(paths, DNS_SERVERS)
        self._registry = Registry(paths, REGISTRY)
        self._record = Record(paths.record)
        state = State.load(paths.pve / "state.json")
        for host in HOSTS:
            state.dns.setdefault(host, {"search": "lab", "dns1": DNS_SERVERS[0]})
        storages = Storages(paths.storage, state)
        faults = Faults()
        source = image.ensure(log.info)
        boot_image = link_image(paths, source)
        drop_unused(paths, storages, boot_image)
        self._images = ImageServer(DNS_SERVERS[0])
        self._images.offer(boot_image, source.sha512)
        self._pve = Pve(
            state, storages, Power(state, storages, self._machines), Tasks(self._record, faults), faults, self._record,
            HOSTS, self._images.downloads,
        )  # fmt: skip
        self._pve.power.changed = self._publish_names
        self._schema = Schema()
        self._api = server.Server(self._pve, self._schema, TOKEN_ID, self._credentials.token.rpartition("=")[2])
        self._ssh = HypervisorSsh(
            HOSTS, self._credentials.host_key, self._credentials.public_key, lambda h: storages.path(h, "local") / "snippets"
        )  # fmt: skip
        self._hosts = HostPower(self._pve, self._ssh)
        self._control = control.Server(
            self._paths.control,
            {
                "status": self._status, "stats": self._stats, "ready": self._wait_ready, "shutdown": self._shutdown,
                "fault": self._add_fault, "clear": self._clear, "crash": self._crash, "link": self._link,
                "host-up": self._host_up, "image": self._offer_image,
            },
        )  # fmt: skip

    async def run(self) -> None:
        """Start everything, serve until asked to end, end everything."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end.set)
        await self._control.start()
        try:
            await self._start()
        except Exception as error:
            self._error = str(error)
            self._ready.set()
            log.exception("the lab does not start")
            await asyncio.sleep(0.5)  # whoever waits for "ready" gets the error
            raise
        self._ready.set()
        log.info("ready")
        background = asyncio.gather(asyncio.to_thread(self._schema.load), self._hosts.boot())
        await self._end.wait()
        background.cancel()
        await self._stop()

    async def _start(self) -> None:
        await self._network.start()
        self._publish_names()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.minimum_version = ssl.TLSVersion.TLSv1_3
        tls.load_cert_chain(self._credentials.tls_certificate, self._credentials.tls_key)
        await self._registry.start()
        await asyncio.gather(self._dns.start(), self._images.start(), self._api.start(tls), self._ssh.start())
        await self._registry.ready()

    async def _stop(self) -> None:
        await self._api.close()
        await self._pve.tasks.close()
        running = [vmid for vmid in self._pve.state.vms if self._machines.running(vmid)]
        await asyncio.gather(
            *(self._machines.shutdown(vmid, _POWER_OFF) for vmid in running),
            self._ssh.close(), self._images.stop(), self._dns.stop(), self._registry.stop(),
            return_exceptions=True,
        )  # fmt: skip
        await self._machines.close()
        await asyncio.to_thread(self._pve.storages.close)
        self._record.close()
        await self._control.close()

    # -- what the outside asks for -----------------------------------------------------------------------------------

    async def _wait_ready(self, _: Mapping[str, Any]) -> str:
        await self._ready.wait()
        if self._error:
            raise RuntimeError(self._error)
        return "ready"

    async def _shutdown(self, _: Mapping[str, Any]) -> str:
        self._end.set()
        return "ending"

    async def _status(self, _: Mapping[str, Any]) -> dict[str, Any]:
        guests = []
        for vm in sorted(self._pve.state.vms.values(), key=lambda v: v.vmid):
            line = summary(self._pve, vm)
            guests.append(
                {k: line.get(k) for k in ("vmid", "name", "status", "uptime", "tags", "lock")} | {"host": vm.node}
            )
        return {
            "ready": self._ready.is_set(), "error": self._error, "machines": guests,
            "hosts": {host: {"address": a, "up": not self._pve.faults.is_down(host)} for host, a in HOSTS.items()},
            "faults": self._pve.faults.rules(), "stats": self._pve.record.counts,
        }  # fmt: skip

    async def _stats(self, _: Mapping[str, Any]) -> dict[str, Any]:
        return {**self._pve.record.counts, "violations": self._pve.record.violations}

    async def _add_fault(self, request: Mapping[str, Any]) -> list[dict[str, Any]]:
        fault = Fault(**request)
        self._pve.faults.add(fault)
        if act := {"host-down": self._hosts.down, "host-lost": self._hosts.lose}.get(fault.kind):
            await act(fault.host)
        return self._pve.faults.rules()

    async def _host_up(self, request: Mapping[str, Any]) -> str:
        host = str(request["host"])
        self._pve.faults.mend_host(host)
        await self._hosts.up(host)
        return "up"

    async def _clear(self, _: Mapping[str, Any]) -> str:
        off = [host for host in HOSTS if self._pve.faults.is_off(host)]
        self._pve.faults.clear()
        for host in off:
            await self._hosts.up(host)
        for vm in self._pve.state.vms.values():
            if self._machines.running(vm.vmid):
                for number in nics(vm.config):
                    await self._machines.set_link(vm.vmid, number, True)
        return "cleared"

    async def _crash(self, request: Mapping[str, Any]) -> str:
        await self._machines.kill(int(request["vmid"]))
        return "crashed"

    async def _link(self, request: Mapping[str, Any]) -> str:
        vmid = int(request["vmid"])
        numbers = (
            [int(request["nic"])] if request.get("nic") is not None else list(nics(self._pve.state.vms[vmid].config))
        )
        for number in numbers:
            await self._machines.set_link(vmid, number, bool(request["up"]))
        return "up" if request["up"] else "cut"

    async def _offer_image(self, request: Mapping[str, Any]) -> str:
        path = linked(self._paths, Path(request["path"]))
        return self._images.offer(path, str(request["sha512"])).url

    # -- names -------------------------------------------------------------------------------------------------------

    def _publish_names(self) -> None:
        names = {**HOSTS, "registry": REGISTRY}
        for vm in self._pve.state.vms.values():
            address = str(vm.config.get("ipconfig0", ""))
            for part in address.split(","):
                if part.startswith("ip=") and "/" in part:
                    names[vm.name] = part[3:].partition("/")[0]
        self._dns.set_names(names)

    def _machine_ended(self, vmid: int) -> None:
        log.warning("machine %s ended by itself", vmid)
        self._record.write("machine-ended", vmid=vmid)


def _hold(paths: Paths) -> int:
    """The lock that one daemon a directory holds while it lives."""
    descriptor = os.open(paths.root / "daemon.lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + _LOCK_WAIT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise SystemExit(f"another lab daemon runs in {paths.root}") from None
            time.sleep(0.1)
        else:
            return descriptor


def _as_init() -> None:
    """Stay behind as the first process of the PID namespace, which collects orphans, and go on in a child.

    When the child ends, so does this process, and the kernel kills what is left in the namespace.
    """
    child = os.fork()
    if child == 0:
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda n, _: os.kill(child, n))
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def main() -> None:
    """Run the lab in the directory given as the only argument."""
    paths = Paths(Path(sys.argv[1]).absolute())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
    if os.getpid() == 1:
        _as_init()
    _hold(paths)
    asyncio.run(_main(paths))


async def _main(paths: Paths) -> None:
    await Daemon(paths).run()


if __name__ == "__main__":
    main()
