"""Starting and stopping the real machines behind the VMs, and knowing which run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

from proxmox_swarm.lab.machines.spec import MachineSpec
from proxmox_swarm.lab.pve import disks, seed
from proxmox_swarm.lab.pve.errors import PveError, TaskError
from proxmox_swarm.lab.pve.properties import Drive, keyed
from proxmox_swarm.lab.pve.state import State, Vm
from proxmox_swarm.lab.pve.storages import Storages

#: Proxmox VE waits this long for the lock of a VM's configuration.
LOCK_TIMEOUT = 10.0


class Hypervisor(Protocol):
    """What runs machines: :class:`proxmox_swarm.lab.machines.runtime.Machines`, or a stand-in in tests."""

    async def start(self, spec: MachineSpec) -> None:
        """Start the machine."""

    async def shutdown(self, vmid: int, timeout: float) -> None:
        """Power it off from inside, or kill it after ``timeout`` seconds."""

    async def kill(self, vmid: int) -> None:
        """Stop it at once."""

    def running(self, vmid: int) -> bool:
        """Whether it runs."""

    def pid(self, vmid: int) -> int | None:
        """The process id of its init."""

    async def agent(
        self, vmid: int, command: str, arguments: Mapping[str, object] | None = None, timeout: float = 5
    ) -> object:
        """Ask its guest agent."""

    async def set_link(self, vmid: int, nic: int, up: bool) -> None:
        """Plug the cable of a NIC in or out."""


class Power:
    """The power state of all VMs, with the lock each VM's configuration has."""

    def __init__(self, state: State, storages: Storages, machines: Hypervisor) -> None:
        self._state = state
        self._storages = storages
        self.machines = machines
        self._started: dict[int, float] = {}
        self._locks: dict[int, asyncio.Lock] = {}
        self.changed: Callable[[], None] = lambda: None

    @asynccontextmanager
    async def lock(self, vmid: int) -> AsyncIterator[None]:
        """Hold the lock of a VM's configuration; fails as Proxmox VE does when it is busy for ten seconds."""
        lock = self._locks.setdefault(vmid, asyncio.Lock())
        try:
            await asyncio.wait_for(lock.acquire(), LOCK_TIMEOUT)
        except TimeoutError:
            raise PveError(f"can't lock file '/var/lock/qemu-server/lock-{vmid}.conf' - got timeout") from None
        try:
            yield
        finally:
            lock.release()

    def running(self, vmid: int) -> bool:
        """Whether the VM's machine runs."""
        return self.machines.running(vmid)

    def uptime(self, vmid: int) -> int:
        """Seconds since the start, 0 when stopped."""
        return int(time.monotonic() - self._started[vmid]) if self.running(vmid) and vmid in self._started else 0

    async def start(self, vm: Vm) -> None:
        """Start a VM with its pending changes applied. Raises what the task shall end with."""
        vm.check_lock()
        if self.running(vm.vmid):
            raise TaskError(f"VM {vm.vmid} already running")
        kept = {drive.file for drive in seed.drives(vm.wanted()).values()}
        for text in map(str, vm.apply_pending()):
            if Drive.parse(text).file not in kept:
                disks.forget(self._storages, vm, text)
        self._state.save()
        spec = seed.machine(vm, self._state, self._storages, self._state.dns.get(vm.node, {}))
        await self.machines.start(spec)
        self._started[vm.vmid] = time.monotonic()
        self.changed()

    async def stop(self, vm: Vm) -> None:
        """Stop at once, like pulling the plug; a stopped VM stays so."""
        if self.running(vm.vmid):
            await self.machines.kill(vm.vmid)

    async def shutdown(self, vm: Vm, timeout: float) -> None:
        """Power off from inside; after ``timeout`` seconds the plug is pulled (``forceStop``)."""
        if self.running(vm.vmid):
            await self.machines.shutdown(vm.vmid, timeout)

    async def ask_agent(
        self, vm: Vm, command: str, arguments: Mapping[str, object] | None = None, timeout: float = 5
    ) -> Any:
        """Send a command to the guest agent and return its answer. Raises as Proxmox VE answers when there is none."""
        from proxmox_swarm.lab.machines.agent import AgentError, AgentNotRunning

        if not agent_enabled(vm):
            raise PveError("No QEMU guest agent configured")
        if not self.running(vm.vmid):
            raise PveError(f"VM {vm.vmid} is not running")
        try:
            return await self.machines.agent(vm.vmid, command, arguments, timeout)
        except AgentNotRunning:
            raise PveError("QEMU guest agent is not running") from None
        except AgentError as error:
            raise PveError(f"Agent error: {error}") from error


def agent_enabled(vm: Vm) -> bool:
    """Whether the running configuration has the guest agent on."""
    settings = keyed(str(vm.config.get("agent", "0")))
    return settings.get("enabled", settings.get("", "0")) == "1"
