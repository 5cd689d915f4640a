"""Read the settings, build the cluster, say what is there."""

import os

import pulumi

from proxmox_swarm.components.declared import declared
from proxmox_swarm.components.established import is_established
from proxmox_swarm.components.outputs import outputs
from proxmox_swarm.components.swarm_cluster import SwarmCluster
from proxmox_swarm.proxmox.endpoint import first_answering


async def main() -> None:
    """One stack: its settings, its cluster, its outputs."""
    settings = declared()
    cluster = SwarmCluster(
        settings.stack,
        settings,
        endpoint=first_answering(settings.proxmox.endpoints),
        established=await is_established(),
        first=os.environ.get("PROXMOX_SWARM_FIRST", "").split(),
    )
    for name, value in outputs(cluster).items():
        pulumi.export(name, value)


pulumi.run(main)
