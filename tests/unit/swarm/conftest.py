from __future__ import annotations

from pathlib import Path

import pytest

from proxmox_swarm.swarm import managers
from tests.unit.swarm.world import World


@pytest.fixture(autouse=True)
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks and memories of a test are its own."""
    monkeypatch.setenv("PROXMOX_SWARM_LOCKS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(managers, "_last", {})


@pytest.fixture
def world() -> World:
    """Three managers and two workers to be, none of them in a swarm; x is a stranger."""
    return World(["a", "b", "c", "d", "e", "x"])
