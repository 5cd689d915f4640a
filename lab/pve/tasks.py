"""Worker tasks: they run on the server, go on when the client is gone, and keep their log, times and exit status."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from proxmox_swarm.lab.pve.errors import PveError, TaskError
from proxmox_swarm.lab.pve.faults import Faults
from proxmox_swarm.lab.pve.record import Record

#: Clients ask once a second how a task goes, so each task would cost them up to a second more than it takes. Hence a
#: request that starts a task, or asks for the status of one, is held back so many seconds while the task runs.
_HOLD_START = 0.3
_HOLD_STATUS = 2.0
_KEEP = 2000


@dataclass
class Task:
    """One worker task. Times are seconds since the epoch."""

    upid: str
    node: str
    type: str
    id: str
    user: str
    pid: int
    started: float
    ended: float | None = None
    exit_status: str | None = None
    lines: list[str] = field(default_factory=list)
    job: asyncio.Task[None] | None = None

    def log(self, line: str) -> None:
        """Add a line to the task's log."""
        self.lines.append(line)

    def status(self) -> dict[str, Any]:
        """The answer of ``tasks/{upid}/status``."""
        answer = {
            "upid": self.upid, "node": self.node, "type": self.type, "id": self.id, "user": self.user, "pid": self.pid,
            "pstart": self.pid, "starttime": int(self.started), "status": "stopped" if self.ended else "running",
        }  # fmt: skip
        if self.exit_status is not None:
            answer["exitstatus"] = self.exit_status
        return answer

    def summary(self) -> dict[str, Any]:
        """The answer of ``tasks``: one line of the list."""
        line = self.status()
        line.pop("exitstatus", None)
        del line["status"]
        if self.ended:
            line |= {"endtime": int(self.ended), "status": self.exit_status}
        return line


Work = Callable[[Task], Awaitable[None]]


class Tasks:
    """All tasks of the cluster, newest last."""

    def __init__(self, record: Record, faults: Faults) -> None:
        self._record = record
        self._faults = faults
        self._tasks: dict[str, Task] = {}
        self._pids = itertools.count(4097)

    def admit(self, node: str, kind: str, vmid: int) -> None:
        """Called where Proxmox VE locks the VM before it forks: refuses if a fault says so."""
        if text := self._faults.at_request(node, kind, str(vmid)):
            self._record.write("fault", node=node, task=kind, id=str(vmid), exitstatus=text)
            raise PveError(text)

    async def start(self, node: str, kind: str, about: str, user: str, work: Work) -> str:
        """Start ``work`` as a task of type ``kind``; returns its UPID after at most a moment."""
        pid, started = next(self._pids), time.time()
        upid = f"UPID:{node}:{pid:08X}:{pid:08X}:{int(started):08X}:{kind}:{about}:{user}:"
        task = Task(upid, node, kind, about, user, pid, started)
        self._tasks[upid] = task
        while len(self._tasks) > _KEEP:
            del self._tasks[next(iter(self._tasks))]
        self._record.counts["tasks"] += 1
        self._record.write("task-start", upid=upid, node=node, type=kind, id=about)
        task.job = asyncio.create_task(self._run(task, work), name=upid)
        await asyncio.wait({task.job}, timeout=_HOLD_START)
        return upid

    async def settled(self, upid: str) -> Task:
        """The task of that UPID, after its end or a moment. Raises the answer Proxmox VE gives to an unknown one."""
        task = self.get(upid)
        if task.job and not task.job.done():
            await asyncio.wait({task.job}, timeout=_HOLD_STATUS)
        return task

    async def _run(self, task: Task, work: Work) -> None:
        try:
            if text := await self._faults.at_task(task.node, task.type, task.id):
                raise TaskError(text)
            await work(task)
            task.exit_status = "OK"
        except asyncio.CancelledError:
            task.exit_status = "interrupted by signal"
            raise
        except (PveError, TaskError) as error:
            task.exit_status = str(error)
        except Exception as error:  # noqa: BLE001 - a worker that dies ends its task, not the server
            task.exit_status = f"{type(error).__name__}: {error}"
        finally:
            task.ended = time.time()
            if task.exit_status == "OK":
                task.log("TASK OK")
            else:
                task.log(f"TASK ERROR: {task.exit_status}")
            self._record.write(
                "task-end", upid=task.upid, node=task.node, type=task.type, id=task.id,
                started=round(task.started, 4), ended=round(task.ended, 4), exitstatus=task.exit_status,
            )  # fmt: skip

    def get(self, upid: str) -> Task:
        """The task of that UPID. Raises the answer Proxmox VE gives to an unknown one."""
        if upid not in self._tasks:
            raise PveError("no such task", 400)
        return self._tasks[upid]

    def list(self, node: str | None = None) -> list[Task]:
        """Tasks, newest first."""
        return [t for t in reversed(self._tasks.values()) if node in (None, t.node)]

    def stop(self, upid: str) -> None:
        """Interrupt a task."""
        job = self.get(upid).job
        if job:
            job.cancel()

    async def close(self, node: str | None = None) -> None:
        """Interrupt all tasks, or those of one host, and wait for them."""
        jobs = [t.job for t in self._tasks.values() if t.job and not t.job.done() and node in (None, t.node)]
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
