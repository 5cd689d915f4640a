"""`make preview STACK=prod` with nothing: no lab, no network, no credentials, no state."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.lab.support import ROOT, SEVEN


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The project as it is committed or about to be, in another folder, with the environment of this one."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    target = tmp_path / "clone"
    for name in listed:
        source = ROOT / name
        if not source.exists() and not source.is_symlink():
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target / name, follow_symlinks=False)
    subprocess.run(["git", "init", "-q"], cwd=target, check=True)
    subprocess.run(["git", "add", "-A"], cwd=target, check=True)
    (target / ".venv").symlink_to(ROOT / ".venv")
    return target


def test_it_lists_every_machine_and_member_and_changes_nothing(clone: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        ["unshare", "--net", "make", "--silent", "preview", "STACK=prod"],
        cwd=clone,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for kind in ("VmLegacy", "Member", "Claim", "HostState", "FirstBoot"):
        listed = {line.split()[2] for line in done.stdout.splitlines() if f":{kind} " in line and " create" in line}
        assert set(SEVEN) <= listed, (kind, done.stdout)
    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True
    ).stdout
    changed = [line for line in status.splitlines() if not line.startswith("A ") and ".venv" not in line]
    assert changed == []
    assert list(home.iterdir()) == []
