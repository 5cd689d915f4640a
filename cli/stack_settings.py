"""A stack's settings, read from its file without running Pulumi."""

from __future__ import annotations

from pathlib import Path

import yaml

from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.settings import Settings, SettingsError, load, read_stack_file

PROJECT = "swarm"


def read_settings(project: Path, stack: str) -> Settings:
    """The settings in ``Pulumi.<stack>.yaml``. Raises CommandError listing every problem."""
    file = project / f"Pulumi.{stack}.yaml"
    if not file.exists():
        raise CommandError(f"there is no {file.name} in {project}: a stack is declared there, see docs/settings.md")
    try:
        return load(read_stack_file(file, PROJECT), project=PROJECT, stack=stack, base=project)
    except (SettingsError, yaml.YAMLError, ValueError) as error:
        raise CommandError(f"{file.name} has settings that cannot be used", str(error)) from None
