"""The stack's settings as people write them: one model a top-level key.

These models hold what is written and nothing else: no defaults from other keys, no names looked up. Descriptions,
accepted values and examples here are what errors quote and what docs/settings.md is made from.
"""

from proxmox_swarm.settings.schema_machines import Image, Network, Node, Pool, Proxmox, ProxmoxHost
from proxmox_swarm.settings.schema_swarm import (
    Access,
    AptCache,
    Cluster,
    Deadlines,
    Dns,
    Docker,
    Guards,
    Os,
    Rolling,
    Rotate,
)

__all__ = [
    "Access",
    "AptCache",
    "Cluster",
    "Deadlines",
    "Dns",
    "Docker",
    "Guards",
    "Image",
    "Network",
    "Node",
    "Os",
    "Pool",
    "Proxmox",
    "ProxmoxHost",
    "Rolling",
    "Rotate",
]
