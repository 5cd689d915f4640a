"""Endpoints of the cluster as a whole: version, resources, ids, HA, pools, permissions."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from proxmox_swarm.lab.pve import nodes_api
from proxmox_swarm.lab.pve.core import Call, Pve, route
from proxmox_swarm.lab.pve.errors import PveError, parameter_error
from proxmox_swarm.lab.pve.schema import RELEASE
from proxmox_swarm.lab.pve.state import HOSTS
from proxmox_swarm.lab.pve.storages import DEFINITIONS
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
        answer += [_vm_resource(pve, vmid) for vmid in sorted(pve.state.vms)]
    if wanted in (None, "node"):
        answer += [{**host, "type": "node", "id": f"node/{host['node']}"} for host in nodes_api.hosts(pve)]
        for host in answer:
            if host["type"] == "node":
                host.pop("ssl_fingerprint", None)
    if wanted in (None, "storage"):
        answer += [
            {
                "id": f"storage/{node}/{d.name}", "type": "storage", "storage": d.name, "node": node, "status": "available",
                "plugintype": d.type, "content": ",".join(d.content), "shared": 0,
                "maxdisk": (usage := pve.storages.usage(node, d.name))["total"], "disk": usage["used"],
            }
            for node in HOSTS
            for d in pve.storages.on(node)
        ]  # fmt: skip
    if wanted is None:
        answer += [{"id": f"/pool/{name}", "type": "pool", "pool": name} for name in pve.state.pools]
    return answer


def _vm_resource(pve: Pve, vmid: int) -> dict[str, Any]:
    vm = pve.state.vms[vmid]
    line = summary(pve, vm)
    line["maxcpu"] = line.pop("cpus")
    line.pop("pid", None)
    line |= {"id": f"qemu/{vmid}", "type": "qemu", "node": vm.node, "template": line.get("template", 0)}
    if pool := pve.state.pool_of(vmid):
        line["pool"] = pool
    if managed := pve.state.ha_resources.get(f"vm:{vmid}"):
        line["hastate"] = managed["state"]
    return line


@route("GET", "/cluster/status")
async def status(pve: Pve, call: Call) -> list[dict[str, Any]]:
    """The cluster and its hosts."""
    online = {node: int(not pve.faults.is_down(node)) for node in HOSTS}
    quorate = int(sum(online.values()) * 2 > len(HOSTS))
    cluster = {
        "id": "cluster", "name": "lab", "type": "cluster", "nodes": len(HOSTS), "quorate": quorate, "version": len(HOSTS)
    }  # fmt: skip
    nodes = [
        {
            "id": f"node/{node}", "name": node, "type": "node", "nodeid": number, "ip": pve.addresses[node],
            "online": online[node], "local": int(node == call.host), "level": "",
        }
        for number, node in enumerate(HOSTS, 1)
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


# -- pools -----------------------------------------------------------------------------------------------------------


@route("GET", "/pools")
async def pools(pve: Pve, call: Call) -> list[dict[str, Any]]:
    """All pools, or one with its members."""
    wanted = call.get("poolid")
    if wanted is None:
        return [_pool(name, pool) for name, pool in sorted(pve.state.pools.items())]
    if wanted not in pve.state.pools:
        raise PveError(f"pool '{wanted}' does not exist")
    pool = pve.state.pools[wanted]
    members: list[dict[str, Any]] = [
        {**_vm_resource(pve, vmid), "pool": wanted} for vmid in pool["vms"] if vmid in pve.state.vms
    ]
    for name in pool["storage"]:
        members += [
            {"id": f"storage/{node}/{name}", "type": "storage", "storage": name, "node": node}
            for node in DEFINITIONS[name].nodes
        ]
    return [{**_pool(wanted, pool), "members": members}]


def _pool(name: str, pool: dict[str, Any]) -> dict[str, Any]:
    return {"poolid": name, **({"comment": pool["comment"]} if pool.get("comment") else {})}


@route("POST", "/pools")
async def create_pool(pve: Pve, call: Call) -> None:
    """Make a pool."""
    if call["poolid"] in pve.state.pools:
        raise PveError(f"create pool failed: pool '{call['poolid']}' already exists")
    pve.state.pools[call["poolid"]] = {"comment": call.get("comment", ""), "vms": [], "storage": []}
    pve.state.save()


@route("PUT", "/pools")
async def update_pool(pve: Pve, call: Call) -> None:
    """Change a pool's comment, add members, or with ``delete`` remove them."""
    name = call["poolid"]
    if name not in pve.state.pools:
        raise PveError(f"update pool failed: pool '{name}' does not exist")
    pool = pve.state.pools[name]
    if "comment" in call.parameters:
        pool["comment"] = call["comment"]
    for vmid in map(int, _split(call.get("vms"))):
        if call.get("delete"):
            if vmid not in pool["vms"]:
                raise PveError(f"update pool failed: VM {vmid} is not a pool member")
            pool["vms"].remove(vmid)
            continue
        current = pve.state.pool_of(vmid)
        if current and current != name and not call.get("allow-move"):
            raise PveError(
                f"update pool failed: VM {vmid} belongs already to pool '{current}' and 'allow-move' is not set"
            )
        if current:
            pve.state.pools[current]["vms"].remove(vmid)
        pool["vms"].append(vmid)
    for storage in _split(call.get("storage")):
        pve.storages.definition(storage)
        if call.get("delete"):
            pool["storage"] = [s for s in pool["storage"] if s != storage]
        elif storage not in pool["storage"]:
            pool["storage"].append(storage)
    pve.state.save()


@route("DELETE", "/pools")
async def delete_pool(pve: Pve, call: Call) -> None:
    """Remove an empty pool."""
    pool = pve.state.pools.get(call["poolid"])
    if pool is None:
        raise PveError(f"delete pool failed: pool '{call['poolid']}' does not exist")
    if pool["vms"] or pool["storage"]:
        raise PveError(f"delete pool failed: pool '{call['poolid']}' is not empty")
    del pve.state.pools[call["poolid"]]
    pve.state.save()


def _split(text: str | None) -> list[str]:
    return [part for part in re.split(r"[,;\s]+", text or "") if part]


# -- high availability -----------------------------------------------------------------------------------------------

_HA = "/cluster/ha"


def _sid(text: str) -> str:
    return text if ":" in text else f"vm:{text}"


def _digest(entries: dict[str, dict[str, Any]]) -> str:
    return hashlib.sha1(repr(sorted(entries.items())).encode(), usedforsecurity=False).hexdigest()


@route("GET", f"{_HA}/resources")
async def ha_resources(pve: Pve, call: Call) -> list[dict[str, Any]]:
    """All resources under HA."""
    wanted = call.get("type")
    return [dict(r) for r in pve.state.ha_resources.values() if wanted in (None, r["type"])]


@route("POST", f"{_HA}/resources")
async def create_ha_resource(pve: Pve, call: Call) -> None:
    """Put a VM under HA."""
    sid = _sid(call["sid"])
    if sid in pve.state.ha_resources:
        raise PveError(f"create ha resource failed: resource ID '{sid}' already defined")
    if int(sid.partition(":")[2]) not in pve.state.vms:
        raise PveError(f"create ha resource failed: unable to find '{sid}'")
    options = {k: v for k, v in call.parameters.items() if k in _RESOURCE_OPTIONS}
    pve.state.ha_resources[sid] = {"state": "started", **options, "sid": sid, "type": sid.partition(":")[0]}
    pve.state.save()


_RESOURCE_OPTIONS = {"state", "comment", "max_restart", "max_relocate", "failback", "group", "auto-rebalance"}


@route("GET", f"{_HA}/resources/{{sid}}")
async def ha_resource(pve: Pve, call: Call) -> dict[str, Any]:
    """One resource."""
    return {**_ha_resource(pve, call), "digest": _digest(pve.state.ha_resources)}


def _ha_resource(pve: Pve, call: Call) -> dict[str, Any]:
    sid = _sid(call["sid"])
    if sid not in pve.state.ha_resources:
        raise PveError(f"no such resource '{sid}'")
    return pve.state.ha_resources[sid]


@route("PUT", f"{_HA}/resources/{{sid}}")
async def update_ha_resource(pve: Pve, call: Call) -> None:
    """Change a resource."""
    entry = _ha_resource(pve, call)
    for key in _split(call.get("delete")):
        entry.pop(key, None)
    entry |= {k: v for k, v in call.parameters.items() if k in _RESOURCE_OPTIONS}
    pve.state.save()


@route("DELETE", f"{_HA}/resources/{{sid}}")
async def delete_ha_resource(pve: Pve, call: Call) -> None:
    """Take a VM out of HA."""
    del pve.state.ha_resources[_ha_resource(pve, call)["sid"]]
    pve.state.save()


_RULE_OPTIONS = {"type", "resources", "nodes", "strict", "affinity", "comment", "disable"}


@route("GET", f"{_HA}/rules")
async def ha_rules(pve: Pve, call: Call) -> list[dict[str, Any]]:
    """All rules."""
    wanted = call.get("type")
    return [dict(r) for r in pve.state.ha_rules.values() if wanted in (None, r["type"])]


@route("POST", f"{_HA}/rules")
async def create_ha_rule(pve: Pve, call: Call) -> None:
    """Make a rule."""
    name = call["rule"]
    if name in pve.state.ha_rules:
        raise PveError(f"create ha rule failed: HA rule '{name}' already defined")
    pve.state.ha_rules[name] = {"rule": name, **{k: v for k, v in call.parameters.items() if k in _RULE_OPTIONS}}
    pve.state.save()


def _ha_rule(pve: Pve, call: Call) -> dict[str, Any]:
    if call["rule"] not in pve.state.ha_rules:
        raise PveError(f"no such ha rule '{call['rule']}'")
    return pve.state.ha_rules[call["rule"]]


@route("GET", f"{_HA}/rules/{{rule}}")
async def ha_rule(pve: Pve, call: Call) -> dict[str, Any]:
    """One rule."""
    return {**_ha_rule(pve, call), "digest": _digest(pve.state.ha_rules)}


@route("PUT", f"{_HA}/rules/{{rule}}")
async def update_ha_rule(pve: Pve, call: Call) -> None:
    """Change a rule."""
    entry = _ha_rule(pve, call)
    for key in _split(call.get("delete")):
        entry.pop(key, None)
    entry |= {k: v for k, v in call.parameters.items() if k in _RULE_OPTIONS}
    pve.state.save()


@route("DELETE", f"{_HA}/rules/{{rule}}")
async def delete_ha_rule(pve: Pve, call: Call) -> None:
    """Remove a rule."""
    del pve.state.ha_rules[_ha_rule(pve, call)["rule"]]
    pve.state.save()
