"""The good settings that tests start from: production's, read from its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxmox_swarm.settings import read_stack_file

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def repository() -> Path:
    return REPOSITORY


@pytest.fixture
def good() -> dict[str, Any]:
    """A fresh copy of production's settings."""
    return read_stack_file(REPOSITORY / "Pulumi.prod.yaml", "swarm")
