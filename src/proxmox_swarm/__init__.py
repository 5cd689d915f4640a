"""Docker Swarm on Proxmox VE, from the virtual machine to the running stack, in one Pulumi graph.

The sub-packages live in folders at the top of the repository and are linked here, so that every one of them has one
import name that cannot clash with another project's: ``proxmox_swarm.<folder>`` (docs/decisions/001).
"""
