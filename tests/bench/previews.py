"""What a preview costs with many nodes."""

from __future__ import annotations

import argparse
import shutil
import time

from tests.bench import stack, times
from tests.lab.project import Project

ALLOWED = 3.0
SIZES = {7: None, 30: stack.thirty()}


def main(given: argparse.Namespace) -> None:
    """Preview of a stack of 30 nodes against one of 7.

    Of an empty state, so that every resource is there to be checked and shown, and no machine is needed.
    """
    with times.project() as project:
        project.run("lab", "up")
        # From a folder with no stack file: the CLI would write the salt of its encryption into it.
        bare = project.folder / "bare"
        bare.mkdir()
        shutil.copy(project.project / "Pulumi.yaml", bare)
        project.pulumi("stack", "init", "lab", "--no-select", "--cwd", str(bare))
        found: dict[int, list[float]] = {size: [] for size in SIZES}
        for _ in range(given.rounds):
            for size, nodes in SIZES.items():
                project.declare(**({"nodes": nodes} if nodes else {}))
                found[size].append(_timed(project, size))
    for size, values in found.items():
        print(f"   {size:2} nodes: {times.told(values)}")
    print(times.ratio("30/7", found[30], found[7], ALLOWED))


def _timed(project: Project, size: int) -> float:
    begun = time.monotonic()
    steps = project.steps()
    taken = time.monotonic() - begun
    members = sum(key.startswith("Member ") for key in steps)
    assert members == size, steps
    return taken
