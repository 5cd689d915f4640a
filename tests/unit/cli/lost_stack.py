"""A stack whose swarm has lost two of its three managers: what is declared now, what was recorded, what was said."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxmox_swarm.cli import recovery as module
from proxmox_swarm.cli import stack_nodes
from proxmox_swarm.cli.pulumi import Stack
from proxmox_swarm.cli.recovery import Choices
from proxmox_swarm.cli.stack_settings import read_settings
from proxmox_swarm.settings import Settings
from proxmox_swarm.swarm import lock, managers
from proxmox_swarm.swarm import recovery as steps
from proxmox_swarm.swarm import restore as restoring
from proxmox_swarm.swarm.backup_file import Manifest, write_backup
from tests.unit.swarm.lost import Disks
from tests.unit.swarm.world import Swarm, World

ROOT = Path(__file__).parents[3]
FIRST, SECOND, THIRD = MANAGERS = ("docker-app-1", "docker-app-2", "docker-app-3")
VM_ID = {FIRST: 4100, SECOND: 4101, THIRD: 4102}


class Lost:
    """A swarm of three managers, two of which are off; what is declared now, recorded, and said."""

    def __init__(self, folder: Path) -> None:
        self.settings: Settings = read_settings(ROOT, "prod")
        self.world = World([])
        for node in self.settings.nodes.values():
            self.world.add(node.name, node.address)
        self.disks = Disks(self.world)
        self.swarm: Swarm = self.world.build(MANAGERS, ["docker-infra-1"])
        for name in (FIRST, SECOND):
            self.world[name].on = False
        self.power = dict.fromkeys(VM_ID.values(), "stopped")
        self.recorded = {name: {"role": "manager", "vmId": vm_id} for name, vm_id in VM_ID.items()}
        self.keys = {name: self.world.target(name).host_key for name in self.settings.nodes}
        self.addresses = {name: self.world.target(name).address for name in self.settings.nodes}
        self.file = folder / "kept.backup"
        self.said: list[str] = []
        self.asked: list[str] = []
        self.while_asking: Callable[[], None] = lambda: None
        self.answer = self.swarm.id[:4]

    def outputs(self) -> dict[str, Any]:
        nodes = [{"name": name, "address": self.addresses[name], **node} for name, node in self.recorded.items()]
        return {"clusterId": self.swarm.id, "sshHostKeys": self.keys, "nodes": nodes}

    def declare(self, name: str, **change: Any) -> None:
        """Another declaration of a node since the last `up`; without one it is taken out."""
        nodes = dict(self.settings.nodes)
        if change:
            nodes[name] = replace(nodes[name], **change)
        else:
            del nodes[name]
        self.settings = replace(self.settings, nodes=nodes)

    def ask(self, question: str) -> str:
        self.asked.append(question)
        self.while_asking()
        return self.answer

    def recover(self, **chosen: Any) -> None:
        module.recover("prod", ROOT, self.file, Choices(**chosen), self.said.append, self.ask)

    def restore(self, **chosen: Any) -> None:
        module.restore("prod", ROOT, self.file, THIRD, Choices(**chosen), self.said.append, self.ask)

    def all_but_a_backup(self) -> None:
        """The last manager is an empty machine now, and there is a backup of what it was."""
        identity = self.world[THIRD].certificate
        assert identity is not None
        content = f"state of {THIRD}".encode()
        digest = hashlib.sha256(content).hexdigest()
        contents = {"services": 1, "networks": 1, "secrets": 1, "configs": 1, "nodes": 4}
        manifest = Manifest(
            self.swarm.id, THIRD, self.addresses[THIRD], identity[1], "29", "2026-01-01", 50, False, contents, digest
        )
        write_backup(self.file, manifest, content)
        self.world.rebuild(THIRD)

    @property
    def raft(self) -> list[str]:
        return sorted(node.hostname for node in self.swarm.nodes.values() if node.in_raft)

    @property
    def text(self) -> str:
        return "\n".join(self.said)


def lost_stack(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Lost:
    """A stack of its own, which ``recover``, ``restore`` and ``backup`` take for the one they are told."""
    lost = Lost(folder)
    monkeypatch.setattr(lock, "lock_folder", lambda: folder)
    monkeypatch.setattr(managers, "_last", {})
    monkeypatch.setattr(stack_nodes, "read_settings", lambda project, stack: lost.settings)
    monkeypatch.setattr(stack_nodes, "stack_here", lambda name, project: Stack(name, project, {}))
    monkeypatch.setattr(Stack, "outputs", lambda *_, **__: lost.outputs())
    monkeypatch.setattr(
        module,
        "power_of",
        lambda machines, *_, **__: {name: lost.power.get(vm_id, "absent") for name, vm_id in machines.items()},
    )
    here = {"access": lost.world, "files": lost.disks}
    monkeypatch.setattr(module, "survey", functools.partial(module.survey, **here))
    monkeypatch.setattr(restoring, "put", functools.partial(restoring.put, **here))
    for name in ("force", "finish"):
        monkeypatch.setattr(steps, name, functools.partial(getattr(steps, name), **here))
    monkeypatch.setattr(steps, "was_forced", functools.partial(steps.was_forced, access=lost.world))
    monkeypatch.setattr(steps, "give_up", functools.partial(steps.give_up, files=lost.disks))
    return lost
