"""A stack whose swarm has lost two of its three managers: what is declared now, what was recorded, what was said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from proxmox_swarm.cli import recovery as module
from proxmox_swarm.cli.recovery import Choices
from proxmox_swarm.cli.stack_settings import read_settings
from proxmox_swarm.settings import Settings
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

    @property
    def raft(self) -> list[str]:
        return sorted(node.hostname for node in self.swarm.nodes.values() if node.in_raft)

    @property
    def text(self) -> str:
        return "\n".join(self.said)
