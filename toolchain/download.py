"""Downloads an official release archive, checks it, and takes the programs wanted out of it."""

from __future__ import annotations

import hashlib
import http.client
import platform
import shutil
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from proxmox_swarm.toolchain.errors import SourceFailed
from proxmox_swarm.toolchain.store import Report

CONNECT_TIMEOUT = 5.0
"""Seconds until a site counts as not reachable. Short: without internet the build comes next, and should come soon."""

READ_TIMEOUT = 60.0
"""Seconds without a byte after which a download that had begun is given up."""


@dataclass(frozen=True)
class Release:
    """A release archive (.tar.gz) and the file with the SHA-256 sums of its release."""

    archive: str
    checksums: str

    @property
    def file_name(self) -> str:
        """The name of the archive, under which the checksum file lists it."""
        return self.archive.rpartition("/")[2]


def machine(names: dict[str, str]) -> str:
    """Return what a project calls this machine: ``names`` maps ``uname -m`` to it. Raises SourceFailed if it has none."""
    try:
        return names[platform.machine()]
    except KeyError:
        raise SourceFailed(f"no release for the machine type {platform.machine()}") from None


def fetch(release: Release, programs: Collection[str], target: Path, report: Report) -> None:
    """Put ``programs`` (plain file names) from the archive into the directory ``target``, executable.

    Raises SourceFailed when the site cannot be reached, the checksum differs, or a program is missing.
    """
    # The small file first: a site that cannot be reached shows here, within CONNECT_TIMEOUT.
    expected = _expected_sum(release)
    with tempfile.NamedTemporaryFile(suffix=".tar.gz") as archive:
        actual = _save(release.archive, archive, report)
        if actual != expected:
            raise SourceFailed(
                f"{release.archive} has SHA-256 {actual}, but {release.checksums} says {expected}: not used"
            )
        archive.seek(0)
        _extract(archive, release.file_name, programs, target)


def _open(url: str, timeout: float) -> http.client.HTTPResponse:
    try:
        return cast(http.client.HTTPResponse, urllib.request.urlopen(url, timeout=timeout))  # noqa: S310 - our constants
    except (OSError, http.client.HTTPException) as error:
        raise SourceFailed(f"{url}: {getattr(error, 'reason', None) or error}") from error


def _expected_sum(release: Release) -> str:
    with _open(release.checksums, CONNECT_TIMEOUT) as response:
        try:
            text = response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            raise SourceFailed(f"{release.checksums}: {error}") from error
    for line in text.splitlines():
        digest, _, name = line.strip().partition(" ")
        if name.strip().lstrip("*") == release.file_name:
            return digest.lower()
    raise SourceFailed(f"{release.checksums} has no line for {release.file_name}")


def _save(url: str, file: IO[bytes], report: Report) -> str:
    digest = hashlib.sha256()
    started = last = time.monotonic()
    done = 0
    with _open(url, READ_TIMEOUT) as response:
        size = int(response.headers.get("Content-Length") or 0)
        while True:
            try:
                block = response.read(1 << 20)
            except (OSError, http.client.HTTPException) as error:
                raise SourceFailed(f"{url}: broke off after {done >> 20} MiB: {error}") from error
            if not block:
                break
            file.write(block)
            digest.update(block)
            done += len(block)
            if time.monotonic() - last >= 5:
                last = time.monotonic()
                of = f" of {size >> 20}" if size else ""
                report(f"downloading {url}: {done >> 20}{of} MiB ({last - started:.0f} s)")
    if size and done != size:
        raise SourceFailed(f"{url}: broke off after {done} of {size} bytes")
    file.flush()
    return digest.hexdigest()


def _extract(archive: IO[bytes], name: str, programs: Collection[str], target: Path) -> None:
    missing = set(programs)
    try:
        with tarfile.open(fileobj=archive, mode="r:gz") as tar:
            for member in tar:
                # Only file contents are taken, under our own names: nothing in an archive can reach outside `target`.
                program = Path(member.name).name
                source = tar.extractfile(member) if member.isfile() and program in missing else None
                if source is None:
                    continue
                with source, (target / program).open("wb") as copy:
                    shutil.copyfileobj(source, copy)
                (target / program).chmod(0o755)
                missing.discard(program)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise SourceFailed(f"{name} cannot be unpacked: {error}") from error
    if missing:
        raise SourceFailed(f"{name} does not hold {', '.join(sorted(missing))}")
