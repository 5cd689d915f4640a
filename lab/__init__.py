"""The embedded lab: a Proxmox VE API on this machine with real machines behind it.

``Lab(directory)`` is one lab; everything it makes is in that directory and in namespaces of its own.
"""

from proxmox_swarm.lab.lab import Lab
from proxmox_swarm.lab.namespace import LabError
from proxmox_swarm.lab.paths import Paths, default_directory
from proxmox_swarm.lab.workspace import environment

__all__ = ["Lab", "LabError", "Paths", "default_directory", "environment"]
