"""The hosts' own power: one is cut off, comes back with what has ``onboot``, or is gone for good."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from proxmox_swarm.lab.hypervisor_ssh import HypervisorSsh
from proxmox_swarm.lab.pve.core import Pve
from proxmox_swarm.lab.pve.state import HOSTS, Vm
from proxmox_swarm.lab.pve.tasks import Task


class HostPower:
    """Acts on the machines and servers of a host; that it does not answer is said by the rules of ``Faults``."""

    def __init__(self, pve: Pve, ssh: HypervisorSsh) -> None:
        self._pve = pve
        self._ssh = ssh

    async def down(self, host: str) -> None:
        """Its tasks end where they are, its machines lose their power. Call this when it answers no more."""
        _known(host)
        await asyncio.gather(self._ssh.shut(host), self._pve.tasks.close(host))
        await asyncio.gather(*(self._pve.power.machines.kill(vm.vmid) for vm in self._machines({host})))

    async def lose(self, host: str) -> None:
        """Beyond :meth:`down`, what the cluster knows of it is removed: its machines' configuration, and with it their disks.

        As ``pvecm delnode`` and the removal of its directory below ``/etc/pve/nodes`` do.
        """
        await self.down(host)
        for vm in self._machines({host}):
            del self._pve.state.vms[vm.vmid]
            for pool in self._pve.state.pools.values():
                pool["vms"] = [vmid for vmid in pool["vms"] if vmid != vm.vmid]
        self._pve.storages.wipe(host)
        self._pve.state.save()
        self._pve.power.changed()

    async def up(self, host: str) -> None:
        """It answers again, and starts what has ``onboot``."""
        _known(host)
        await self._ssh.open(host)
        await self.boot({host})

    async def boot(self, hosts: Collection[str] = HOSTS) -> None:
        """As when hosts boot: what has ``onboot`` is started, and no task holds a machine any more."""
        for vm in self._machines(hosts):
            vm.config.pop("lock", None)
            if vm.config.get("onboot"):
                await self._pve.tasks.start(vm.node, "qmstart", str(vm.vmid), "root@pam", self._starting(vm))

    def _machines(self, hosts: Collection[str]) -> list[Vm]:
        return [vm for vm in self._pve.state.vms.values() if vm.node in hosts]

    def _starting(self, vm: Vm) -> Callable[[Task], Awaitable[Any]]:
        async def work(_: Task) -> None:
            async with self._pve.power.lock(vm.vmid):
                await self._pve.power.start(vm)

        return work


def _known(host: str) -> None:
    if host not in HOSTS:
        raise ValueError(f"no host '{host}': {', '.join(HOSTS)}")
