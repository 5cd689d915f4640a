"""All machines of one lab."""

import asyncio
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from proxmox_swarm.lab.machines import agent, limits, nspawn
from proxmox_swarm.lab.machines.cgroups import Cgroups
from proxmox_swarm.lab.machines.machine import Machine, MachineError
from proxmox_swarm.lab.machines.mounts import BaseImages
from proxmox_swarm.lab.machines.spec import MachineSpec

if TYPE_CHECKING:
    from proxmox_swarm.lab.network import Network

__all__ = ["MachineError", "Machines", "clean"]


class Machines:
    """Starts and stops machines inside the current mount, PID and network namespaces.

    ``run`` is a directory for mount points and console logs. ``on_exit`` is called with the VM id of a machine that
    ended by itself (powered off from inside, or crashed), after its clean-up; not for `shutdown`, `kill` and `close`.
    """

    def __init__(self, run: Path, network: "Network", on_exit: Callable[[int], None] | None = None) -> None:
        self._run = run
        self._network = network
        self._on_exit = on_exit
        self._images = BaseImages(run / "images")
        self._cgroups = Cgroups(run)
        self._limits = limits.Limits()
        self._machines: dict[int, Machine] = {}
        self._asked: set[int] = set()
        self._agents: dict[int, asyncio.Lock] = {}
        self._preparing = asyncio.Lock()
        self._hidden = False

    async def start(self, spec: MachineSpec) -> None:
        """Returns when the machine's init runs. Raises `MachineError`: already running, or why it does not start."""
        if spec.vmid in self._machines:
            raise MachineError(f"machine {spec.vmid} is running already")
        directory = self._run / "machines" / str(spec.vmid)
        machine = Machine(spec, directory, self._images, self._network, self._cgroups)
        self._machines[spec.vmid] = machine
        try:
            await self._prepare()
            await machine.start(lambda: self._exited(spec.vmid))
        except BaseException:
            del self._machines[spec.vmid]
            raise

    async def shutdown(self, vmid: int, timeout: float) -> None:
        """Powers a machine off from inside; kills it after ``timeout`` seconds. Harmless when it is not running."""
        if machine := self._machines.get(vmid):
            self._asked.add(vmid)
            await machine.shutdown(timeout)

    async def kill(self, vmid: int) -> None:
        """Stops a machine as a power cut does. Harmless when it is not running."""
        if machine := self._machines.get(vmid):
            self._asked.add(vmid)
            await machine.kill()

    def running(self, vmid: int) -> bool:
        """Is the machine on? Also while it reboots, when it has no init process for a moment."""
        return vmid in self._machines

    def pid(self, vmid: int) -> int | None:
        """The machine's init process, as seen from here."""
        machine = self._machines.get(vmid)
        return machine.pid if machine else None

    def console(self, vmid: int) -> Path:
        """The file with the machine's console output; it stays after the machine's end."""
        return self._run / "machines" / str(vmid) / "console.log"

    async def agent(
        self, vmid: int, command: str, arguments: Mapping[str, object] | None = None, timeout: float = 5
    ) -> object:
        """What the machine's QEMU guest agent answers. Raises `AgentNotRunning`, `AgentError`."""
        # the agent serves one client at a time
        async with self._agents.setdefault(vmid, asyncio.Lock()):
            if (pid := self.pid(vmid)) is None:
                raise agent.AgentNotRunning(f"machine {vmid} is not running")
            return await agent.ask(Path(f"/proc/{pid}/root"), command, arguments, timeout)

    async def set_link(self, vmid: int, nic: int, up: bool) -> None:
        """Plugs the cable of card ``nic`` in or out."""
        if (machine := self._machines.get(vmid)) is None:
            raise MachineError(f"machine {vmid} is not running")
        await machine.set_link(nic, up)

    async def close(self) -> None:
        """Kills every machine and takes away what the kernel would keep."""
        await asyncio.gather(*(self.kill(vmid) for vmid in list(self._machines)))
        self._limits.restore()
        await asyncio.to_thread(clean, self._run)

    async def _prepare(self) -> None:
        async with self._preparing:
            self._limits.raise_()
            if not self._hidden:
                await nspawn.hide_state()
                self._hidden = True

    def _exited(self, vmid: int) -> None:
        del self._machines[vmid]
        if vmid in self._asked:
            self._asked.discard(vmid)
        elif self._on_exit:
            self._on_exit(vmid)


def clean(run: Path) -> None:
    """Takes away what the namespaces of a dead lab leave behind: cgroups, raised limits, mount points below ``run``.

    For after the death of the process that ran `Machines` on the same ``run``, by whatever signal; harmless at any
    other time except while that process lives. Raises OSError when a process of a machine still exists.
    """
    Cgroups(run).remove()
    limits.restore()
    for point in [*(run / "images").glob("*"), *(run / "machines").glob("*/root")]:
        point.rmdir()  # never more: what is not empty is still mounted
    shutil.rmtree(run / "images", ignore_errors=True)
