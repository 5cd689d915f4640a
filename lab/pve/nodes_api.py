"""Endpoints of one host: status, network, DNS, tasks."""

from __future__ import annotations

import os
import platform
import time
from typing import Any

from proxmox_swarm.lab.pve.core import Call, Pve, route
from proxmox_swarm.lab.pve.properties import KIB
from proxmox_swarm.lab.pve.state import HOSTS
from proxmox_swarm.lab.pve.storages import DEFINITIONS

_NODE = "/nodes/{node}"
_BOOTED = time.monotonic()


def _memory() -> dict[str, int]:
    values = {}
    with open("/proc/meminfo") as stream:  # noqa: PTH123 - not a file on a disk
        for line in stream:
            name, _, rest = line.partition(":")
            values[name] = int(rest.split()[0]) * KIB
    total, available = values["MemTotal"], values["MemAvailable"]
    return {"total": total, "free": values["MemFree"], "available": available, "used": total - available}


def members(pve: Pve) -> list[str]:
    """The hosts that the Proxmox VE cluster counts as its own, with or without power."""
    return [host for host in HOSTS if not pve.faults.is_lost(host)]


def hosts(pve: Pve) -> list[dict[str, Any]]:
    """One line a host, as lists show it. A dead API alone is not seen here: hosts hear of each other by corosync."""
    memory = _memory()
    answer: list[dict[str, Any]] = []
    for node in members(pve):
        line: dict[str, Any] = {"node": node, "status": "offline" if pve.faults.is_off(node) else "online", "level": ""}
        if line["status"] == "online":
            line |= {
                "cpu": 0.0, "maxcpu": os.cpu_count() or 1, "mem": memory["used"], "maxmem": memory["total"],
                "uptime": int(time.monotonic() - _BOOTED),
            }  # fmt: skip
        answer.append(line)
    return answer


@route("GET", "/nodes")
async def index(pve: Pve, call: Call) -> list[dict[str, Any]]:
    """The hosts."""
    return [{**line, "id": f"node/{line['node']}", "type": "node"} for line in hosts(pve)]


@route("GET", f"{_NODE}/status")
async def status(pve: Pve, call: Call) -> dict[str, Any]:
    """A host's load, memory and software."""
    system, cpus = platform.uname(), os.cpu_count() or 1
    usage = pve.storages.usage(call.node, "local")
    return {
        "cpu": 0.0,
        "cpuinfo": {"cores": cpus, "cpus": cpus, "sockets": 1, "model": "lab"},
        "memory": _memory(),
        "rootfs": {"total": usage["total"], "used": usage["used"], "avail": usage["avail"], "free": usage["avail"]},
        "loadavg": [f"{load:.2f}" for load in os.getloadavg()],
        "uptime": int(time.monotonic() - _BOOTED),
        "boot-info": {"mode": "efi", "secureboot": 0},
        "current-kernel": {
            "sysname": system.system, "release": system.release, "version": system.version, "machine": system.machine
        },
        "pveversion": "pve-manager/9.2.1/0b4a5e8c0de1ab00",
    }  # fmt: skip


@route("GET", f"{_NODE}/version")
async def version(pve: Pve, call: Call) -> dict[str, Any]:
    """The release on a host."""
    from proxmox_swarm.lab.pve.cluster_api import VERSION

    return dict(VERSION)


@route("GET", f"{_NODE}/network")
async def network(pve: Pve, call: Call) -> list[dict[str, Any]]:
    """The VLAN-aware bridge that every VM is on, with the host's own address."""
    address = pve.addresses[call.node]
    return [
        {
            "iface": "vmbr0", "type": "bridge", "method": "static", "method6": "manual", "families": ["inet"], "active": 1,
            "autostart": 1, "address": address, "netmask": "24", "cidr": f"{address}/24", "gateway": "192.168.2.1",
            "bridge_ports": "eno1", "bridge_vlan_aware": 1, "bridge_vids": "2-4094", "bridge_stp": "off", "bridge_fd": "0",
            "priority": 3,
        }
    ]  # fmt: skip


@route("GET", f"{_NODE}/dns")
async def dns(pve: Pve, call: Call) -> dict[str, str]:
    """The host's name servers and search domain."""
    return dict(pve.state.dns.get(call.node, {}))


@route("PUT", f"{_NODE}/dns")
async def set_dns(pve: Pve, call: Call) -> None:
    """Change them."""
    pve.state.dns[call.node] = {k: call[k] for k in ("search", "dns1", "dns2", "dns3") if k in call.parameters}
    pve.state.save()


# -- tasks -----------------------------------------------------------------------------------------------------------


@route("GET", f"{_NODE}/tasks")
async def tasks(pve: Pve, call: Call) -> list[dict[str, Any]]:
    """A host's tasks, newest first, as the filters say."""
    source, start, limit = call.get("source", "archive"), call.get("start", 0), call.get("limit", 50)
    found = [
        task
        for task in pve.tasks.list(call.node)
        if (source == "all" or (task.ended is None) == (source == "active"))
        and call.get("vmid") in (None, int(task.id) if task.id.isdigit() else None)
        and call.get("typefilter") in (None, task.type)
        and not (call.get("errors") and task.exit_status == "OK")
    ]
    return [task.summary() for task in found[start : start + limit]]


@route("GET", f"{_NODE}/tasks/{{upid}}/status")
async def task_status(pve: Pve, call: Call) -> dict[str, Any]:
    """Whether a task runs, and how it ended."""
    return (await pve.tasks.settled(call["upid"])).status()


@route("GET", f"{_NODE}/tasks/{{upid}}/log")
async def task_log(pve: Pve, call: Call) -> list[dict[str, Any]]:
    """A task's output, line by line."""
    start, limit = call.get("start", 0), call.get("limit", 50)
    lines = list(enumerate(pve.tasks.get(call["upid"]).lines, 1))
    return [{"n": n, "t": text} for n, text in (lines[start : start + limit] if limit else lines[start:])]


@route("DELETE", f"{_NODE}/tasks/{{upid}}")
async def stop_task(pve: Pve, call: Call) -> None:
    """Interrupt a task."""
    pve.tasks.stop(call["upid"])


# -- storages --------------------------------------------------------------------------------------------------------


@route("GET", "/storage")
async def storages(pve: Pve, call: Call) -> list[dict[str, Any]]:
    """The storages' definitions."""
    return [d.config() for d in DEFINITIONS.values() if call.get("type") in (None, d.type)]


@route("GET", "/storage/{storage}")
async def storage(pve: Pve, call: Call) -> dict[str, Any]:
    """One definition."""
    return pve.storages.definition(call["storage"]).config()
