"""Programs that run on a node: one file each, standard library only, ``main(args) -> result`` in plain JSON values.

They are sent over SSH and run by the node's own python3; nothing is installed. Only :mod:`proxmox_swarm.host.script`
reads them.
"""
