from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxmox_swarm.lab import Lab
from tests.lab.project import Project
from tests.lab.support import Site


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        raise pytest.UsageError(
            "tests/lab start real machines and need root: sudo make test, or pytest tests/unit tests/contract"
        )


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A lab of this module's own: nothing of it is left afterwards, and one that is up already is not disturbed."""
    folder = Path(tempfile.mkdtemp(prefix="proxmox-swarm-test-", dir="/var/tmp"))
    try:
        yield Site(folder)
    finally:
        lab = Lab(folder)
        violations = lab.stats()["violations"] if lab.running() else []
        lab.down()
        shutil.rmtree(folder)
    assert violations == []  # every answer of the lab's API was as the official schema has it


@pytest.fixture(scope="module")
def cluster(site: Site) -> Site:
    """The seven nodes, up."""
    site.make("up")
    return site


@pytest.fixture(scope="module")
def swarm(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The seven nodes, up, from a project folder whose stack file the tests edit."""
    project = Project(site.folder, tmp_path_factory.mktemp("declared") / "project")
    project.make("up")
    return project
