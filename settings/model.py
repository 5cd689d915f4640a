"""The cluster as settings describe it, resolved: every default filled in, every name looked up, nothing left to guess.

These are plain frozen dataclasses. They are made by :func:`proxmox_swarm.settings.load` and by nothing else, so whoever
holds one may trust it. Units: memory and disks in GiB, durations in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["manager", "worker"]
Availability = Literal["active", "pause", "drain"]


@dataclass(frozen=True)
class Image:
    """A cloud image: where it is, its digest, what kind of file it is, and its virtual size in GiB."""

    url: str
    sha512: str
    format: str
    size: int


@dataclass(frozen=True)
class ProxmoxHost:
    """One Proxmox VE host: its disks' datastore, where images and snippets are kept, and its SSH address for snippets."""

    name: str
    datastore: str
    images: str
    snippets: str
    ssh_address: str | None
    ssh_port: int


@dataclass(frozen=True)
class Proxmox:
    """The Proxmox VE cluster: API endpoints (the first that answers is used), hosts by name, image, limits."""

    endpoints: tuple[str, ...]
    hosts: Mapping[str, ProxmoxHost]
    image: Image
    parallel: int
    resource_pool: str | None
    insecure: bool
    protect: bool


@dataclass(frozen=True)
class Nic:
    """One network interface of a node, with its fixed address."""

    network: str
    bridge: str
    vlan: int | None
    mac: str
    address: str
    prefix: int
    gateway: str | None
    mtu: int | None
    #: whether settings name the MAC address, which is otherwise made from the id and the VLAN
    declared_mac: bool = False


@dataclass(frozen=True)
class DataDisk:
    """A disk that outlives its machine: it belongs to a holder VM that is never started."""

    size: int
    datastore: str
    holder_id: int
    holder_name: str
    serial: str
    mount: str


@dataclass(frozen=True)
class Node:
    """One swarm node and the virtual machine it runs on."""

    name: str
    pool: str
    role: Role
    availability: Availability
    labels: Mapping[str, str]
    host: str
    vm_id: int
    cpu: int
    memory: float
    boot: int
    datastore: str
    data: DataDisk | None
    nics: tuple[Nic, ...]
    generation: int
    #: the key of a machine that was there before; after its rebuild the same machine name still shows it
    host_key: str | None = None
    #: disks of an adopted machine that its rebuild may destroy
    discard: tuple[str, ...] = ()

    @property
    def adopted(self) -> bool:
        """Whether the machine is one that was there before and is taken as it is."""
        return self.host_key is not None and self.generation == 1

    @property
    def address(self) -> str:
        """The address on the first network: SSH, advertise address, swarm traffic."""
        return self.nics[0].address

    def data_path_address(self, network: str) -> str:
        """The address for overlay traffic where that has a network of its own; "" where it goes with the rest."""
        found = next((nic.address for nic in self.nics if nic.network == network), self.address)
        return "" if found == self.address else found


@dataclass(frozen=True)
class Access:
    """Who may log in to the nodes: a user with passwordless sudo and these public keys."""

    user: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class HostSettings:
    """Day-two settings of every node's operating system."""

    dns_servers: tuple[str, ...]
    dns_search: tuple[str, ...]
    apt_cache: str | None


@dataclass(frozen=True)
class DockerSettings:
    """The engine: daemon.json (defaults merged with what was declared), and which to install if absent (None: the newest)."""

    daemon: Mapping[str, object]
    version: str | None
    #: the keys of daemon.json that are written in the settings, without the defaults
    declared: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Rotate:
    """How often each thing is to have been rotated: a number higher than the one recorded rotates it once."""

    worker: int
    manager: int
    ca: int
    unlock_key: int


@dataclass(frozen=True)
class ClusterSettings:
    """Swarm-wide settings. ``None`` keeps the engine's own value. ``data_path`` is "" for each node's own first network."""

    address_pool: tuple[str, ...]
    subnet_size: int
    data_path_port: int
    data_path: str
    election_tick: int | None
    heartbeat_tick: int | None
    snapshot_interval: int | None
    keep_old_snapshots: int | None
    task_history: int | None
    certificate_expiry: int | None
    dispatcher_heartbeat: int | None
    labels: Mapping[str, str] | None
    autolock: bool
    rotate: Rotate
    undeclared: str


@dataclass(frozen=True)
class Deadlines:
    """How long each wait may take, in seconds."""

    boot: int
    join: int
    drain: int
    role: int
    rotation: int


@dataclass(frozen=True)
class Rolling:
    """How later runs go from node to node: so many workers may be out at the same moment. Managers: always one."""

    max_unavailable: int = 1


@dataclass(frozen=True)
class Settings:
    """Everything one stack declares.

    Nodes and hosts are in natural order of their names (app-2 before app-10): Pulumi hands mappings over alphabetically,
    so the file's own order is not known.
    """

    project: str
    stack: str
    proxmox: Proxmox
    nodes: Mapping[str, Node]
    access: Access
    os: HostSettings
    docker: DockerSettings
    cluster: ClusterSettings
    deadlines: Deadlines
    rolling: Rolling = Rolling()
    allow_even_managers: bool = False
    allow_fewer_managers: bool = False
    raw: Mapping[str, object] = field(default_factory=dict, repr=False, compare=False)

    @property
    def marker(self) -> str:
        """The tag that every VM of this stack carries on Proxmox VE (lower case, as Proxmox VE stores tags)."""
        return f"{self.project}-{self.stack}".lower()

    @property
    def managers(self) -> tuple[Node, ...]:
        """The managers in the order of :attr:`nodes`."""
        return tuple(n for n in self.nodes.values() if n.role == "manager")

    @property
    def workers(self) -> tuple[Node, ...]:
        """The workers in the order of :attr:`nodes`."""
        return tuple(n for n in self.nodes.values() if n.role == "worker")

    @property
    def pools(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes of each pool that has any, in the order of :attr:`nodes`."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes.values():
            found.setdefault(node.pool, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}
