"""The ``proxmox-swarm`` command: what people run around ``pulumi up``, and operations that are not declarations."""
