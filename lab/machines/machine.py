"""One running machine: what it is made of, and its life from start to exit."""

import asyncio
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

POWER_OFF = signal.SIGRTMIN + 4  # systemd(1), "Signals"
START_DEADLINE = 30.0
EXIT_DEADLINE = 10.0  # nspawn ends at once when its init is gone


class MachineError(RuntimeError):
    """A machine cannot do what was asked."""


class Machine:
    """Made by `start`; everything it took is given back when its process ends, however it ends."""

    def __init__(self, spec: MachineSpec, directory: Path) -> None:
        self.spec = spec
        self._directory = directory
        self._stack = AsyncExitStack()
        self._process: asyncio.subprocess.Process | None = None
        self._init: int | None = None
        self._gone = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None

    async def start(self, images: BaseImages, network: "Network", groups: cgroups.Cgroups) -> None:
        """Returns when the init process runs. Raises `MachineError` with the end of the console."""
        try:
            await self._start(images, network, groups)
        except BaseException:
            await self._stack.aclose()
            raise

    async def _start(self, images: BaseImages, network: "Network", groups: cgroups.Cgroups) -> None:
        spec, stack = self.spec, self._stack
        self._directory.mkdir(parents=True, exist_ok=True)

        base = await images.acquire(spec.image)
        stack.push_async_callback(images.release, spec.image)
        root = self._directory / "root"
        await mount_root(base, spec.volume, root)
        stack.push_async_callback(unmount_root, root)
        seed.write(root, spec.seed)

        devices = []
        for index, disk in enumerate(spec.disks):
            loop = LoopDevice(disk.path)
            stack.callback(loop.close)
            devices += [(loop.path, loop.path), (loop.path, by_id(index, disk.serial))]

        namespace = NetworkNamespace()
        stack.callback(namespace.close)
        for index, nic in enumerate(spec.nics):
            await network.attach(spec.vmid, index, nic, namespace.path)
            stack.push_async_callback(network.detach, spec.vmid, index)

        files = groups.create(spec.vmid)
        stack.push_async_callback(asyncio.to_thread, groups.remove, spec.vmid)

        arguments = nspawn.command(
            root, spec.name, spec.volume / "docker", namespace.path, devices, files, legacy=not cgroups.unified()
        )
        with self.console.open("wb") as console:
            self._process = await asyncio.create_subprocess_exec(
                *arguments,
                env={**os.environ, **nspawn.ENVIRONMENT},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        stack.push_async_callback(self._end_process)
        await self._wait_for_init()

    @property
    def console(self) -> Path:
        """The file with what the machine writes to its console since its start."""
        return self._directory / "console.log"

    @property
    def pid(self) -> int | None:
        """The init process, as seen from here; another one after the machine rebooted itself."""
        if self._gone.is_set() or self._process is None:
            return None
        if self._init is None or not nspawn.is_alive(self._init):
            self._init = nspawn.init_of(self._process.pid)
        return self._init

    def watch(self, on_exit: Callable[[], None]) -> None:
        """From now on, cleans up when the process ends, then calls ``on_exit``."""
        self._watch = asyncio.create_task(self._clean_up_at_exit(on_exit))

    async def shutdown(self, timeout: float) -> None:
        """Powers off from inside; returns when all is cleaned up. Kills it after ``timeout`` seconds."""
        if (pid := self.pid) is not None:
            _signal(pid, POWER_OFF)
        try:
            await asyncio.wait_for(self._gone.wait(), timeout)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """Pulls the plug; returns when all is cleaned up."""
        if (pid := self.pid) is not None:
            _signal(pid, signal.SIGKILL)
        try:
            await asyncio.wait_for(self._gone.wait(), EXIT_DEADLINE)
        except TimeoutError:
            # never without its init: that would go on running
            if self._process is not None and self._process.returncode is None:
                self._process.kill()
            await asyncio.wait_for(self._gone.wait(), EXIT_DEADLINE)

    async def _clean_up_at_exit(self, on_exit: Callable[[], None]) -> None:
        assert self._process is not None  # noqa: S101 (watched after the start)
        await self._process.wait()
        try:
            await self._stack.aclose()
        finally:
            self._gone.set()
            on_exit()

    async def _end_process(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        if (pid := nspawn.init_of(process.pid)) is not None:
            _signal(pid, signal.SIGKILL)
        try:
            await asyncio.wait_for(process.wait(), EXIT_DEADLINE)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _wait_for_init(self) -> None:
        assert self._process is not None  # noqa: S101 (just started)
        deadline = asyncio.get_running_loop().time() + START_DEADLINE
        while self.pid is None:
            if self._process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                said = self.console.read_text(errors="replace").strip().splitlines()[-10:]
                raise MachineError(f"machine {self.spec.vmid} ({self.spec.name}) does not start: " + "\n".join(said))
            await asyncio.sleep(0.02)


def by_id(index: int, serial: str | None) -> Path:
    """The link that udev makes for a QEMU SCSI disk; without a serial it is named after its drive."""
    return Path(f"/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_{serial or f'drive-scsi{index + 1}'}")


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
