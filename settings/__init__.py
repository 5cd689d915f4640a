"""Settings: what a stack's Pulumi.<stack>.yaml declares, checked once, every default filled in.

``load`` gives :class:`Settings`, or raises :class:`SettingsError` with every problem at once. No Pulumi in here.
"""

from proxmox_swarm.settings.errors import Problem, SettingsError
from proxmox_swarm.settings.model import Settings
from proxmox_swarm.settings.resolve import load, resolve
from proxmox_swarm.settings.stackfile import from_pulumi_config, read_stack_file

__all__ = ["Problem", "Settings", "SettingsError", "from_pulumi_config", "load", "read_stack_file", "resolve"]
