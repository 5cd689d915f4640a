"""The NoCloud seed: the files a Proxmox VE cloud-init drive holds, where cloud-init looks for them without a drive."""

import shutil
from collections.abc import Mapping
from pathlib import Path

DIRECTORY = Path("var/lib/cloud/seed/nocloud")


def write(root: Path, files: Mapping[str, str]) -> None:
    """Replaces the seed of the tree at ``root``; no files, no seed."""
    directory = root / DIRECTORY
    shutil.rmtree(directory, ignore_errors=True)
    if not files:
        return
    directory.mkdir(parents=True)
    directory.chmod(0o700)
    for name, text in files.items():
        file = directory / name
        file.touch(mode=0o600)
        file.write_text(text)
