"""Rules about networks: subnets that overlap, gateways, and the address of every node on every network."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations

from proxmox_swarm.settings import daemon, schema
from proxmox_swarm.settings.derive import address_on, natural
from proxmox_swarm.settings.errors import Path, Problem, did_you_mean, listed, render, show
from proxmox_swarm.settings.parse import Draft, NodeDraft

DEFAULT_ADDRESS_POOL = IPv4Network("10.0.0.0/8")
"""Where the engine takes overlay subnets from when nothing else is said."""


def check(draft: Draft) -> Iterator[Problem]:
    """All rules about networks."""
    yield from _gateways(draft)
    yield from _vlans(draft)
    yield from _overlaps(draft)
    yield from _node_networks(draft)
    yield from _addresses(draft)
    yield from _data_path(draft)


def used_networks(draft: Draft, node: NodeDraft) -> list[str]:
    """The networks of a node, in order: those written, or the only one there is."""
    if node.spec.networks is not None:
        return node.spec.networks
    return sorted(draft.network_names) if len(draft.network_names) == 1 else []


def addresses(draft: Draft, node: NodeDraft) -> Iterator[tuple[str, Path, IPv4Address]]:
    """The node's address on each of its networks, with the place in settings that it comes from."""
    for name in used_networks(draft, node):
        part: int | IPv4Address | None = node.spec.ip.get(name) if isinstance(node.spec.ip, dict) else node.spec.ip
        network = draft.networks.get(name)
        if part is not None and network is not None:
            place = ("nodes", node.name, "ip", name) if isinstance(node.spec.ip, dict) else ("nodes", node.name, "ip")
            yield name, place, address_on(network.subnet, part)


def _gateways(draft: Draft) -> Iterator[Problem]:
    for name, network in draft.networks.items():
        if network.gateway is None:
            continue
        path: Path = ("networks", name, "gateway")
        accepted = f"an address inside {network.subnet} that is neither the first nor the last"
        if network.gateway not in network.subnet:
            yield Problem(path, show(str(network.gateway)), f"outside the subnet {network.subnet}", accepted)
        elif network.gateway in (network.subnet.network_address, network.subnet.broadcast_address):
            yield Problem(path, show(str(network.gateway)), "the subnet's own or its broadcast address", accepted)


def _vlans(draft: Draft) -> Iterator[Problem]:
    seen: dict[tuple[str, int], str] = {}
    for name, network in draft.networks.items():
        if network.vlan is None:
            continue
        other = seen.setdefault((network.bridge, network.vlan), name)
        if other != name:
            yield Problem(
                ("networks", name, "vlan"),
                show(network.vlan),
                f"network {other} has this VLAN on the same bridge",
                "a VLAN of its own for each network of a bridge",
            )


def _overlaps(draft: Draft) -> Iterator[Problem]:
    ranges: list[tuple[str, Path, IPv4Network]] = [
        ("node network", ("networks", name, "subnet"), network.subnet) for name, network in draft.networks.items()
    ]
    if draft.docker is not None:
        ranges += [
            ("Docker's address pool", path, network) for path, network in daemon.address_pools(draft.docker.daemon)
        ]
    if draft.cluster is not None and not (draft.guards is not None and draft.guards.overlapping_address_pool):
        pools = draft.cluster.address_pool or [DEFAULT_ADDRESS_POOL]
        ranges += [("the swarm's address pool", ("cluster", "addressPool"), pool) for pool in pools]
    for (first_kind, first_path, first), (kind, path, network) in combinations(ranges, 2):
        if first.overlaps(network):
            written = "cluster" not in path or (draft.cluster is not None and draft.cluster.address_pool is not None)
            yield Problem(
                path,
                show(str(network)),
                f"{kind}{'' if written else ', the default,'} overlaps {first_kind} {first} at {render(first_path)}",
                "subnets that do not overlap: node networks, docker.daemon's address pools, cluster.addressPool",
                f"{'' if written else 'Give one that is free, such as 10.201.0.0/16. '}Of a swarm that was made so: "
                "guards: {overlappingAddressPool: true}"
                if "cluster" in path
                else "",
            )


def _node_networks(draft: Draft) -> Iterator[Problem]:
    for node in draft.nodes.values():
        path = node.path("networks")
        names = used_networks(draft, node)
        if not names and node.known and draft.network_names:
            yield Problem(
                path,
                None,
                "missing",
                f"a list of keys of networks: {listed(sorted(draft.network_names))}",
                "The first carries SSH and the swarm",
            )
        for index, name in enumerate(names):
            if name not in draft.network_names:
                yield Problem(
                    (*path, index),
                    show(name),
                    "no such network",
                    f"a key of networks: {listed(sorted(draft.network_names))}",
                    did_you_mean(name, draft.network_names),
                )
            elif name in names[:index]:
                yield Problem((*path, index), show(name), "there twice", "each network once")
        routed = [
            name for name in dict.fromkeys(names) if name in draft.networks and draft.networks[name].gateway is not None
        ]
        if len(routed) > 1:
            yield Problem(
                path,
                show(names),
                f"two default routes: {listed(routed)} have a gateway each",
                "networks of which one at most has a gateway",
            )
        yield from _by_network(draft, node, names)


def _data_path(draft: Draft) -> Iterator[Problem]:
    name = draft.cluster.data_path if draft.cluster is not None else None
    if name is None:
        return
    path: Path = ("cluster", "dataPath")
    if name not in draft.network_names:
        yield Problem(
            path,
            show(name),
            "no such network",
            f"a key of networks: {listed(sorted(draft.network_names))}",
            did_you_mean(name, draft.network_names),
        )
        return
    absent = [node.name for node in draft.nodes.values() if node.known and name not in used_networks(draft, node)]
    if absent:
        yield Problem(
            path,
            show(name),
            f"not on this network: {listed(sorted(absent, key=natural))}",
            "a network that every node is on",
        )


def _by_network(draft: Draft, node: NodeDraft, names: list[str]) -> Iterator[Problem]:
    """Mappings by network (ip, macs) name the node's networks."""
    if isinstance(node.spec.ip, dict):
        missing = [name for name in names if name not in node.spec.ip]
        if missing:
            yield Problem(
                ("nodes", node.name, "ip"),
                show(list(node.spec.ip)),
                f"no address on {listed(missing)}",
                f"one for each of {listed(names)}",
            )
    for field, mapping in (("ip", node.spec.ip), ("macs", node.spec.macs)):
        for name in mapping if isinstance(mapping, dict) and names else ():
            if name not in names:
                yield Problem(
                    ("nodes", node.name, field, name),
                    None,
                    "the node is not on this network",
                    listed(names),
                    did_you_mean(name, names),
                )


def _addresses(draft: Draft) -> Iterator[Problem]:
    gateways = {network.gateway: name for name, network in draft.networks.items() if network.gateway is not None}
    hosts = {str(h.ssh[0]): n for n, h in draft.proxmox.hosts.items() if h.ssh is not None} if draft.proxmox else {}
    owners: dict[IPv4Address, str] = {}
    for node in draft.nodes.values():
        for name, path, address in addresses(draft, node):
            network: schema.Network = draft.networks[name]
            problem = _misplaced(network.subnet, address)
            if problem is None and address in gateways:
                problem = f"the gateway of network {gateways[address]}"
            if problem is None and str(address) in hosts:
                problem = f"the address of Proxmox VE host {hosts[str(address)]}"
            if problem is None and owners.setdefault(address, node.name) != node.name:
                problem = f"node {owners[address]} has it already"
            if problem is not None:
                value = node.spec.ip if isinstance(node.spec.ip, int) else str(address)
                yield Problem(
                    path,
                    show(value),
                    f"{address} on network {name}: {problem}" if isinstance(value, int) else problem,
                    f"an address of its own inside {network.subnet}, by its last octet or in full",
                )
                if isinstance(value, int):  # one number for all networks: one problem with it is enough
                    break


def _misplaced(subnet: IPv4Network, address: IPv4Address) -> str | None:
    if address not in subnet:
        return f"outside the subnet {subnet}"
    if address == subnet.network_address:
        return "the subnet's own address"
    if address == subnet.broadcast_address:
        return "the broadcast address"
    return None
