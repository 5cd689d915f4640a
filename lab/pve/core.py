"""What every endpoint works with, and the table of endpoints."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxmox_swarm.lab.pve.faults import Faults
from proxmox_swarm.lab.pve.power import Power
from proxmox_swarm.lab.pve.record import Record
from proxmox_swarm.lab.pve.state import State, Vm
from proxmox_swarm.lab.pve.storages import Storages
from proxmox_swarm.lab.pve.tasks import Tasks


@dataclass(frozen=True)
class Download:
    """A file that the lab serves at ``url``, with the SHA-512 of its bytes known beforehand."""

    url: str
    path: Path
    sha512: str


@dataclass
class Pve:
    """The emulated cluster."""

    state: State
    storages: Storages
    power: Power
    tasks: Tasks
    faults: Faults
    record: Record
    addresses: Mapping[str, str]
    downloads: Mapping[str, Download] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """One verified request: its parameters (those of the path included) and who sent it."""

    parameters: Mapping[str, Any]
    user: str
    host: str

    def __getitem__(self, name: str) -> Any:
        return self.parameters[name]

    def get(self, name: str, default: Any = None) -> Any:
        """A parameter, or ``default``."""
        return self.parameters.get(name, default)

    @property
    def node(self) -> str:
        """The host the request is for."""
        return str(self.parameters["node"])

    @property
    def vmid(self) -> int:
        """The VM the request is for."""
        return int(self.parameters["vmid"])


Handler = Callable[[Pve, Call], Awaitable[Any]]
#: Every endpoint the lab serves, by method and path of the schema.
ROUTES: dict[tuple[str, str], Handler] = {}


def route(method: str, path: str) -> Callable[[Handler], Handler]:
    """Register the handler of an endpoint; ``path`` is written as in the schema."""

    def register(handler: Handler) -> Handler:
        ROUTES[method, path] = handler
        return handler

    return register


def vm_of(pve: Pve, call: Call) -> Vm:
    """The VM a request names, checked to be on the host it names."""
    return pve.state.vm(call.node, call.vmid)


def split_list(text: str | None) -> list[str]:
    """The items of a list parameter: separated by commas, semicolons or spaces."""
    return [part for part in re.split(r"[,;\s]+", text or "") if part]
