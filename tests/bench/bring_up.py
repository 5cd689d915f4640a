"""`make up` from nothing, and a preview without changes.

a/b   `make up` from an empty lab (tools and image there), against the shortest shell script on the same machines
c/d   a preview without changes, against the preview of an empty Pulumi program
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from proxmox_swarm.lab import Lab
from tests.bench import floor
from tests.bench.times import told
from tests.lab.support import Site

PREVIEWS = 3
EMPTY = {
    "Pulumi.yaml": "name: empty\nruntime: {name: python}\n",
    "__main__.py": "",
}


def main(given: argparse.Namespace) -> None:
    """`make up` from nothing and a preview without changes, against what cannot be saved; and where the time goes."""
    times: dict[str, list[float]] = {"a": [], "b": [], "c": [], "d": []}
    phases: list[str] = []
    program: list[float] = []
    for number in range(1, given.rounds + 1):
        work = Path(tempfile.mkdtemp(prefix="proxmox-swarm-bench-", dir="/var/tmp"))
        site = Site(work / "lab")
        try:
            started = time.monotonic()
            shown = site.make("up").stdout
            times["a"].append(time.monotonic() - started)
            phases = [line for line in shown.splitlines() if line.endswith(" s")]
            _empty_project(site, work / "empty")
            for _ in range(PREVIEWS):
                times["c"].append(_timed(site, "pulumi", "preview", "--stack", "lab", "--expect-no-changes"))
                times["d"].append(_timed(site, "pulumi", "preview", "--stack", "empty", "--cwd", str(work / "empty")))
                program.append(_timed(site, "python", "-c", "import proxmox_swarm.components.outputs"))
            site.make("down")
            (work / "floor").mkdir()
            measured = floor.measure(work / "floor", "lab", work / "lab")
            times["b"].append(measured["total"])
        finally:
            Lab(site.folder).down()
            shutil.rmtree(work)
        print(f"round {number}: " + "  ".join(f"{key} {values[-1]:.1f} s" for key, values in times.items()), flush=True)
    middle = {key: statistics.median(values) for key, values in times.items()}
    print(f"a  make up, warm            {told(times['a'])}")
    print(f"b  floor, shell script      {told(times['b'])}")
    print(f"c  preview without changes  {told(times['c'])}")
    print(f"d  empty program's preview  {told(times['d'])}")
    print(f"a/b {middle['a'] / middle['b']:.2f} (aim 1.5)   c/d {middle['c'] / middle['d']:.2f} (aim 1.5)")
    print("where the time of the last `make up` went:")
    print("\n".join(f"   {line}" for line in phases))
    print(f"of a preview, importing the program: {statistics.median(program):.2f} s")


def _empty_project(site: Site, folder: Path) -> None:
    folder.mkdir()
    for name, text in EMPTY.items():
        (folder / name).write_text(text)
    site.pulumi("stack", "init", "empty", "--cwd", str(folder), "--no-select")


def _timed(site: Site, *argv: str) -> float:
    started = time.monotonic()
    site.exec(*argv, *(["--non-interactive"] if argv[0] == "pulumi" else []))
    return time.monotonic() - started
