"""A plain `pulumi up` that is killed, and the command for that: on a stack that is not the lab's own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from proxmox_swarm.lab import Lab
from tests.lab.support import ROOT

NODES = {
    "solo-1": {"pool": "app", "host": "pve01", "id": 6100, "ip": 160, "data": 5},
    "solo-2": {"pool": "infra", "host": "pve02", "id": 6101, "ip": 161},
}
UP = ["pulumi", "up", "--yes", "--skip-preview", "--stack", "solo", "--non-interactive"]


class Solo:
    """One manager and one worker, in a project folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.lab = Lab(folder / "lab")
        self.project = folder / "project"
        self.project.mkdir()
        for entry in ROOT.iterdir():
            if not entry.name.startswith(("Pulumi.lab", "Pulumi.prod", ".git", ".lab")):
                (self.project / entry.name).symlink_to(entry)
        content = yaml.safe_load((ROOT / "Pulumi.lab.yaml").read_text())
        content["config"]["swarm:nodes"] = NODES
        (self.project / "Pulumi.solo.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = self.lab.exec(words, check=False, cwd=self.project, timeout=300)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def killed_when(self, condition: Callable[[], bool]) -> None:
        """`pulumi up`, its CLI alone killed at a moment."""
        process = subprocess.Popen(
            self.lab.command(UP),
            cwd=self.project,
            env=self.lab.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        limit = time.monotonic() + 120
        while not condition():
            assert process.poll() is None and time.monotonic() < limit, "the moment never came"
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)  # nsenter, unshare and sh became the CLI: each executes the next
        process.wait()

    def machines(self) -> dict[str, str]:
        return {machine["name"]: machine["status"] for machine in self.lab.status()["machines"]}


@pytest.fixture(scope="module")
def solo() -> Iterator[Solo]:
    folder = Path(tempfile.mkdtemp(prefix="proxmox-swarm-repair-", dir="/var/tmp"))
    made = Solo(folder)
    try:
        made.lab.up()
        made.run("pulumi", "stack", "init", "solo", "--non-interactive")
        yield made
    finally:
        made.lab.down(purge=True)
        shutil.rmtree(folder)


def plugins(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if "pulumi" in command and (entry / "cwd").readlink() == folder:
                found.append(command)
        except OSError:
            continue
    return found


def test_one_command_and_the_next_up_goes_on(solo: Solo) -> None:
    solo.lab.faults.add(
        "slow", task="resize", host="pve02", seconds=5
    )  # the machine is there, and its creation is not done
    solo.killed_when(lambda: "solo-2" in solo.machines())
    refused = solo.run(*UP, check=False)
    assert refused.returncode != 0 and "currently locked" in refused.stdout + refused.stderr
    assert plugins(solo.project), "they go on working when the CLI is killed"

    said = solo.run("proxmox-swarm", "repair", "--stack", "solo").stdout
    assert "released: the process that held it is dead" in said and "next: pulumi up -s solo" in said
    (removed,) = [line for line in said.splitlines() if "half-made machines removed" in line]
    assert "solo-2" in removed and "solo-2" not in solo.machines()
    assert plugins(solo.project) == []

    solo.run(*UP)
    assert solo.machines() == {"solo-1": "running", "solo-1-data": "stopped", "solo-2": "running"}
    solo.run("pulumi", "refresh", "--yes", "--skip-preview", "--expect-no-changes", "--stack", "solo")
    solo.run(*UP, "--expect-no-changes")


def test_repairing_what_is_whole_changes_nothing(solo: Solo) -> None:
    before = solo.machines()
    said = solo.run("proxmox-swarm", "repair", "--stack", "solo").stdout
    assert "lock" not in said and "removed" not in said
    assert solo.machines() == before
    solo.run(*UP, "--expect-no-changes")
