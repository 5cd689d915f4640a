"""Endpoints for a VM's power state and its guest agent."""

from __future__ import annotations

import base64
import re
from typing import Any

from proxmox_swarm.lab.pve.core import Call, Pve, route, vm_of
from proxmox_swarm.lab.pve.errors import PveError
from proxmox_swarm.lab.pve.power import agent_enabled
from proxmox_swarm.lab.pve.properties import MIB
from proxmox_swarm.lab.pve.seed import boot_drive
from proxmox_swarm.lab.pve.state import Vm
from proxmox_swarm.lab.pve.tasks import Task
from proxmox_swarm.lab.pve.vm_config import ONE, QEMU

#: Seconds that a shutdown from inside may take where the request names none (PVE::API2::Qemu).
_SHUTDOWN_TIMEOUT = 60


def summary(pve: Pve, vm: Vm) -> dict[str, Any]:
    """What lists show of a VM: its state and the sizes that are in force now."""
    config, running = vm.config, pve.power.running(vm.vmid)
    boot = boot_drive(config)
    volume = pve.state.volume(vm.node, str(config[boot]).partition(",")[0]) if boot else None
    answer: dict[str, Any] = {
        "vmid": vm.vmid,
        "name": vm.name,
        "status": "running" if running else "stopped",
        "cpus": int(config.get("cores", 1)) * int(config.get("sockets", 1)),
        "maxmem": int(str(config.get("memory", 512)).removeprefix("current=")) * MIB,
        "maxdisk": volume.size if volume else 0,
        "uptime": pve.power.uptime(vm.vmid),
        "cpu": 0, "mem": 0, "disk": 0, "netin": 0, "netout": 0, "diskread": 0, "diskwrite": 0,
    }  # fmt: skip
    if config.get("tags"):
        answer["tags"] = config["tags"]
    if vm.lock:
        answer["lock"] = vm.lock
    if config.get("template"):
        answer["template"] = 1
    if running and (pid := pve.power.machines.pid(vm.vmid)):
        answer["pid"] = pid
    return answer


@route("GET", QEMU)
async def index(pve: Pve, call: Call) -> list[dict[str, Any]]:
    """The VMs of a host."""
    return [summary(pve, vm) for vm in pve.state.vms.values() if vm.node == call.node]


@route("GET", f"{ONE}/status/current")
async def current(pve: Pve, call: Call) -> dict[str, Any]:
    """What runs now."""
    vm = vm_of(pve, call)
    answer = summary(pve, vm)
    managed = pve.state.ha_resources.get(f"vm:{vm.vmid}")
    answer["ha"] = {"managed": 1, "state": managed["state"]} if managed else {"managed": 0}
    answer["qmpstatus"] = answer["status"]
    if agent_enabled(vm):
        answer["agent"] = 1
    return answer


@route("POST", f"{ONE}/status/start")
async def start(pve: Pve, call: Call) -> str:
    """Start the machine."""
    vm = vm_of(pve, call)
    vm.check_lock()

    async def work(_: Task) -> None:
        async with pve.power.lock(vm.vmid):
            await pve.power.start(vm)

    return await pve.tasks.start(vm.node, "qmstart", str(vm.vmid), call.user, work)


@route("POST", f"{ONE}/status/stop")
async def stop(pve: Pve, call: Call) -> str:
    """Stop it at once."""
    vm = vm_of(pve, call)

    async def work(_: Task) -> None:
        async with pve.power.lock(vm.vmid):
            await pve.power.stop(vm)

    return await pve.tasks.start(vm.node, "qmstop", str(vm.vmid), call.user, work)


@route("POST", f"{ONE}/status/shutdown")
async def shutdown(pve: Pve, call: Call) -> str:
    """Power it off from inside."""
    vm = vm_of(pve, call)
    timeout = float(call.get("timeout", _SHUTDOWN_TIMEOUT))

    async def work(_: Task) -> None:
        async with pve.power.lock(vm.vmid):
            await pve.power.shutdown(vm, timeout)

    return await pve.tasks.start(vm.node, "qmshutdown", str(vm.vmid), call.user, work)


@route("POST", f"{ONE}/status/reboot")
async def reboot(pve: Pve, call: Call) -> str:
    """Power it off from inside and start it again, which applies pending changes."""
    vm = vm_of(pve, call)
    if not pve.power.running(vm.vmid):
        raise PveError(f"VM {vm.vmid} not running")
    timeout = float(call.get("timeout", _SHUTDOWN_TIMEOUT))

    async def work(_: Task) -> None:
        async with pve.power.lock(vm.vmid):
            await pve.power.shutdown(vm, timeout)
            await pve.power.start(vm)

    return await pve.tasks.start(vm.node, "qmreboot", str(vm.vmid), call.user, work)


# -- guest agent -----------------------------------------------------------------------------------------------------

#: Agent commands passed through: method, name in the API, command of the agent.
_SIMPLE = [
    ("POST", "ping", "guest-ping"),
    ("GET", "network-get-interfaces", "guest-network-get-interfaces"),
    ("GET", "get-osinfo", "guest-get-osinfo"),
    ("GET", "get-host-name", "guest-get-host-name"),
    ("GET", "get-time", "guest-get-time"),
    ("GET", "get-fsinfo", "guest-get-fsinfo"),
    ("GET", "info", "guest-info"),
]


def _pass_through(method: str, name: str, command: str) -> None:
    @route(method, f"{ONE}/agent/{name}")
    async def handler(pve: Pve, call: Call) -> dict[str, Any]:
        return {"result": await pve.power.ask_agent(vm_of(pve, call), command)}

    handler.__doc__ = f"``{command}`` of the guest agent."


for _method, _name, _command in _SIMPLE:
    _pass_through(_method, _name, _command)


@route("POST", f"{ONE}/agent/exec")
async def execute(pve: Pve, call: Call) -> dict[str, Any]:
    """Start a program in the machine; its end is asked for with ``exec-status``."""
    program, *arguments = call["command"]
    wanted: dict[str, object] = {"path": program, "arg": arguments, "capture-output": True}
    if data := call.get("input-data"):
        wanted["input-data"] = base64.b64encode(str(data).encode()).decode()
    answer = await pve.power.ask_agent(vm_of(pve, call), "guest-exec", wanted)
    return {"pid": answer["pid"]}


@route("GET", f"{ONE}/agent/exec-status")
async def execution(pve: Pve, call: Call) -> dict[str, Any]:
    """How a program started with ``exec`` goes, with its output once it ended."""
    answer = await pve.power.ask_agent(vm_of(pve, call), "guest-exec-status", {"pid": call["pid"]})
    result: dict[str, Any] = {re.sub("-", "", k): v for k, v in answer.items()}
    result["exited"] = int(bool(answer.get("exited")))
    for name in ("out-data", "err-data"):
        if name in answer:
            result.pop(name.replace("-", ""), None)
            result[name] = base64.b64decode(answer[name]).decode(errors="replace")
    return result


@route("GET", f"{ONE}/agent/file-read")
async def read_file(pve: Pve, call: Call) -> dict[str, Any]:
    """A file's text, at most 16 MiB."""
    vm = vm_of(pve, call)
    handle = await pve.power.ask_agent(vm, "guest-file-open", {"path": call["file"], "mode": "rb"})
    try:
        read = await pve.power.ask_agent(vm, "guest-file-read", {"handle": handle, "count": 16 * MIB})
    finally:
        await pve.power.ask_agent(vm, "guest-file-close", {"handle": handle})
    answer: dict[str, Any] = {"content": base64.b64decode(read["buf-b64"]).decode(errors="replace")}
    return answer if read["eof"] else {**answer, "truncated": 1}
