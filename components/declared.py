"""The stack's configuration, handed to settings as plain values."""

from __future__ import annotations

from pathlib import Path

import pulumi
import pulumi.runtime

from proxmox_swarm.settings import Settings, SettingsError, from_pulumi_config, load


def declared() -> Settings:
    """Everything this stack declares under the project's name.

    Raises pulumi.RunError listing every problem: Pulumi prints it without a traceback, in preview as well.
    """
    raw = from_pulumi_config(pulumi.runtime.config.CONFIG.get(), pulumi.get_project())
    try:
        return load(raw, project=pulumi.get_project(), stack=pulumi.get_stack(), base=Path.cwd())
    except SettingsError as error:
        raise pulumi.RunError(str(error)) from None
