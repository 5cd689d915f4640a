"""One running machine: what it is made of, and its life from start to exit."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from proxmox_swarm.lab.machines import cgroups, nspawn, seed
from proxmox_swarm.lab.machines.loop import LoopDevice
from proxmox_swarm.lab.machines.mounts import BaseImages, mount_root, unmount_root
from proxmox_swarm.lab.machines.netns import NetworkNamespace
from proxmox_swarm.lab.machines.spec import MachineSpec

if TYPE_CHECKING:
    from proxmox_swarm.lab.network import Network

log = logging.getLogger(__name__)

POWER_OFF = signal.SIGRTMIN + 4  # systemd(1), "Signals"
START_DEADLINE = 30.0
EXIT_DEADLINE = 15.0  # nspawn ends at once when its init is gone; the rest is unmounting
EXIT_REBOOT = 133  # with --keep-unit, nspawn leaves booting again to its caller and says so with this code
POLL = 0.02


class MachineError(RuntimeError):
    """A machine cannot do what was asked."""


class Machine:
    """Made by `start`; everything it took is given back when its process ends, however it ends."""

    def __init__(
        self, spec: MachineSpec, directory: Path, images: BaseImages, network: "Network", groups: cgroups.Cgroups
    ) -> None:
        self.spec = spec
        self._directory = directory
        self._images = images
        self._network = network
        self._cgroups = groups
        self._stack = AsyncExitStack()
        self._process: asyncio.subprocess.Process | None = None
        self._init: int | None = None
        self._unplugged: set[int] = set()
        self._stopping = False
        self._gone = asyncio.Event()
        self._life: asyncio.Task[None] | None = None

    @property
    def console(self) -> Path:
        """The file with what the machine has written to its console since its start."""
        return self._directory / "console.log"

    @property
    def pid(self) -> int | None:
        """The init process, as seen from here; none between two boots, another one after a reboot."""
        if self._process is None or self._process.returncode is not None:
            return None
        if self._init is None or not nspawn.is_alive(self._init):
            self._init = nspawn.init_of(self._process.pid)
        return self._init

    async def start(self, on_exit: Callable[[], None]) -> None:
        """Returns when the init process runs; ``on_exit`` is called after the clean-up at the machine's end.

        Raises `MachineError` with the end of the console, `CommandError` or OSError.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        self.console.write_bytes(b"")
        try:
            await self._boot()
        except BaseException:
            self._gone.set()
            raise
        self._life = asyncio.create_task(self._live(on_exit))

    async def shutdown(self, timeout: float) -> None:
        """Powers off from inside; returns when all is cleaned up. Kills it after ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                asked: int | None = None
                while not self._gone.is_set():
                    if asked != (pid := self.pid) and pid is not None:  # also the next boot of one that reboots
                        _signal(pid, POWER_OFF)
                        asked = pid
                    await asyncio.sleep(POLL)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """Pulls the plug; returns when all is cleaned up."""
        self._stopping = True
        try:
            async with asyncio.timeout(EXIT_DEADLINE):
                while not self._gone.is_set():
                    if (pid := self.pid) is not None:
                        _signal(pid, signal.SIGKILL)
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise MachineError(
                f"machine {self.spec.vmid} ({self.spec.name}) does not end: its init was killed {EXIT_DEADLINE:.0f} s ago"
            ) from None

    async def set_link(self, nic: int, up: bool) -> None:
        """Plugs the cable of card ``nic`` in or out; it stays so over a reboot."""
        (self._unplugged.discard if up else self._unplugged.add)(nic)
        await self._network.set_link(self.spec.vmid, nic, up)

    async def _live(self, on_exit: Callable[[], None]) -> None:
        """Waits for the end; a machine that rebooted itself boots again, on fresh network cards."""
        try:
            rebooting = True
            while rebooting:
                assert self._process is not None  # noqa: S101 (booted)
                rebooting = await self._process.wait() == EXIT_REBOOT and not self._stopping
                await self._stack.aclose()
                if rebooting:
                    await self._boot()
        except Exception:  # the machine is off either way; whoever waits for that must learn it
            log.exception("machine %d (%s) did not end or boot again cleanly", self.spec.vmid, self.spec.name)
        finally:
            self._gone.set()
            on_exit()

    async def _boot(self) -> None:
        self._stack = AsyncExitStack()
        try:
            await self._make()
        except BaseException:
            await self._stack.aclose()
            raise

    async def _make(self) -> None:
        spec, stack = self.spec, self._stack
        base = await self._images.acquire(spec.image)
        stack.push_async_callback(self._images.release, spec.image)
        root = self._directory / "root"
        await mount_root(base, spec.volume, root)
        stack.push_async_callback(unmount_root, root)
        seed.write(root, spec.seed)

        devices = []
        for index, disk in enumerate(spec.disks):
            loop = LoopDevice(disk.path)
            stack.push_async_callback(loop.close)
            devices += [(loop.path, loop.path), (loop.path, by_id(index, disk.serial))]

        namespace = NetworkNamespace()
        stack.callback(namespace.close)
        for index, nic in enumerate(spec.nics):
            await self._network.attach(spec.vmid, index, nic, namespace.path)
            stack.push_async_callback(self._network.detach, spec.vmid, index)
        for index in self._unplugged:
            await self._network.set_link(spec.vmid, index, up=False)

        files = self._cgroups.create(spec.vmid)
        stack.push_async_callback(asyncio.to_thread, self._cgroups.remove, spec.vmid)

        arguments = nspawn.command(
            root,
            f"vm{spec.vmid}",
            spec.name,
            spec.volume / "docker",
            namespace.path,
            devices,
            files,
            legacy=not cgroups.unified(),
        )
        with self.console.open("ab") as console:
            self._process = await asyncio.create_subprocess_exec(
                *arguments,
                env={**os.environ, **nspawn.ENVIRONMENT},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        stack.push_async_callback(_end, self._process)
        await self._wait_for_init(self._process)

    async def _wait_for_init(self, process: asyncio.subprocess.Process) -> None:
        deadline = asyncio.get_running_loop().time() + START_DEADLINE
        while self.pid is None:
            if process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                said = self.console.read_text(errors="replace").strip().splitlines()[-10:]
                raise MachineError(f"machine {self.spec.vmid} ({self.spec.name}) does not start: " + "\n".join(said))
            await asyncio.sleep(POLL)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Makes sure that nothing of a machine runs: never the supervisor alone, its init would go on."""
    if process.returncode is not None:
        return
    if (pid := nspawn.init_of(process.pid)) is not None:
        _signal(pid, signal.SIGKILL)
    try:
        await asyncio.wait_for(process.wait(), EXIT_DEADLINE)
    except TimeoutError:
        process.kill()
        await process.wait()


def by_id(index: int, serial: str | None) -> Path:
    """The link that udev makes for a QEMU SCSI disk; without a serial it is named after its drive."""
    return Path(f"/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_{serial or f'drive-scsi{index + 1}'}")


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
