"""``SwarmCluster``: the whole of it. Machines, quorum, workers, in one graph."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import asdict
from typing import Any

import pulumi
import pulumi_proxmoxve as pve

from proxmox_swarm.components import order
from proxmox_swarm.components.images import HostImages
from proxmox_swarm.components.manager_quorum import ManagerQuorum
from proxmox_swarm.components.membership import NodeArgs, machine_api
from proxmox_swarm.components.virtual_machine import VirtualMachine, VirtualMachineArgs
from proxmox_swarm.components.worker_pool import WorkerPool
from proxmox_swarm.providers.ca_rotation import CaRotation
from proxmox_swarm.providers.first_boot import FirstBoot
from proxmox_swarm.providers.host_state import HostState
from proxmox_swarm.providers.member import Member
from proxmox_swarm.providers.undeclared import Undeclared
from proxmox_swarm.settings.model import Node, Settings

After = Sequence[pulumi.Resource]


class SwarmCluster(pulumi.ComponentResource):
    """A Docker Swarm on Proxmox VE.

    ``established`` says which of two shapes the graph has. Before the cluster stands: machines in lanes, managers in
    series, workers side by side. Afterwards: managers one after the other, then workers in lanes, each node back before
    the next of its lane is touched, in the order of :func:`order.rolling` with ``first`` in front and those that are not
    ``there`` yet side by side. Going from one shape to the other changes no resource.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        endpoint: str,
        established: bool,
        there: Container[str] | None = None,
        first: Sequence[str] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("swarm:index:SwarmCluster", name, None, opts)
        self.settings = settings
        self.members: dict[str, Member] = {}
        self._provider = _proxmox_provider(settings, endpoint, self)
        self._images = HostImages(settings, self._provider, self)
        self._first_boots = {node.name: self._first_boot(node) for node in settings.nodes.values() if not node.adopted}
        self._managers = [self._address(node) for node in settings.managers]
        self._machines: dict[str, VirtualMachine] = {}
        if established:
            self._roll(there, first)
        else:
            self._bring_up()
        self.undeclared = self._look_for_others()
        self.ca = self._rotate_ca()
        self.register_outputs({"clusterId": self.cluster.cluster_id})

    @property
    def cluster(self) -> Any:
        """The swarm's own resource."""
        return self._quorum.cluster

    @property
    def autolock(self) -> Any:
        """The lock of the managers."""
        return self._quorum.autolock

    @property
    def host_keys(self) -> dict[str, pulumi.Output[str]]:
        """The SSH host public key of each node, by name."""
        return {name: pulumi.Output.from_input(self._host_key(node)) for name, node in self.settings.nodes.items()}

    def _host_key(self, node: Node) -> pulumi.Input[str]:
        if node.adopted and node.host_key:
            return node.host_key
        return self._first_boots[node.name].host_public_key

    def _bring_up(self) -> None:
        nodes = self.settings.nodes
        for name, previous in order.lanes(nodes.values(), self.settings.proxmox.parallel).items():
            self._make_machine(nodes[name], [self._machines[previous].vm] if previous else [])
        hosts = {name: self._set_host(node, []) for name, node in nodes.items()}
        self._quorum = self._make_quorum([hosts[node.name] for node in self.settings.managers])
        before: After = []
        for node in self.settings.managers:
            before = [self._join(node, [hosts[node.name], *before])]
        for node in self.settings.workers:
            self._join(node, [hosts[node.name], *before])

    def _roll(self, there: Container[str] | None, first: Sequence[str]) -> None:
        self._quorum = self._make_quorum([])
        settings = self.settings
        turns = order.rolling(
            settings.nodes.values(),
            unavailable=settings.rolling.max_unavailable,
            parallel=settings.proxmox.parallel,
            preferred=first,
            there=there,
        )
        for name, waits_for in turns.items():
            node = settings.nodes[name]
            before = [self.members[other] for other in waits_for]
            self._make_machine(node, before)
            host = self._set_host(node, [self._quorum.autolock, self._quorum.settings, *before])
            self._join(node, [host, *before])

    def _rotate_ca(self) -> CaRotation:
        """Last of all: it takes every member, and one that is down would hold it up for ever."""
        return CaRotation(
            "ca",
            managers=self._managers,
            cluster_id=self.cluster.cluster_id,
            number=self.settings.cluster.rotate.ca,
            timeout=self.settings.deadlines.rotation,
            opts=pulumi.ResourceOptions(
                parent=self._quorum, depends_on=[*self.members.values(), self.undeclared], deleted_with=self.cluster
            ),
        )

    def _look_for_others(self) -> Undeclared:
        """After all members, so that a policy to remove others never takes a manager out before its successor is in."""
        settings = self.settings
        return Undeclared(
            "undeclared",
            managers=self._managers,
            cluster_id=self.cluster.cluster_id,
            addresses=[node.address for node in settings.nodes.values()],
            members=[member.node_id for member in self.members.values()],
            policy=settings.cluster.undeclared,
            deadlines=asdict(settings.deadlines),
            opts=pulumi.ResourceOptions(parent=self, deleted_with=self.cluster),
        )

    def _first_boot(self, node: Node) -> FirstBoot:
        access = self.settings.access
        return FirstBoot(
            node.name,
            node=node.name,
            user=access.user,
            keys=list(access.keys),
            generation=node.generation,
            daemon=dict(self.settings.docker.daemon),
            former={"node": node.name, "address": node.address, "user": access.user, "host_key": node.host_key}
            if node.host_key
            else None,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _address(self, node: Node) -> dict[str, pulumi.Input[str]]:
        return {
            "node": node.name,
            "address": node.address,
            "user": self.settings.access.user,
            "host_key": self._host_key(node),
        }

    def _make_machine(self, node: Node, after: After) -> None:
        self._machines[node.name] = VirtualMachine(
            node.name,
            VirtualMachineArgs(
                settings=self.settings,
                node=node,
                first_boot=self._first_boots.get(node.name),
                provider=self._provider,
                image=None if node.adopted else self._images.on(node.host),
                after=after,
            ),
            pulumi.ResourceOptions(parent=self),
        )

    def _set_host(self, node: Node, after: After) -> HostState:
        settings = self.settings
        machine = self._machines[node.name]
        return HostState(
            node.name,
            node=node.name,
            address=node.address,
            user=settings.access.user,
            host_key=self._host_key(node),
            managers=self._managers,
            machine=machine.machine,
            wanted={
                "daemon": dict(settings.docker.declared if node.adopted else settings.docker.daemon),
                "dns_servers": list(settings.os.dns_servers),
                "dns_search": list(settings.os.dns_search),
                "apt_cache": settings.os.apt_cache,
            },
            disk={"serial": node.data.serial, "mount": node.data.mount, "size": node.data.size} if node.data else None,
            docker=settings.docker.version,
            deadlines=asdict(settings.deadlines),
            proxmox=machine_api(settings, node),
            adopted=node.adopted,
            opts=pulumi.ResourceOptions(parent=machine, depends_on=list(after), delete_before_replace=True),
        )

    def _make_quorum(self, ready: After) -> ManagerQuorum:
        quorum = ManagerQuorum("managers", self.settings, self._managers, ready, pulumi.ResourceOptions(parent=self))
        self._pools = {
            pool: WorkerPool(pool, quorum.cluster, pulumi.ResourceOptions(parent=self))
            for pool in dict.fromkeys(node.pool for node in self.settings.workers)
        }
        return quorum

    def _join(self, node: Node, after: After) -> Member:
        args = NodeArgs(
            settings=self.settings,
            node=node,
            host_key=self._host_key(node),
            machine=self._machines[node.name].machine,
            managers=self._managers,
        )
        group = self._quorum if node.role == "manager" else self._pools[node.pool]
        # The settings hold the guard of the whole plan: no member is touched before it has had its say.
        self.members[node.name] = group.join(args, [self._quorum.autolock, self._quorum.settings, *after])
        return self.members[node.name]


def _proxmox_provider(settings: Settings, endpoint: str, parent: pulumi.Resource) -> pve.Provider:
    """The Proxmox VE provider. Credentials come from PROXMOX_VE_* in the environment, so that state never holds them."""
    addressed = [host for host in settings.proxmox.hosts.values() if host.ssh_address]
    return pve.Provider(
        "proxmox",
        endpoint=endpoint,
        insecure=settings.proxmox.insecure,
        ssh={"nodes": [{"name": h.name, "address": h.ssh_address, "port": h.ssh_port} for h in addressed]}
        if addressed
        else None,
        opts=pulumi.ResourceOptions(parent=parent),
    )
