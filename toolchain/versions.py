"""The pinned versions, read from versions.toml beside this file."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Versions:
    """Versions without a leading ``v``; the comments of versions.toml say what each one is."""

    pulumi: str
    language_python: str
    proxmoxve: str
    terraform_provider_proxmox: str
    terraform_bridge: str


@cache
def pinned() -> Versions:
    """Return the versions this checkout is made for."""
    data = tomllib.loads((FOLDER / "versions.toml").read_text(encoding="utf-8"))
    return Versions(
        pulumi=data["pulumi"]["version"],
        language_python=data["pulumi"]["language-python"],
        proxmoxve=data["proxmoxve"]["version"],
        terraform_provider_proxmox=data["proxmoxve"]["terraform-provider-proxmox"],
        terraform_bridge=data["proxmoxve"]["terraform-bridge"],
    )


def parse(text: str) -> tuple[int, ...]:
    """Return the numbers of the first dotted version in a text: ``(3, 259, 0)`` for ``v3.259.0``.

    Raises ``ValueError`` when the text holds none.
    """
    match = re.search(r"(\d+(?:\.\d+)+)", text)
    if match is None:
        raise ValueError(f"no version in {text!r}")
    return tuple(int(number) for number in match[1].split("."))
