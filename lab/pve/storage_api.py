"""Endpoints of a host's storages: what is on them, getting files onto them."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

from proxmox_swarm.lab.pve.core import Call, Download, Pve, route
from proxmox_swarm.lab.pve.errors import PveError, TaskError
from proxmox_swarm.lab.pve.tasks import Task

_NODE = "/nodes/{node}"
_STORAGE = f"{_NODE}/storage/{{storage}}"


def _status(pve: Pve, node: str, name: str) -> dict[str, Any]:
    found = pve.storages.definition(name, node)
    return {
        "type": found.type, "content": ",".join(found.content), "active": 1, "enabled": 1, "shared": 0,
        **pve.storages.usage(node, name),
    }  # fmt: skip


@route("GET", f"{_NODE}/storage")
async def index(pve: Pve, call: Call) -> list[dict[str, Any]]:
    """The storages of a host, all or those that hold ``content``."""
    wanted = {c for c in str(call.get("content", "")).split(",") if c}
    answer = []
    for found in pve.storages.on(call.node):
        if call.get("storage") in (None, found.name) and (not wanted or wanted & set(found.content)):
            line = {"storage": found.name, **_status(pve, call.node, found.name)}
            answer.append({**line, "used_fraction": line["used"] / line["total"]})
    return answer


@route("GET", f"{_STORAGE}/status")
async def status(pve: Pve, call: Call) -> dict[str, Any]:
    """How full a storage is."""
    return _status(pve, call.node, call["storage"])


@route("GET", f"{_STORAGE}/content")
async def content(pve: Pve, call: Call) -> list[dict[str, Any]]:
    """The files and images of a storage, by type or owner if asked."""
    node, name = call.node, call["storage"]
    pve.storages.definition(name, node)
    lines: list[dict[str, Any]] = [f.listing() for f in pve.storages.files(node, name)]
    lines += [
        {"volid": v.volid, "content": "images", "format": "raw", "size": v.size, "ctime": v.ctime, "vmid": v.vmid}
        for v in pve.state.volumes
        if (v.node, v.storage) == (node, name)
    ]
    wanted, owner = call.get("content"), call.get("vmid")
    return [x for x in lines if wanted in (None, x["content"]) and owner in (None, x.get("vmid"))]


def _volid(call: Call) -> str:
    volume = str(call["volume"])
    return volume if ":" in volume else f"{call['storage']}:{volume}"


@route("GET", f"{_STORAGE}/content/{{volume}}")
async def volume(pve: Pve, call: Call) -> dict[str, Any]:
    """One file or image."""
    pve.storages.definition(call["storage"], call.node)
    volid = _volid(call)
    if found := pve.state.volume(call.node, volid):
        return {"path": str(pve.storages.volume_path(found)), "format": "raw", "size": found.size, "used": found.size}
    if file := pve.storages.file(call.node, volid):
        size = file.path.stat().st_size
        return {
            "path": f"/var/lib/vz/{file.content}/{file.path.name}",
            "format": file.format,
            "size": size,
            "used": size,
        }
    raise PveError(f"volume '{volid}' does not exist")


@route("DELETE", f"{_STORAGE}/content/{{volume}}")
async def delete(pve: Pve, call: Call) -> str:
    """Remove a file or image. Removing what is not there succeeds, as with Proxmox VE's files."""
    pve.storages.definition(call["storage"], call.node)
    volid = _volid(call)

    async def work(task: Task) -> None:
        if found := pve.state.volume(call.node, volid):
            owner = pve.state.vms.get(found.vmid)
            if owner and owner.node == call.node:
                raise TaskError(f"Cannot remove image, a guest with VMID '{found.vmid}' exists!")
            pve.storages.free(found)
            pve.state.save()
        elif file := pve.storages.file(call.node, volid):
            file.path.unlink()
        else:
            raise TaskError(f"volume '{volid}' does not exist")
        task.log(f"Removed volume '{volid}'")

    return await pve.tasks.start(call.node, "imgdel", f"{volid.partition(':')[2]}@{call['storage']}", call.user, work)


@route("GET", f"{_NODE}/query-url-metadata")
async def url_metadata(pve: Pve, call: Call) -> dict[str, Any]:
    """Name and size of the file behind a URL. Only what the lab itself serves can be reached."""
    found = pve.downloads.get(call["url"])
    if found is None:
        raise PveError(f"invalid server response: '500 Can't connect to {call['url']} (Name or service not known)'")
    return {"filename": found.path.name, "mimetype": "application/octet-stream", "size": found.path.stat().st_size}


@route("POST", f"{_STORAGE}/download-url")
async def download(pve: Pve, call: Call) -> str:
    """Fetch a file onto a storage. The lab links the image it serves instead of copying it."""
    node, kind, name = call.node, call["content"], str(call["filename"])
    pve.storages.definition(call["storage"], node, kind)
    target = pve.storages.place(node, call["storage"], kind, name)

    async def work(task: Task) -> None:
        task.log(f"downloading {call['url']} to {target.name}")
        if target.exists() and not call.get("checksum"):
            raise TaskError(f"refusing to override existing file '/var/lib/vz/{kind}/{name}'")
        source = pve.downloads.get(call["url"])
        if source is None:
            raise TaskError(f"download failed: unable to resolve host address of '{call['url']}'")
        if wanted := call.get("checksum"):
            got = await _checksum(source, str(call.get("checksum-algorithm", "sha512")))
            if got != str(wanted).lower():
                raise TaskError(f"checksum mismatch: got '{got}' != expect '{wanted}'")
        if not target.exists():
            link(source.path, target)
        task.log(f"download of '{call['url']}' to '{name}' finished")

    return await pve.tasks.start(node, "download", name, call.user, work)


async def _checksum(source: Download, algorithm: str) -> str:
    if algorithm == "sha512":
        return source.sha512

    def compute() -> str:
        with source.path.open("rb") as stream:
            return hashlib.file_digest(stream, algorithm).hexdigest()

    return await asyncio.to_thread(compute)


def link(source: Path, target: Path) -> None:
    """Make ``target`` a name of the file ``source``, in one step."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(source.resolve())
    temporary.replace(target)
