"""Rules about nodes: how many managers and where, what they name, sizes, and what must be there once only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from proxmox_swarm.settings.derive import HOLDER_OFFSET, holder_name, mac_address, natural
from proxmox_swarm.settings.errors import Path, Problem, did_you_mean, listed, show
from proxmox_swarm.settings.parse import Draft, NodeDraft
from proxmox_swarm.settings.rules_networks import used_networks

MAX_MANAGERS = 7
MAX_VM_ID = 999_999_999
#: Proxmox VE takes a DNS name as a machine's name; one label of it has no more characters (RFC 1035, 2.3.4).
MAX_NAME = 63


def check(draft: Draft) -> Iterator[Problem]:
    """All rules about nodes."""
    yield from _managers(draft)
    yield from _lanes(draft)
    yield from _hosts(draft)
    yield from _sizes(draft)
    yield from _holders(draft)
    yield from _ids(draft)
    yield from _macs(draft)
    yield from _adopted(draft)


def holder_id(node: NodeDraft) -> int | None:
    """The id of the machine that owns the node's data disk; None where the node has none."""
    if node.spec.data == 0:
        return None
    return node.spec.data_id if node.spec.data_id is not None else node.spec.id + HOLDER_OFFSET


def is_adopted(node: NodeDraft) -> bool:
    """Whether the node's machine was there before and is not to be rebuilt."""
    return node.spec.host_key is not None and node.spec.generation == 1


def quorum(managers: int) -> int:
    """How many of so many managers must be reachable for the swarm to be managed: a majority (raft)."""
    return managers // 2 + 1


def _managers(draft: Draft) -> Iterator[Problem]:
    if not draft.all_nodes:
        return
    managers = [node for node in draft.nodes.values() if node.spec.role == "manager"]
    names = listed(sorted((node.name for node in managers), key=natural))
    count = len(managers)
    guards = draft.guards
    odd = "an odd number of managers, 1, 3, 5 or 7"
    if count == 0:
        yield Problem(("nodes",), None, "no node is a manager", odd, "Put `role: manager` at a pool or at nodes")
    elif count > MAX_MANAGERS:
        yield Problem(
            ("nodes",),
            f"{count} managers ({names})",
            "every change is written by a majority of them: more than 7 only slow it down",
            odd,
        )
    elif count % 2 == 0 and guards is not None and not guards.even_managers:
        yield Problem(
            ("nodes",),
            f"{count} managers ({names})",
            f"an even number tolerates the loss of {count - quorum(count)}, no more than {count - 1} managers do",
            odd,
            "If it is meant: guards: {evenManagers: true}",
        )
    elif count >= 3 and guards is not None and not guards.managers_on_one_host:
        yield from _spread(managers)


def _spread(managers: list[NodeDraft]) -> Iterator[Problem]:
    by_host: dict[str, list[str]] = {}
    for node in managers:
        by_host.setdefault(node.spec.host, []).append(node.name)
    for host, names in by_host.items():
        if len(managers) - len(names) < quorum(len(managers)):
            yield Problem(
                ("nodes",),
                f"{len(names)} of {len(managers)} managers on {host} ({listed(sorted(names, key=natural))})",
                f"the loss of {host} would lose the quorum",
                "managers spread so that a majority stays when one host is lost",
                "If it is meant, as with one host only: guards: {managersOnOneHost: true}",
            )


def _lanes(draft: Draft) -> Iterator[Problem]:
    """Zero workers are as good as one: the default is always accepted."""
    if draft.rolling is None or not draft.all_nodes:
        return
    workers = sum(node.spec.role == "worker" for node in draft.nodes.values())
    if draft.rolling.max_unavailable > max(workers, 1):
        yield Problem(
            ("rolling", "maxUnavailable"),
            show(draft.rolling.max_unavailable),
            f"{workers} worker{'s are' if workers != 1 else ' is'} declared",
            f"a whole number, 1 to {max(workers, 1)}",
        )


def _hosts(draft: Draft) -> Iterator[Problem]:
    if draft.proxmox is None:
        return
    hosts = draft.proxmox.hosts
    for node in draft.nodes.values():
        if node.name in hosts:
            yield Problem(
                ("nodes", node.name), None, "a Proxmox VE host has this name", "a name of its own for every machine"
            )
        host = hosts.get(node.spec.host)
        if host is None:
            yield Problem(
                ("nodes", node.name, "host"),
                show(node.spec.host),
                "no such Proxmox VE host",
                f"a key of proxmox.hosts: {listed(hosts)}",
                did_you_mean(node.spec.host, hosts),
            )
            continue
        known = list(dict.fromkeys((host.datastore, *host.datastores)))
        for field, value in (("datastore", node.spec.datastore), ("data_datastore", node.spec.data_datastore)):
            if value is not None and value not in known:
                yield Problem(
                    node.path(field),
                    show(value),
                    f"host {node.spec.host} of node {node.name} does not declare this datastore",
                    f"a datastore of {node.spec.host}: {listed(known)}",
                    did_you_mean(value, known)
                    or f"Another one is declared by proxmox.hosts.{node.spec.host}.datastores",
                )


def _sizes(draft: Draft) -> Iterator[Problem]:
    if draft.proxmox is None:
        return
    image = draft.proxmox.image.size
    for node in draft.nodes.values():
        if node.spec.boot < image and not is_adopted(node):
            yield Problem(
                node.path("boot"),
                show(node.spec.boot),
                f"smaller than the image ({image} GiB): disks can grow, not shrink",
                f"{image} or more (proxmox.image.size)",
            )


def _holders(draft: Draft) -> Iterator[Problem]:
    """The machine that owns a data disk is called after its node: a name that fits, and that nobody else has."""
    holders = {holder_name(node.name): node for node in draft.nodes.values() if holder_id(node) is not None}
    for name, node in holders.items():
        if len(name) > MAX_NAME:
            yield Problem(
                ("nodes", node.name),
                None,
                f"the owner of its data disk, {name}, would have {len(name)} characters; Proxmox VE takes {MAX_NAME}",
                f"a host name of up to {MAX_NAME - len(holder_name(''))} characters for a node with a data disk",
            )
        if name in draft.nodes:
            yield Problem(
                ("nodes", name),
                None,
                f"the machine that owns the data disk of {node.name} has this name",
                "a name of its own for every machine",
            )


def _adopted(draft: Draft) -> Iterator[Problem]:
    """An adopted machine keeps the disks it has: one of its own making comes with its rebuild."""
    for node in draft.nodes.values():
        if is_adopted(node) and node.spec.data > 0:
            yield Problem(
                node.path("data"),
                show(node.spec.data),
                f"{node.name} is adopted with the disks it has; a data disk that outlives it comes with its rebuild",
                "0 for a node with a hostKey and generation 1",
                f"Write data: 0 at {node.name}",
            )


def _ids(draft: Draft) -> Iterator[Problem]:
    owners: dict[int, str] = {}
    accepted = "an id of its own for every machine and every data disk's owner, 100 to 999999999"
    for node in draft.nodes.values():
        if owners.setdefault(node.spec.id, node.name) != node.name:
            yield Problem(
                ("nodes", node.name, "id"), show(node.spec.id), f"{owners[node.spec.id]} has this id already", accepted
            )
    for node in draft.nodes.values():
        holder = holder_id(node)
        if holder is None:
            continue
        label = f"the data disk of {node.name}"
        path: Path = ("nodes", node.name, "dataId")
        hint = (
            ""
            if node.spec.data_id is not None
            else f"It is the node's id + {HOLDER_OFFSET} unless dataId gives another"
        )
        if holder > MAX_VM_ID:
            yield Problem(path, show(holder), "above 999999999", accepted, hint)
        elif owners.setdefault(holder, label) != label:
            yield Problem(path, show(holder), f"{owners[holder]} has this id already", accepted, hint)


def _macs(draft: Draft) -> Iterator[Problem]:
    owners: dict[str, str] = {}
    # What is wrong already with an id or a VLAN is not told again for each address that is made from them.
    ids = Counter(node.spec.id for node in draft.nodes.values())
    vlans = Counter((network.bridge, network.vlan) for network in draft.networks.values() if network.vlan is not None)
    for node in draft.nodes.values():
        for name in used_networks(draft, node):
            network = draft.networks.get(name)
            if network is None:
                continue
            declared = node.spec.macs.get(name)
            mac = declared or mac_address(node.spec.id, network.vlan)
            label = f"{node.name} on {name}"
            told = not declared and (ids[node.spec.id] > 1 or vlans[network.bridge, network.vlan] > 1)
            if owners.setdefault(mac, label) != label and not told:
                yield Problem(
                    ("nodes", node.name, "macs", name),
                    show(mac),
                    f"{owners[mac]} has this MAC address already",
                    "a MAC address of its own for every interface",
                    "" if declared else "It is made from the id and the VLAN: write one for this network",
                )
