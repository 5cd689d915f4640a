"""What the emulated cluster knows: machines, volumes, pools, HA. In memory, written to one JSON file after each change."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from proxmox_swarm.lab.pve.errors import PveError

Value = str | int
#: The three hosts. Any of them answers for all, as in a Proxmox VE cluster.
HOSTS = ("pve01", "pve02", "pve03")


@dataclass
class Vm:
    """One virtual machine: its configuration and the changes waiting for the next power cycle (``None`` = to be deleted)."""

    vmid: int
    node: str
    config: dict[str, Value] = field(default_factory=dict)
    pending: dict[str, Value | None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The VM's name; Proxmox VE shows ``VM <id>`` where none is set."""
        return str(self.config.get("name", f"VM {self.vmid}"))

    @property
    def lock(self) -> str | None:
        """The lock in the configuration, such as ``create``."""
        return str(self.config["lock"]) if "lock" in self.config else None

    def check_lock(self) -> None:
        """Refuse what must not run while the VM is locked."""
        if self.lock:
            raise PveError(f"VM is locked ({self.lock})")

    def wanted(self) -> dict[str, Value]:
        """The configuration as it will be after the pending changes."""
        merged: dict[str, Value] = {k: v for k, v in self.config.items() if self.pending.get(k, "") is not None}
        merged.update({k: v for k, v in self.pending.items() if v is not None})
        return merged

    def apply_pending(self) -> list[Value]:
        """What a power cycle does; returns the values that were replaced or dropped."""
        gone = [self.config[key] for key in self.pending if key in self.config]
        self.config = self.wanted()
        self.pending = {}
        return gone

    def digest(self) -> str:
        """SHA-1 of the configuration, as clients use it against lost updates."""
        text = json.dumps([self.config, self.pending], sort_keys=True)
        return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@dataclass
class Volume:
    """A disk image on a host's storage. ``image`` is the file a boot volume was imported from."""

    node: str
    storage: str
    name: str
    vmid: int
    size: int
    ctime: int
    image: str | None = None

    @property
    def volid(self) -> str:
        """``storage:name``."""
        return f"{self.storage}:{self.name}"


@dataclass
class State:
    """Everything that outlives the process."""

    path: Path | None = None
    vms: dict[int, Vm] = field(default_factory=dict)
    volumes: list[Volume] = field(default_factory=list)
    pools: dict[str, dict[str, Any]] = field(default_factory=dict)
    ha_resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    ha_rules: dict[str, dict[str, Any]] = field(default_factory=dict)
    dns: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> State:
        """Read the file, or start empty when there is none."""
        state = cls(path)
        if not path.exists():
            return state
        raw = json.loads(path.read_text())
        state.vms = {int(v["vmid"]): Vm(**v) for v in raw["vms"]}
        state.volumes = [Volume(**v) for v in raw["volumes"]]
        for name in ("pools", "ha_resources", "ha_rules", "dns"):
            setattr(state, name, raw[name])
        return state

    def save(self) -> None:
        """Write the file in one step, so that a kill leaves the old or the new one."""
        if self.path is None:
            return
        raw = {
            "vms": [asdict(v) for v in self.vms.values()],
            "volumes": [asdict(v) for v in self.volumes],
            "pools": self.pools,
            "ha_resources": self.ha_resources,
            "ha_rules": self.ha_rules,
            "dns": self.dns,
        }
        temporary = self.path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            json.dump(raw, stream)
        temporary.replace(self.path)

    def vm(self, node: str, vmid: int) -> Vm:
        """The VM on that host. Raises the answer Proxmox VE gives where there is none."""
        vm = self.vms.get(vmid)
        if vm is None or vm.node != node:
            raise PveError(f"Configuration file 'nodes/{node}/qemu-server/{vmid}.conf' does not exist")
        return vm

    def volume(self, node: str, volid: str) -> Volume | None:
        """The volume of that id on that host."""
        return next((v for v in self.volumes if v.node == node and v.volid == volid), None)

    def pool_of(self, vmid: int) -> str | None:
        """The pool the VM is in."""
        return next((name for name, pool in self.pools.items() if vmid in pool["vms"]), None)
