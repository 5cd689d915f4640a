"""The wheel: whoever installs it gets all that the packages need, without a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "proxmox_swarm"
FOLDERS = sorted(path for path in SOURCES.iterdir() if path.is_symlink())


def run(*argv: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *argv],
        cwd="/",
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a build leaves folders of its own beside what it builds."""
    copy, out = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in ("requirements", "src", *(path.name for path in FOLDERS)):
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=ignore)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    run("-m", "pip", "wheel", *options, "--wheel-dir", str(out), str(copy))
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel installs, and nothing else."""
    target = tmp_path_factory.mktemp("installed")
    options = ["--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check", "--quiet"]
    run("-m", "pip", "install", *options, "--target", str(target), str(wheel))
    return target


def files(folder: Path) -> set[str]:
    """The files below a folder that belong to the package: nothing made by running it, nothing of git's own."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in found if not any(part.startswith((".", "__pycache__")) for part in path.parts)}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_every_file_of_a_package_is_in_the_wheel(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    prefix = f"proxmox_swarm/{folder.name}/"
    assert {name.removeprefix(prefix) for name in names if name.startswith(prefix)} == files(folder.resolve())


def test_nothing_else_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    own = [name for name in names if ".dist-info/" not in name]
    folders = tuple(f"proxmox_swarm/{folder.name}/" for folder in FOLDERS)
    assert {name for name in own if not name.startswith(folders)} == {
        "proxmox_swarm/__init__.py",
        "proxmox_swarm/py.typed",
    }


def test_the_program_works_from_the_wheel_alone(installed: Path) -> None:
    code = "import proxmox_swarm.components.swarm_cluster as module; print(module.__file__)"
    assert run("-c", code, PYTHONPATH=str(installed)).startswith(str(installed))


@pytest.mark.parametrize("module", ["proxmox_swarm.cli.main", "proxmox_swarm.lab.cli"])
def test_the_commands_work_from_the_wheel_alone(installed: Path, module: str) -> None:
    code = f"import runpy, sys; sys.argv = ['x', '--help']; runpy.run_module('{module}', run_name='__main__')"
    assert "Usage:" in run("-c", code, PYTHONPATH=str(installed))


def test_the_lab_makes_the_same_image_from_the_wheel(installed: Path) -> None:
    """The image is named by all that makes it, whether it may be executed included."""
    code = "from proxmox_swarm.lab.image.recipe import fingerprint as f; print(f())"
    assert run("-c", code, PYTHONPATH=str(installed)) == run("-c", code, PYTHONPATH=str(ROOT / "src"))


def test_the_tools_are_built_from_the_wheels_own_modules(installed: Path) -> None:
    code = (
        "from pathlib import Path; from proxmox_swarm import toolchain; "
        "print(*Path(toolchain.__file__).parent.glob('modules/*/go.mod'))"
    )
    found = run("-c", code, PYTHONPATH=str(installed)).split()
    assert len(found) == len(list((ROOT / "toolchain" / "modules").glob("*/go.mod"))) > 0
    assert all(path.startswith(str(installed)) for path in found)
