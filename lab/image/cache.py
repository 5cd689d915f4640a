"""Keeps built images: one directory a recipe, made under a lock and renamed into place when whole."""

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxmox_swarm.lab.image import build, recipe

LOCK_TIMEOUT = 900.0
UNUSED_FOR = 14 * 86400.0


class ImageError(RuntimeError):
    """The machine image cannot be had."""


@dataclass(frozen=True)
class Image:
    """A raw ext4 image: where it is, the SHA-512 of its bytes (hex) and its virtual size in whole GiB."""

    path: Path
    sha512: str
    size_gib: int


def cache_root() -> Path:
    """``$XDG_CACHE_HOME/proxmox-swarm/image``, by default below ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "proxmox-swarm" / "image"


def ensure(report: Callable[[str], None]) -> Image:
    """The image of the current recipe, built first when the cache lacks it (one to two minutes, as root).

    ``report`` gets progress lines with the seconds since the build began. Safe to call from several processes and to
    kill: a half-made image is never seen. Raises `ImageError`.
    """
    directory = cache_root() / recipe.fingerprint()
    if not directory.is_dir():
        if os.geteuid() != 0:
            raise ImageError("the machine image is not built yet, and building it needs root: run this with sudo")
        with _locked(cache_root(), report):
            if not directory.is_dir():
                _build(directory, report)
                _drop_unused(directory)
    image = directory / build.IMAGE
    if os.access(image, os.W_OK):
        image.touch()  # the last use; see _drop_unused
    return Image(image, (directory / build.SHA512).read_text().strip(), image.stat().st_size // build.GIB)


def docker_cli() -> Path:
    """The image's Docker client (26.1), copied out so that it runs on this machine. Raises `ImageError`."""
    path = cache_root() / recipe.fingerprint() / build.DOCKER
    if not path.is_file():
        raise ImageError(f"no Docker client at {path}: the machine image it comes from is not built yet")
    return path


def _build(directory: Path, report: Callable[[str], None]) -> None:
    start = time.monotonic()

    def step(text: str) -> None:
        report(f"image     {text:<60} {time.monotonic() - start:4.0f} s")

    with tempfile.TemporaryDirectory(prefix="building-", dir=directory.parent, ignore_cleanup_errors=True) as work:
        made = Path(work) / "image"
        made.mkdir()
        try:
            build.build(Path(work) / "root", made, step)
        except build.BuildError as error:
            raise ImageError(str(error)) from error
        digest = hashlib.sha512()
        with (made / build.IMAGE).open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
        (made / build.SHA512).write_text(digest.hexdigest() + "\n")
        made.rename(directory)
    step(f"ready: {directory}")


def _drop_unused(current: Path) -> None:
    """Removes images of other recipes that no lab has asked for lately; each takes 600 MB."""
    for image in current.parent.glob(f"*/{build.IMAGE}"):
        if image.parent != current and time.time() - image.stat().st_mtime > UNUSED_FOR:
            shutil.rmtree(image.parent, ignore_errors=True)


@contextmanager
def _locked(root: Path, report: Callable[[str], None]) -> Iterator[None]:
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        deadline = time.monotonic() + LOCK_TIMEOUT
        waiting = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ImageError(f"another process has held {root / 'lock'} for {LOCK_TIMEOUT:.0f} s") from None
                if not waiting:
                    report("image     waiting for another process that builds it")
                    waiting = True
                time.sleep(0.5)
        for stale in root.glob("building-*"):  # of a build that was killed; nobody else can be building now
            shutil.rmtree(stale, ignore_errors=True)
        yield
