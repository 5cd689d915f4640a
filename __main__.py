"""Read the settings, build the cluster, say what is there."""

import os

import pulumi

from proxmox_swarm.components.declared import declared
from proxmox_swarm.components.established import last_up
from proxmox_swarm.components.outputs import outputs
from proxmox_swarm.components.swarm_cluster import SwarmCluster
from proxmox_swarm.proxmox.endpoint import first_answering


async def main() -> None:
    """One stack: its settings, its cluster, its outputs."""
    settings = declared()
    last = await last_up()
    cluster = SwarmCluster(
        settings.stack,
        settings,
        endpoint=first_answering(settings.proxmox.endpoints),
        established=last.established,
        there=last.nodes,
        first=os.environ.get("PROXMOX_SWARM_FIRST", "").split(),
    )
    for name, value in outputs(cluster).items():
        pulumi.export(name, value)


pulumi.run(main)
