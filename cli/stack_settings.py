"""A stack's settings, read from its file without running Pulumi."""

from __future__ import annotations

from pathlib import Path

import yaml

from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.settings import load
from proxmox_swarm.settings.errors import SettingsError
from proxmox_swarm.settings.model import Settings

PROJECT = "swarm"


def read_settings(project: Path, stack: str) -> Settings:
    """The settings in ``Pulumi.<stack>.yaml``. Raises CommandError listing every problem."""
    file = project / f"Pulumi.{stack}.yaml"
    if not file.exists():
        raise CommandError(f"there is no {file.name} in {project}: a stack is declared there, see docs/settings.md")
    config = (yaml.safe_load(file.read_text()) or {}).get("config") or {}
    raw = {key.removeprefix(f"{PROJECT}:"): value for key, value in config.items() if key.startswith(f"{PROJECT}:")}
    try:
        return load(raw, project=PROJECT, stack=stack, base=project)
    except SettingsError as error:
        raise CommandError(f"{file.name} has settings that cannot be used", str(error)) from None
