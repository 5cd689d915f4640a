"""Endpoints that make VMs, read and change their configuration, and destroy them."""

from __future__ import annotations

import re
import secrets
import time
import uuid
from typing import Any

from proxmox_swarm.lab.pve import disks
from proxmox_swarm.lab.pve.core import Call, Pve, route, split_list, vm_of
from proxmox_swarm.lab.pve.errors import PveError, TaskError, parameter_error
from proxmox_swarm.lab.pve.properties import Drive, NetDevice, is_drive, parse_size
from proxmox_swarm.lab.pve.state import Value, Vm, Volume
from proxmox_swarm.lab.pve.tasks import Task

QEMU = "/nodes/{node}/qemu"
ONE = f"{QEMU}/{{vmid}}"

#: Parameters of a request that are not part of the configuration.
_NOT_CONFIG = {
    "node", "vmid", "pool", "start", "force", "unique", "storage", "archive", "bwlimit", "live-restore", "skiplock",
    "digest", "delete", "revert", "background_delay", "import-working-storage", "ha-managed",
}  # fmt: skip
#: What takes effect on a running VM at once; everything else waits for a power cycle (PVE::QemuServer, hot plug).
_HOT = {
    "name", "tags", "description", "onboot", "startup", "protection", "hotplug", "hookscript", "lock", "shares",
    "nameserver", "searchdomain", "ciuser", "cipassword", "citype", "ciupgrade", "cicustom", "sshkeys",
}  # fmt: skip


def _is_hot(key: str) -> bool:
    return key in _HOT or re.match(r"(?:ipconfig|unused)\d+\Z", key) is not None


def _new_mac() -> str:
    return "BC:24:11:" + ":".join(f"{b:02X}" for b in secrets.token_bytes(3))


def _stored(key: str, value: Value) -> Value:
    """A simple option as Proxmox VE stores it."""
    if re.match(r"net\d+\Z", key):
        return NetDevice.parse(str(value), _new_mac()).print()
    if key == "tags":
        return ";".join(sorted({t.lower() for t in re.split(r"[;,\s]+", str(value)) if t}))
    return value


@route("POST", QEMU)
async def create(pve: Pve, call: Call) -> str:
    """Make a VM: its configuration at once, locked, then its disks in a task."""
    vmid, node = call.vmid, call.node
    pve.tasks.admit(node, "qmcreate", vmid)
    if "archive" in call.parameters:
        raise PveError("the lab does not restore backups", 501)
    for key, value in call.parameters.items():
        if is_drive(key):
            disks.check_storage(pve.storages, node, str(value))
    pool = call.get("pool")
    if pool and pool not in pve.state.pools:
        raise PveError(f"no such pool '{pool}'")
    if vmid in pve.state.vms:
        owner = pve.state.vms[vmid].node
        raise PveError(f"unable to create VM {vmid} - VM {vmid} already exists on node '{owner}'")
    vm = Vm(vmid, node, {"lock": "create"})
    pve.state.vms[vmid] = vm
    pve.state.save()

    async def work(task: Task) -> None:
        made: list[Volume] = []
        try:
            async with pve.power.lock(vmid):
                vm.config.update(_fresh(call, vm, pve, made, task))
                if pool:
                    pve.state.pools[pool]["vms"].append(vmid)
        except (PveError, OSError) as error:
            _undo(pve, vm, made)
            raise TaskError(f"unable to create VM {vmid} - {error}") from error
        except BaseException:
            _undo(pve, vm, made)
            raise
        del vm.config["lock"]
        pve.state.save()
        pve.power.changed()
        if call.get("start"):
            await pve.power.start(vm)

    return await pve.tasks.start(node, "qmcreate", str(vmid), call.user, work)


def _fresh(call: Call, vm: Vm, pve: Pve, made: list[Volume], task: Task) -> dict[str, Value]:
    config: dict[str, Value] = {}
    for key, value in sorted(call.parameters.items()):
        if key in _NOT_CONFIG:
            continue
        if is_drive(key):
            config[key] = disks.realise(pve.storages, vm, str(value), made)
            task.log(f"{key}: successfully created disk '{config[key]}'")
        else:
            config[key] = _stored(key, value)
    config.setdefault("smbios1", f"uuid={uuid.uuid4()}")
    config.setdefault("vmgenid", str(uuid.uuid4()))
    config["meta"] = f"creation-qemu=10.1.2,ctime={int(time.time())}"
    return config


def _undo(pve: Pve, vm: Vm, made: list[Volume]) -> None:
    for volume in made:
        pve.storages.free(volume)
    pve.state.vms.pop(vm.vmid, None)
    pve.state.save()


@route("GET", f"{ONE}/config")
async def config(pve: Pve, call: Call) -> dict[str, Value]:
    """The configuration as it will be after the next power cycle; with ``current`` as it is now."""
    vm = vm_of(pve, call)
    answer = dict(vm.config) if call.get("current") else vm.wanted()
    if "cipassword" in answer:
        answer["cipassword"] = "*" * 10
    return {**answer, "digest": vm.digest()}


@route("GET", f"{ONE}/pending")
async def pending(pve: Pve, call: Call) -> list[dict[str, Any]]:
    """Each option with its value now and, where a change waits, the value to be."""
    vm = vm_of(pve, call)
    answer = []
    for key in sorted({*vm.config, *vm.pending}):
        entry: dict[str, Any] = {"key": key}
        if key in vm.config:
            entry["value"] = str(vm.config[key])
        if key in vm.pending:
            waiting = vm.pending[key]
            entry |= {"delete": 1} if waiting is None else {"pending": str(waiting)}
        answer.append(entry)
    return answer


@route("PUT", f"{ONE}/config")
async def update(pve: Pve, call: Call) -> None:
    """Change the configuration at once."""
    await _update(pve, call)


@route("POST", f"{ONE}/config")
async def update_in_task(pve: Pve, call: Call) -> str:
    """Change the configuration in a task."""
    vm_of(pve, call)

    async def work(_: Task) -> None:
        await _update(pve, call)

    return await pve.tasks.start(call.node, "qmconfig", str(call.vmid), call.user, work)


async def _update(pve: Pve, call: Call) -> None:
    vm = vm_of(pve, call)
    pve.tasks.admit(vm.node, "qmconfig", vm.vmid)
    async with pve.power.lock(vm.vmid):
        vm.check_lock()
        if call.get("digest") not in (None, vm.digest()):
            raise PveError("detected modified configuration - file changed by other user? Try again.")
        for key in split_list(call.get("revert")):
            vm.pending.pop(key, None)
        for key in split_list(call.get("delete")):
            if key in call.parameters:
                raise parameter_error({key: f"you can't use '-{key}' and '-delete {key}' at the same time"})
            _delete(pve, vm, key)
        made: list[Volume] = []
        for key, value in sorted(call.parameters.items()):
            if key not in _NOT_CONFIG:
                _set(pve, vm, key, value, made)
        pve.state.save()
    pve.power.changed()


def _delete(pve: Pve, vm: Vm, key: str) -> None:
    vm.pending.pop(key, None)
    if key not in vm.config:
        return
    if vm.config.get("protection") and is_drive(key):
        raise PveError(f"can't remove unused disk '{key}' - protection mode enabled")
    if key.startswith("unused"):
        volume = pve.state.volume(vm.node, str(vm.config.pop(key)).partition(",")[0])
        if volume and volume.vmid == vm.vmid:
            pve.storages.free(volume)
    elif pve.power.running(vm.vmid) and not _is_hot(key):
        vm.pending[key] = None
    else:
        text = str(vm.config.pop(key))
        if is_drive(key):
            disks.forget(pve.storages, vm, text)


def _set(pve: Pve, vm: Vm, key: str, value: Value, made: list[Volume]) -> None:
    old = vm.config.get(key)
    if is_drive(key):
        disks.check_storage(pve.storages, vm.node, str(value))
        new: Value = disks.realise(pve.storages, vm, str(value), made)
    else:
        new = _stored(key, value)
    vm.pending.pop(key, None)
    if new == old:
        return
    if (
        pve.power.running(vm.vmid)
        and not _is_hot(key)
        and not (is_drive(key) and old and _same_device(str(old), str(new)))
    ):
        vm.pending[key] = new
        return
    vm.config[key] = new
    if is_drive(key) and old is not None and Drive.parse(str(old)).file != Drive.parse(str(new)).file:
        disks.forget(pve.storages, vm, str(old))


def _same_device(old: str, new: str) -> bool:
    """Whether only limits and the like differ, which a running VM takes over at once."""
    a, b = Drive.parse(old), Drive.parse(new)
    return a.file == b.file and all(a.options.get(k) == b.options.get(k) for k in ("serial", "iothread", "aio", "ssd"))


@route("PUT", f"{ONE}/resize")
async def resize(pve: Pve, call: Call) -> str:
    """Grow a disk, in a task."""
    vm = vm_of(pve, call)
    vm.check_lock()
    text = str(call["size"])

    async def work(_: Task) -> None:
        async with pve.power.lock(vm.vmid):
            size, live = parse_size(text.removeprefix("+")), pve.power.running(vm.vmid)
            disks.resize(pve.storages, vm, str(call["disk"]), size, text.startswith("+"), live)
            pve.state.save()

    return await pve.tasks.start(vm.node, "resize", str(vm.vmid), call.user, work)


@route("PUT", f"{ONE}/cloudinit")
async def regenerate_cloudinit(pve: Pve, call: Call) -> None:
    """Write the cloud-init drive anew. The lab makes the seed at each start, so there is nothing left to do."""
    vm_of(pve, call).check_lock()


@route("DELETE", ONE)
async def destroy(pve: Pve, call: Call) -> str:
    """Destroy a VM and the volumes it owns: those named ``vm-<id>-…``. A disk of another VM is left alone."""
    vm = vm_of(pve, call)
    vm.check_lock()
    sid = f"vm:{vm.vmid}"
    if vm.config.get("protection"):
        raise PveError(f"can't remove VM {vm.vmid} - protection mode enabled")
    if sid in pve.state.ha_resources and not call.get("purge"):
        raise PveError(f"unable to remove VM {vm.vmid} - used in HA resources and purge parameter not set.")
    if pve.power.running(vm.vmid):
        raise PveError(f"VM {vm.vmid} is running - destroy failed")

    async def work(task: Task) -> None:
        async with pve.power.lock(vm.vmid):
            if pve.power.running(vm.vmid):
                raise TaskError(f"VM {vm.vmid} is running - destroy failed")
            for volume in _owned(pve, vm, bool(call.get("destroy-unreferenced-disks"))):
                pve.storages.free(volume)
                task.log(f'Logical volume "{volume.name}" successfully removed.')
            if call.get("purge"):
                task.log(f"purging VM {vm.vmid} from related configurations..")
                _purge(pve, vm.vmid)
            for pool in pve.state.pools.values():
                pool["vms"] = [v for v in pool["vms"] if v != vm.vmid]
            pve.state.vms.pop(vm.vmid, None)
            pve.state.save()
        pve.power.changed()

    return await pve.tasks.start(vm.node, "qmdestroy", str(vm.vmid), call.user, work)


def _owned(pve: Pve, vm: Vm, unreferenced: bool) -> list[Volume]:
    own = pve.storages.of_vm(vm.node, vm.vmid)
    if unreferenced:
        return own
    referred = {Drive.parse(str(v)).file for k, v in vm.wanted().items() if is_drive(k) or k.startswith("unused")}
    return [volume for volume in own if volume.volid in referred]


def _purge(pve: Pve, vmid: int) -> None:
    sid = f"vm:{vmid}"
    pve.state.ha_resources.pop(sid, None)
    for name, rule in list(pve.state.ha_rules.items()):
        left = [r for r in rule["resources"].split(",") if r != sid]
        if left:
            rule["resources"] = ",".join(left)
        else:
            del pve.state.ha_rules[name]
