"""Real machines: systemd-nspawn containers that boot, network and power off as cloud virtual machines do.

Everything a machine is made of (mounts, network namespace, loop devices, processes) belongs to the namespaces of the
process that runs `Machines`, so the kernel takes all of it away when that process dies. What the kernel keeps, cgroup
directories and raised limits, `clean` takes away.
"""

from proxmox_swarm.lab.machines.agent import AgentError, AgentNotRunning
from proxmox_swarm.lab.machines.runtime import MachineError, Machines, clean
from proxmox_swarm.lab.machines.spec import DiskSpec, MachineSpec, NicSpec

__all__ = [
    "AgentError",
    "AgentNotRunning",
    "DiskSpec",
    "MachineError",
    "MachineSpec",
    "Machines",
    "NicSpec",
    "clean",
]
