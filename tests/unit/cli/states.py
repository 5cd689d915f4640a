"""Stack states as the CLI exports them, made small: what a resource is, where it is, what it depends on."""

from __future__ import annotations

from typing import Any

PREFIX = "urn:pulumi:prod::swarm::swarm:index:SwarmCluster"
OURS = "pulumi-python:dynamic/swarm:"
VM = "proxmoxve:index/vmLegacy:VmLegacy"
SNIPPET = "proxmoxve:index/fileLegacy:FileLegacy"
IMAGE = "proxmoxve:download/file:File"
MACHINE = "swarm:index:VirtualMachine"

Json = dict[str, Any]


def urn(kind: str, name: str, *, parent: str = "") -> str:
    """The URN of a resource; ``parent`` is its component's type."""
    return f"{PREFIX}{f'${parent}' if parent else ''}${kind}::{name}"


def of_node(name: str, host: str, *, after: str | None = None, data: bool = False) -> list[Json]:
    """All resources of one node; ``after`` is the node before it in the rolling order."""
    component = f"{PREFIX}${MACHINE}::{name}"
    vm_id = 4000 + sum(map(ord, name))
    member = urn(f"{OURS}Member", name, parent="swarm:index:WorkerPool")
    before = [member.replace(f"::{name}", f"::{after}")] if after is not None else []
    claim, snippet, vm, holder, state = (
        urn(kind, named, parent=MACHINE)
        for kind, named in (
            (f"{OURS}Claim", name),
            (SNIPPET, name),
            (VM, name),
            (VM, f"{name}-data"),
            (f"{OURS}HostState", name),
        )
    )
    first_boot, image = urn(f"{OURS}FirstBoot", name), urn(IMAGE, f"image-{host}")

    def resource(
        at: str, kind: str, depends: list[str], inputs: Json, parent: str = component, **by: list[str]
    ) -> Json:
        made = {"urn": at, "type": kind, "custom": True, "parent": parent, "inputs": inputs, "outputs": dict(inputs)}
        return {**made, "dependencies": depends, "propertyDependencies": by} if depends else made

    holders = [
        resource(holder, VM, [claim, *before], {"nodeName": host, "vmId": vm_id + 500}, description=[claim])
    ] * data
    on_node = {"node": name, "address": f"10.0.4.{vm_id % 250}"}
    return [
        {"urn": component, "type": MACHINE, "custom": False, "parent": PREFIX + "::prod"},
        resource(first_boot, f"{OURS}FirstBoot", [], on_node, parent=PREFIX + "::prod"),
        resource(claim, f"{OURS}Claim", [], {**on_node, "claim": f"word-{name}"}),
        resource(snippet, SNIPPET, [claim, first_boot], {"nodeName": host}, sourceRaw=[first_boot]),
        *holders,
        resource(
            vm,
            VM,
            [claim, snippet, image, *([holder] * data), *before],
            {"nodeName": host, "vmId": vm_id},
            disks=[image, *([holder] * data)],
            name=[],
        ),
        resource(state, f"{OURS}HostState", [vm, first_boot, *before], on_node, machine=[vm], host_key=[first_boot]),
        resource(
            member,
            f"{OURS}Member",
            [vm, state, first_boot, *before],
            {**on_node, "machine": str(vm_id), "node_id": f"id-{name}"},
            parent=member.rpartition("$")[0],
            machine=[vm],
            host_key=[first_boot],
        ),
    ]


def image(host: str) -> Json:
    """The image on a host."""
    return {
        "urn": urn(IMAGE, f"image-{host}"),
        "type": IMAGE,
        "custom": True,
        "parent": PREFIX + "::prod",
        "inputs": {"nodeName": host},
        "outputs": {"nodeName": host},
    }


def find(state: Json, kind: str, name: str) -> Json:
    """One resource of a state."""
    (found,) = [r for r in state["resources"] if r["type"] == kind and r["urn"].endswith(f"::{name}")]
    return dict(found)


def references(resource: Json) -> set[str]:
    """What a resource depends on, for order or by a property."""
    by_property = (resource.get("propertyDependencies") or {}).values()
    return {*(resource.get("dependencies") or []), *(urn for urns in by_property for urn in urns or [])}


def dangling(state: Json) -> set[str]:
    """References to resources that are not there: the CLI refuses such a state."""
    there, missing = set(), set()
    for resource in state["resources"]:
        missing |= references(resource) - there
        there.add(resource["urn"])
    return missing
