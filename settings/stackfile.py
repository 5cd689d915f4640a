"""Where raw settings come from: the strings that Pulumi hands to a program, or the stack's file itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from proxmox_swarm.settings.includes import read_yaml


def from_pulumi_config(entries: Mapping[str, object], project: str) -> dict[str, object]:
    """The project's top-level keys from all of a program's configuration (``pulumi.runtime.config.CONFIG``).

    Pulumi hands every value over as a string: JSON where it is a mapping or list. Keys of other namespaces
    (``pulumi:…``, a provider's) are left out; keys nobody knows stay, so that they can be refused by name.
    """
    prefix = f"{project}:"
    return {name.removeprefix(prefix): _decode(value) for name, value in entries.items() if name.startswith(prefix)}


def read_stack_file(file: Path, project: str) -> dict[str, object]:
    """The project's top-level keys from ``Pulumi.<stack>.yaml``, for what runs without Pulumi.

    Raises OSError, yaml.YAMLError, and ValueError where the file is no stack file.
    """
    content = read_yaml(file)
    config = content.get("config", {}) if isinstance(content, dict) else None
    if not isinstance(config, dict):
        raise ValueError(f"{file} is not a stack's settings file: it has no mapping under config")
    prefix = f"{project}:"
    return {name.removeprefix(prefix): value for name, value in config.items() if name.startswith(prefix)}


def _decode(value: object) -> object:
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        decoded: object = json.loads(value)
    except ValueError:
        return value
    return decoded
