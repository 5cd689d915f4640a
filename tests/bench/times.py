"""Times, and a lab to take them in."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from proxmox_swarm.lab import Lab
from tests.lab.project import Project


def told(values: Sequence[float]) -> str:
    """Median, range and number of runs."""
    return f"median {statistics.median(values):5.1f} s   ({min(values):.1f} to {max(values):.1f}, {len(values)} runs)"


def ratio(what: str, above: Sequence[float], below: Sequence[float], aim: float) -> str:
    """The line that counts: one median over another, and what is aimed at."""
    return f"{what} {statistics.median(above) / statistics.median(below):.2f} (aim {aim})"


@contextmanager
def project() -> Iterator[Project]:
    """A lab of its own, of which nothing is left, with a stack file to edit."""
    work = Path(tempfile.mkdtemp(prefix="proxmox-swarm-bench-", dir="/var/tmp"))
    try:
        yield Project(work / "lab", work / "project")
    finally:
        Lab(work / "lab").down()
        shutil.rmtree(work)
