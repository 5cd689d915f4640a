"""What is declared, as a value: the judge compares the engines with it, and a stack file is written from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import yaml

from tests.lab.support import ROOT

#: Waits that end within a round, also on a loaded machine.
DEADLINES = {"boot": "2m", "join": "1m", "drain": "2m", "role": "90s"}


@dataclass(frozen=True)
class Node:
    """One declared node; ``memory`` in GiB, ``ip`` the last octet of its addresses."""

    pool: str
    host: str
    id: int
    ip: int
    role: str
    cpu: int
    memory: float
    labels: Mapping[str, str]
    availability: str = "active"
    generation: int = 1
    data: int = 0

    @property
    def address(self) -> str:
        return f"192.168.4.{self.ip}"


@dataclass(frozen=True)
class Declaration:
    """Nodes by name, the swarm's settings and daemon.json's added keys, by their names in the stack file."""

    nodes: Mapping[str, Node]
    cluster: Mapping[str, Any] = field(default_factory=dict)
    daemon: Mapping[str, Any] = field(default_factory=dict)

    @property
    def managers(self) -> list[str]:
        return [name for name, node in self.nodes.items() if node.role == "manager"]

    @property
    def workers(self) -> list[str]:
        return [name for name, node in self.nodes.items() if node.role == "worker"]

    def node(self, name: str, **change: Any) -> Declaration:
        """The same with something of one node changed."""
        return replace(self, nodes={**self.nodes, name: replace(self.nodes[name], **change)})

    def without(self, name: str) -> Declaration:
        """The same without a node."""
        return replace(self, nodes={key: node for key, node in self.nodes.items() if key != name})

    def spread(self) -> bool:
        """Whether the managers are a set that settings take: odd, and no host holds a majority."""
        hosts = [self.nodes[name].host for name in self.managers]
        return len(hosts) % 2 == 1 and all(hosts.count(host) <= (len(hosts) - 1) // 2 for host in hosts)

    def settings(self) -> dict[str, Any]:
        """The keys to write over the lab's own stack file; a node that is not declared any more is taken out."""
        nodes: dict[str, Any] = dict.fromkeys(BASE.nodes)
        for name, node in self.nodes.items():
            nodes[name] = {key: value for key, value in asdict(node).items() if key != "data" or value}
        return {
            "nodes": nodes,
            "cluster": dict(self.cluster),
            "docker": {"daemon": dict(self.daemon)},
            "deadlines": DEADLINES,
        }


def _base() -> Declaration:
    written = yaml.safe_load((ROOT / "Pulumi.lab.yaml").read_text())["config"]
    pools = written["swarm:pools"]
    nodes = {}
    for name, node in written["swarm:nodes"].items():
        steps = (pools["default"], pools[node["pool"]], node)
        values = {key: value for step in steps for key, value in step.items()}
        values["labels"] = {key: value for step in steps for key, value in (step.get("labels") or {}).items()}
        nodes[name] = Node(**{key: value for key, value in values.items() if key in Node.__dataclass_fields__})
    return Declaration(nodes)


#: The lab's stack as it is in the repository.
BASE = _base()
