"""Builds a tool from Go modules; needs a Go toolchain and a Go module proxy, nothing else."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from proxmox_swarm.toolchain import process, versions
from proxmox_swarm.toolchain.errors import SourceFailed
from proxmox_swarm.toolchain.store import Report

OLDEST_GO = (1, 21)
"""From this version on Go fetches the newer one that go.mod asks for by itself, from the Go module proxy."""

BUILD_DEADLINE = 5400.0
"""Seconds for one program. The largest takes 4 minutes on two cores; a slow network and one core need more."""

REPORT_EVERY = 5.0
"""Seconds between two lines of progress."""

USUAL_PLACES = ("/usr/local/go/bin/go", "/usr/lib/go/bin/go", "/usr/lib/go-*/bin/go", "~/go/bin/go", "~/sdk/go*/bin/go")

_ENVIRONMENT = {
    "CGO_ENABLED": "0",  # static programs, and no C compiler needed
    "GOWORK": "off",  # a go.work above this checkout must not change what is built
    # Some distributions set this to "local"; a Go older than go.mod asks for could not fetch the newer one then.
    "GOTOOLCHAIN": "auto",
}


@dataclass(frozen=True)
class GoProgram:
    """One program to build: ``package`` as seen from the module in modules/<module>, with linker-set ``variables``."""

    name: str
    module: str
    package: str
    variables: tuple[tuple[str, str], ...]
    tags: str = ""

    @property
    def folder(self) -> Path:
        """The module: its go.mod and go.sum pin every dependency and its checksum."""
        return versions.FOLDER / "modules" / self.module

    def build_flags(self) -> list[str]:
        """The flags of ``go build`` and ``go list`` that decide what goes into the program."""
        # readonly: go.mod and go.sum are the lock; a build never changes them. No VCS stamp: Go would ask git about this
        # checkout, which fails where the checkout belongs to another user (sudo).
        return ["-mod=readonly", "-trimpath", "-buildvcs=false", *(["-tags", self.tags] if self.tags else [])]

    def linker_flags(self) -> str:
        """The value of ``-ldflags``."""
        return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in self.variables)])


def find_go() -> str:
    """Return the path of the newest usable ``go``, from PATH and the usual places.

    Raises SourceFailed when there is none or only too old ones.
    """
    seen: dict[str, tuple[int, ...]] = {}
    for candidate in _candidates():
        try:
            seen[candidate] = versions.parse(process.run([candidate, "version"], deadline=60))
        except (SourceFailed, ValueError):
            continue
    oldest = ".".join(str(number) for number in OLDEST_GO)
    if not seen:
        raise SourceFailed(
            f"Go is not installed (looked in PATH, {', '.join(USUAL_PLACES)}); {oldest} or newer is needed"
        )
    best = max(seen, key=lambda path: seen[path])
    if seen[best] < OLDEST_GO:
        found = ".".join(str(number) for number in seen[best])
        raise SourceFailed(f"Go at {best} is {found}; {oldest} or newer is needed (Debian 12's own package is too old)")
    return best


def _candidates() -> Iterator[str]:
    on_path = shutil.which("go")
    if on_path:
        yield on_path
    for place in USUAL_PLACES:
        path = Path(place).expanduser()
        matches = path.parent.parent.parent.glob(str(path.relative_to(path.parent.parent.parent)))
        yield from (str(match) for match in matches if str(match) != on_path)


def build(program: GoProgram, target: Path, report: Report) -> None:
    """Build ``program`` into the directory ``target``, reporting every few seconds.

    Raises SourceFailed with Go's own words when it cannot.
    """
    go = find_go()
    downloaded = compiled = 0

    def on_line(line: str) -> bool:
        nonlocal downloaded, compiled
        if line.startswith("go: downloading "):
            downloaded += 1
            return True
        # `go build -v` names each package it compiles on a line of its own.
        if re.fullmatch(r"[\w.~/-]+", line):
            compiled += 1
            return True
        return False

    report(f"{program.name}: fetching Go modules")
    packages = process.run(
        [go, "list", "-deps", *program.build_flags(), program.package],
        cwd=program.folder,
        env=_ENVIRONMENT,
        deadline=BUILD_DEADLINE,
        on_error_line=on_line,
        every=REPORT_EVERY,
        tick=lambda elapsed: report(f"{program.name}: fetching Go modules, {downloaded} so far ({elapsed:.0f} s)"),
    )
    total = len(packages.splitlines())
    compiled = 0
    process.run(
        [
            *(go, "build", "-v", *program.build_flags(), "-ldflags", program.linker_flags()),
            *("-o", str(target / program.name), program.package),
        ],
        cwd=program.folder,
        env=_ENVIRONMENT,
        deadline=BUILD_DEADLINE,
        on_error_line=on_line,
        every=REPORT_EVERY,
        tick=lambda elapsed: report(
            f"{program.name}: compiling and linking, {compiled} of up to {total} packages ({elapsed:.0f} s)"
        ),
    )


def module_directory(program: GoProgram, module: str) -> Path:
    """Return where Go keeps the (read-only) files of a module that ``program`` is built from."""
    found = process.run(
        [find_go(), "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", module],
        cwd=program.folder,
        env=_ENVIRONMENT,
        deadline=600,
    )
    return Path(found.strip())
