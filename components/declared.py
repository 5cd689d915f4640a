"""The stack's configuration, handed to settings as plain values."""

from __future__ import annotations

import json
from pathlib import Path

import pulumi
import pulumi.runtime

from proxmox_swarm.settings import load
from proxmox_swarm.settings.errors import SettingsError
from proxmox_swarm.settings.model import Settings


def declared() -> Settings:
    """Everything this stack declares under the project's name.

    Raises pulumi.RunError listing every problem: Pulumi prints it without a traceback, in preview as well.
    """
    prefix = f"{pulumi.get_project()}:"
    raw = {
        key.removeprefix(prefix): _value(text)
        for key, text in pulumi.runtime.config.CONFIG.get().items()
        if key.startswith(prefix)
    }
    try:
        return load(raw, project=pulumi.get_project(), stack=pulumi.get_stack(), base=Path.cwd())
    except SettingsError as error:
        raise pulumi.RunError(str(error)) from None


def _value(text: str) -> object:
    """Pulumi hands objects over as JSON and plain values as text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
