from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxmox_swarm.lab import Lab
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
        Lab(folder).down()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def cluster(site: Site) -> Site:
    """The seven nodes, up."""
    site.make("up")
    return site
