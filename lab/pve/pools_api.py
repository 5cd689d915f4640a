"""Endpoints of resource pools."""

from __future__ import annotations

from typing import Any

from proxmox_swarm.lab.pve.cluster_api import vm_resource
from proxmox_swarm.lab.pve.core import Call, Pve, route, split_list
from proxmox_swarm.lab.pve.errors import PveError
from proxmox_swarm.lab.pve.storages import DEFINITIONS


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
        {**vm_resource(pve, vmid), "pool": wanted} for vmid in pool["vms"] if vmid in pve.state.vms
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
    for vmid in map(int, split_list(call.get("vms"))):
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
    for storage in split_list(call.get("storage")):
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
