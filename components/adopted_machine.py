"""The VM of a machine that was there before: imported as it is, and of all its properties only a few are ours to change."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pulumi
import pulumi_proxmoxve as pve

from proxmox_swarm.providers.claim import Claim
from proxmox_swarm.settings.model import Node

#: Set for a preview against an empty, throw-away state, which has no way to the API that an import reads from.
NO_IMPORT = "PROXMOX_SWARM_NO_IMPORT"

#: What stays as it was made. The names are the provider's (pulumi-proxmoxve, VmLegacy); what it does not read from
#: Proxmox VE, such as ``rebootAfterUpdate``, is not among them.
AS_FOUND = (
    "acpi",
    "agent.enabled",
    "agent.timeout",
    "agent.trim",
    "agent.type",
    "amdSev",
    "audioDevice",
    "bios",
    "bootOrders",
    "cdrom",
    "clone",
    "cpu.affinity",
    "cpu.architecture",
    "cpu.flags",
    "cpu.hotplugged",
    "cpu.limit",
    "cpu.numa",
    "cpu.sockets",
    "cpu.type",
    "cpu.units",
    "description",
    "disks",
    "efiDisk",
    "hookScriptFileId",
    "hostpcis",
    "hotplug",
    "initialization",
    "keyboardLayout",
    "kvmArguments",
    "macAddresses",
    "machine",
    "memory.floating",
    "memory.hugepages",
    "memory.keepHugepages",
    "memory.shared",
    "networkDevices",
    "nodeName",
    "numas",
    "onBoot",
    "operatingSystem",
    "poolId",
    "protection",
    "rngs",
    "scsiHardware",
    "serialDevices",
    "smbios",
    "startup",
    "tabletDevice",
    "tags",
    "template",
    "tpmState",
    "usbs",
    "vga",
    "virtiofs",
    "watchdog",
)


def adopted_vm(
    name: str,
    node: Node,
    claim: Claim,
    provider: pve.Provider,
    parent: pulumi.Resource,
    after: Sequence[pulumi.Resource],
) -> pve.VmLegacy:
    """Import a VM that carries our marker already; see docs/decisions/021-adoption.md."""
    return pve.VmLegacy(
        name,
        name=node.name,
        node_name=node.host,
        vm_id=node.vm_id,
        started=True,
        stop_on_destroy=True,
        reboot_after_update=False,
        # Or each refresh would find other interfaces, those of containers, and wait long for an agent that is gone.
        agent={"wait_for_ip": {"disabled": True}},
        cpu={"cores": node.cpu},
        memory={"dedicated": round(node.memory * 1024)},
        opts=pulumi.ResourceOptions(
            parent=parent,
            provider=provider,
            depends_on=[claim, *after],
            delete_before_replace=True,
            # The provider finds the host by the id. The name must never change: another import id is another machine to
            # the engine, which would then remove this one.
            import_=None if os.environ.get(NO_IMPORT) else f"adopted/{node.vm_id}",
            replacement_trigger="adopted",  # not the image: a new one rebuilds only what was made from one
            ignore_changes=list(AS_FOUND),
        ),
    )
