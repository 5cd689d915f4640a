"""Endpoints of the cluster as a whole: version, resources, ids, permissions."""

from __future__ import annotations

from typing import Any

from proxmox_swarm.lab.pve import nodes_api
from proxmox_swarm.lab.pve.core import Call, Pve, route
from proxmox_swarm.lab.pve.errors import parameter_error
from proxmox_swarm.lab.pve.schema import RELEASE
from proxmox_swarm.lab.pve.state import HOSTS
from proxmox_swarm.lab.pve.storages import Definition
from proxmox_swarm.lab.pve.vm_power import summary

VERSION = {"version": f"{RELEASE}.1", "release": RELEASE, "repoid": "0b4a5e8c0de1ab00"}

_PRIVILEGES = (
    "Datastore.Allocate", "Datastore.AllocateSpace", "Datastore.AllocateTemplate", "Datastore.Audit",
    "Group.Allocate", "Mapping.Audit", "Mapping.Modify", "Mapping.Use", "Permissions.Modify", "Pool.Allocate",
    "Pool.Audit", "Realm.Allocate", "Realm.AllocateUser", "SDN.Allocate", "SDN.Audit", "SDN.Use", "Sys.AccessNetwork",
    "Sys.Audit", "Sys.Console", "Sys.Incoming", "Sys.Modify", "Sys.PowerMgmt", "Sys.Syslog", "User.Modify",
    "VM.Allocate", "VM.Audit", "VM.Backup", "VM.Clone", "VM.Config.CDROM", "VM.Config.CPU", "VM.Config.Cloudinit",
    "VM.Config.Disk", "VM.Config.HWType", "VM.Config.Memory", "VM.Config.Network", "VM.Config.Options", "VM.Console",
    "VM.GuestAgent.Audit", "VM.GuestAgent.FileRead", "VM.GuestAgent.FileSystemMgmt", "VM.GuestAgent.FileWrite",
    "VM.GuestAgent.Unrestricted", "VM.Migrate", "VM.PowerMgmt", "VM.Replicate", "VM.Snapshot", "VM.Snapshot.Rollback",
)  # fmt: skip


@route("GET", "/version")
async def version(pve: Pve, call: Call) -> dict[str, Any]:
    """The release."""
    return dict(VERSION)


@route("GET", "/access/permissions")
async def permissions(pve: Pve, call: Call) -> dict[str, Any]:
    """What the token may do: everything, on every path."""
    paths = (call["path"],) if call.get("path") else ("/", "/access", "/nodes", "/pool", "/sdn", "/storage", "/vms")
    return {path: dict.fromkeys(_PRIVILEGES, 1) for path in paths}


@route("GET", "/cluster/resources")
async def resources(pve: Pve, call: Call) -> list[dict[str, Any]]:
    """VMs, hosts, storages and pools, all or of one type."""
    wanted = call.get("type")
    answer: list[dict[str, Any]] = []
    if wanted in (None, "vm"):
        answer += [vm_resource(pve, vmid) for vmid in sorted(pve.state.vms)]
    if wanted in (None, "node"):
        answer += [{**host, "type": "node", "id": f"node/{host['node']}"} for host in nodes_api.hosts(pve)]
        for host in answer:
            if host["type"] == "node":
                host.pop("ssl_fingerprint", None)
    if wanted in (None, "storage"):
        answer += [_storage(pve, node, found) for node in nodes_api.members(pve) for found in pve.storages.on(node)]
    if wanted is None:
        answer += [{"id": f"/pool/{name}", "type": "pool", "pool": name} for name in pve.state.pools]
    return answer


def _storage(pve: Pve, node: str, found: Definition) -> dict[str, Any]:
    line = {
        "id": f"storage/{node}/{found.name}", "type": "storage", "storage": found.name, "node": node, "status": "unknown",
        "plugintype": found.type, "content": ",".join(found.content), "shared": 0,
    }  # fmt: skip
    if not pve.faults.is_off(node):
        usage = pve.storages.usage(node, found.name)
        line |= {"status": "available", "maxdisk": usage["total"], "disk": usage["used"]}
    return line


def vm_resource(pve: Pve, vmid: int) -> dict[str, Any]:
    """The line of a VM in the list of resources.

    What a host without power last said of its machines is forgotten after minutes, their names too; id, host and tags are
    in the cluster's own configuration and stay (PVE::API2Tools, PVE::API2::Cluster).
    """
    vm = pve.state.vms[vmid]
    if pve.faults.is_off(vm.node):
        line: dict[str, Any] = {"vmid": vmid, "status": "unknown"}
        line |= {key: vm.config[key] for key in ("lock", "tags") if key in vm.config}
    else:
        line = summary(pve, vm)
        line["maxcpu"] = line.pop("cpus")
        line["template"] = line.get("template", 0)
        line.pop("pid", None)
    line |= {"id": f"qemu/{vmid}", "type": "qemu", "node": vm.node}
    if pool := pve.state.pool_of(vmid):
        line["pool"] = pool
    if managed := pve.state.ha_resources.get(f"vm:{vmid}"):
        line["hastate"] = managed["state"]
    return line


@route("GET", "/cluster/status")
async def status(pve: Pve, call: Call) -> list[dict[str, Any]]:
    """The cluster and its hosts."""
    members = nodes_api.members(pve)
    online = {node: int(not pve.faults.is_off(node)) for node in members}
    quorate = int(sum(online.values()) * 2 > len(members))
    cluster = {
        "id": "cluster", "name": "lab", "type": "cluster", "nodes": len(members), "quorate": quorate, "version": len(HOSTS)
    }  # fmt: skip
    nodes = [
        {
            "id": f"node/{node}", "name": node, "type": "node", "nodeid": number, "ip": pve.addresses[node],
            "online": online[node], "local": int(node == call.host), "level": "",
        }
        for number, node in enumerate(HOSTS, 1)
        if node in members
    ]  # fmt: skip
    return [cluster, *nodes]


@route("GET", "/cluster/nextid")
async def next_id(pve: Pve, call: Call) -> int:
    """The lowest free VM id, or the one asked for if it is free."""
    if wanted := call.get("vmid"):
        if wanted in pve.state.vms:
            raise parameter_error({"vmid": f"VM {wanted} already exists"})
        return int(wanted)
    return next(n for n in range(100, 10**9) if n not in pve.state.vms)


@route("GET", "/cluster/tasks")
async def tasks(pve: Pve, call: Call) -> list[dict[str, Any]]:
    """Recent tasks of all hosts."""
    return [task.summary() for task in pve.tasks.list()[:25]]
