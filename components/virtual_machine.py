"""``VirtualMachine``: one machine on Proxmox VE, from its claim to the moment it can be logged in to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_proxmoxve as pve

from proxmox_swarm.components.adopted_machine import adopted_vm
from proxmox_swarm.providers.claim import Claim
from proxmox_swarm.providers.first_boot import FirstBoot
from proxmox_swarm.settings.model import DataDisk, Node, Settings

BOOT_DISK = "scsi0"
DATA_DISK = "scsi1"
#: The provider's default is the host's own drive, which takes a right of its own and is tried first at boot.
NO_CDROM = {"file_id": "none"}


@dataclass(frozen=True)
class VirtualMachineArgs:
    """What a machine is made of."""

    settings: Settings
    node: Node
    #: None, as the image, for a machine that is adopted: it has booted long ago
    first_boot: FirstBoot | None
    provider: pve.Provider
    #: the image on the node's host, ready to be imported
    image: pve.download.File | None
    #: machines (bring-up) or members (later runs) that come before this one
    after: Sequence[pulumi.Resource]


class VirtualMachine(pulumi.ComponentResource):
    """A machine: its claim, its frozen first boot, the VM, and a data disk that outlives it.

    Output: ``machine``, the VM's id, unknown in preview exactly when the VM is being replaced.
    A new image, another address or a higher ``generation`` replaces the VM; nothing else does. An adopted machine is claimed
    and imported instead, and only a higher ``generation`` replaces it.
    """

    machine: pulumi.Output[str]

    def __init__(self, name: str, args: VirtualMachineArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("swarm:index:VirtualMachine", name, None, opts)
        node = args.node
        claim = self._claim(name, args)
        if args.first_boot is None or args.image is None:
            self.vm = adopted_vm(name, node, claim, args.provider, self, args.after)
        else:
            self.vm = self._make(name, args, claim, args.first_boot, args.image)
        self.machine = self.vm.id
        self.register_outputs({"machine": self.machine})

    def _claim(self, name: str, args: VirtualMachineArgs) -> Claim:
        settings, node = args.settings, args.node
        return Claim(
            name,
            node=node.name,
            vm_ids=[node.vm_id, *([node.data.holder_id] if node.data else [])],
            addresses=[nic.address for nic in node.nics],
            endpoints=list(settings.proxmox.endpoints),
            insecure=settings.proxmox.insecure,
            adopted=_description(settings, node) if node.adopted else None,
            rebuilt=node.generation > 1,
            discard=list(node.discard),
            # The claim is never replaced, so protecting it refuses destroy and removal, and still lets the VM be rebuilt.
            opts=pulumi.ResourceOptions(parent=self, protect=settings.proxmox.protect),
        )

    def _make(
        self, name: str, args: VirtualMachineArgs, claim: Claim, first_boot: FirstBoot, image: pve.download.File
    ) -> pve.VmLegacy:
        settings, node = args.settings, args.node
        snippet = pve.FileLegacy(
            name,
            content_type="snippets",
            datastore_id=settings.proxmox.hosts[node.host].snippets,
            node_name=node.host,
            source_raw={
                "data": first_boot.user_data,
                "file_name": pulumi.Output.concat(f"{settings.marker}-{node.name}-", first_boot.digest, ".yaml"),
            },
            opts=pulumi.ResourceOptions(parent=self, provider=args.provider, depends_on=[claim]),
        )
        before = [claim, *args.after]
        disks = [_boot_disk(node, image.id)]
        if node.data:
            holder = self._holder(name, args, node.data, claim.marker, before)
            disks.append(_attached(node.data, holder))
        return pve.VmLegacy(
            name,
            name=node.name,
            description=claim.marker,
            node_name=node.host,
            vm_id=node.vm_id,
            tags=[settings.marker],
            pool_id=settings.proxmox.resource_pool,
            on_boot=True,
            started=True,
            stop_on_destroy=True,
            reboot_after_update=False,  # the provider would power-cycle all at once; the member does it in rolling order
            scsi_hardware="virtio-scsi-single",
            # Readiness is awaited where a node is first logged in to; the provider's wait would hold the lane meanwhile.
            agent={"enabled": True, "trim": True, "wait_for_ip": {"disabled": True}},
            cpu={"cores": node.cpu, "type": "x86-64-v2-AES"},
            memory={"dedicated": round(node.memory * 1024)},
            operating_system={"type": "l26"},
            serial_devices=[{}],
            boot_orders=[BOOT_DISK],
            cdrom=NO_CDROM,
            disks=disks,
            network_devices=[
                {"bridge": nic.bridge, "vlan_id": nic.vlan, "mac_address": nic.mac, "mtu": nic.mtu} for nic in node.nics
            ],
            initialization={
                "datastore_id": node.datastore,
                "user_data_file_id": snippet.id,
                "ip_configs": [
                    {"ipv4": {"address": f"{nic.address}/{nic.prefix}", "gateway": nic.gateway}} for nic in node.nics
                ],
            },
            opts=pulumi.ResourceOptions(
                parent=self,
                provider=args.provider,
                depends_on=[image, *before],
                delete_before_replace=True,
                replacement_trigger=_rebuild_trigger(settings, node),
                ignore_changes=[
                    *(f"disks[{index}].speed" for index in range(len(disks))),  # pulumi-proxmoxve issue 664
                    *(
                        ["disks[1].size"] if node.data else []
                    ),  # the holder resizes it; the provider refuses to do it here
                ],
            ),
        )

    def _holder(
        self,
        name: str,
        args: VirtualMachineArgs,
        data: DataDisk,
        marker: pulumi.Output[str],
        before: Sequence[pulumi.Resource],
    ) -> pve.VmLegacy:
        """The VM that owns the data disk and is never started: Proxmox VE removes a disk only with the VM that owns it."""
        settings, node = args.settings, args.node
        return pve.VmLegacy(
            data.holder_name,
            name=data.holder_name,
            description=marker,
            node_name=node.host,
            vm_id=data.holder_id,
            tags=[settings.marker],
            pool_id=settings.proxmox.resource_pool,
            on_boot=False,
            started=False,
            scsi_hardware="virtio-scsi-single",
            cpu={"cores": 1},
            memory={"dedicated": 64},
            operating_system={"type": "l26"},
            cdrom=NO_CDROM,
            disks=[{"interface": BOOT_DISK, "datastore_id": data.datastore, "size": data.size, "discard": "on"}],
            opts=pulumi.ResourceOptions(
                parent=self,
                provider=args.provider,
                depends_on=list(before),
                protect=settings.proxmox.protect,
                # It holds the claim's word, which stays; while the claim changes, a preview would show an update of it.
                ignore_changes=["disks[0].speed", "description"],
            ),
        )


def _description(settings: Settings, node: Node) -> dict[str, Any]:
    """By what the claim knows a machine that was there before."""
    return {
        "cpu": node.cpu,
        "memory": round(node.memory * 1024),
        "tag": settings.marker,
        "nics": [
            {
                "bridge": nic.bridge,
                "vlan": nic.vlan,
                "address": nic.address,
                "mac": nic.mac if nic.declared_mac else None,
            }
            for nic in node.nics
        ],
    }


def _boot_disk(node: Node, image_id: pulumi.Input[str]) -> dict[str, Any]:
    return {
        "interface": BOOT_DISK,
        "datastore_id": node.datastore,
        "import_from": image_id,
        "size": node.boot,
        "discard": "on",
        "iothread": True,
    }


def _attached(data: DataDisk, holder: pve.VmLegacy) -> dict[str, Any]:
    return {
        "interface": DATA_DISK,
        "datastore_id": data.datastore,
        "path_in_datastore": holder.disks.apply(lambda disks: disks[0]["path_in_datastore"]),
        "file_format": holder.disks.apply(lambda disks: disks[0]["file_format"]),
        "size": data.size,
        "serial": data.serial,
        "discard": "on",
        "iothread": True,
    }


def _rebuild_trigger(settings: Settings, node: Node) -> str:
    """What a machine cannot take over while it lives. Each part is visible, so a preview shows why it rebuilds."""
    nics = ",".join(f"{nic.address}/{nic.prefix}@{nic.vlan}" for nic in node.nics)
    return f"image {settings.proxmox.image.sha512[:12]} generation {node.generation} host {node.host} nics {nics}"
