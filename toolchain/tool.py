"""What a tool is to this package, and the order in which its sources are tried."""

from __future__ import annotations

import hashlib
import platform
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from proxmox_swarm.toolchain import store
from proxmox_swarm.toolchain.errors import SourceFailed, nothing_worked
from proxmox_swarm.toolchain.gobuild import GoProgram
from proxmox_swarm.toolchain.store import Report

INSTALLED = "installed already"


class Tool(ABC):
    """One tool: a directory of programs that comes from this machine, a release, or a build."""

    title: ClassVar[str]

    @property
    @abstractmethod
    def version(self) -> str:
        """The pinned version."""

    @property
    @abstractmethod
    def go_programs(self) -> Sequence[GoProgram]:
        """The programs that ``build`` builds."""

    @abstractmethod
    def installed(self) -> Path:
        """Return the directory where a person installed the tool. Raises SourceFailed, saying why it will not do."""

    @abstractmethod
    def download(self, target: Path, report: Report) -> None:
        """Put the official release's programs into ``target``. Raises SourceFailed."""

    @abstractmethod
    def build(self, target: Path, report: Report) -> None:
        """Build the programs from Go modules into ``target``. Raises SourceFailed."""

    @abstractmethod
    def check(self, directory: Path) -> None:
        """Run what was put there and compare its version. Raises SourceFailed."""

    def entry_name(self) -> str:
        """Return the name of the tool's entry in the store: the same for the same versions and build inputs."""
        digest = hashlib.sha256(f"{self.version} {platform.machine()}".encode())
        for program in self.go_programs:
            digest.update(repr((program, program.build_flags())).encode())
            for file in sorted(program.folder.iterdir()):
                digest.update(f"\0{file.name}\0".encode() + file.read_bytes())
        return f"{self.title}-{self.version}-{digest.hexdigest()[:16]}"

    def locate(self) -> Path | None:
        """Return the tool's directory if it is on this machine; uses no network and builds nothing."""
        try:
            return self.installed()
        except SourceFailed:
            return store.entry(self.entry_name())

    def obtain(self, report: Report) -> Path:
        """Download or build the tool into the store and return its directory; call it with the store locked.

        Raises ToolchainError naming every source tried when none works.
        """
        failures: list[tuple[str, str]] = []
        try:
            return self.installed()
        except SourceFailed as reason:
            failures.append((INSTALLED, str(reason)))
        made = store.entry(self.entry_name())
        if made:  # another run made it while this one waited for the lock
            return made
        sources: list[tuple[str, Callable[[Path, Report], None]]] = [
            ("official download", self.download),
            ("build from Go modules", self.build),
        ]
        for source, put in sources:
            report(f"{self.title} {self.version}: {source}")
            try:
                return store.add(self.entry_name(), lambda target, put=put: self._fill(target, put, report))  # type: ignore[misc]
            except SourceFailed as reason:
                failures.append((source, str(reason)))
                report(f"{self.title} {self.version}: {source} does not work here: {str(reason).splitlines()[0]}")
        raise nothing_worked(
            f"{self.title} {self.version}",
            failures,
            "Give this machine a way to get.pulumi.com and github.com, or Go and a Go module proxy (GOPROXY), "
            "or install the tool by hand.",
        )

    def _fill(self, target: Path, put: Callable[[Path, Report], None], report: Report) -> None:
        put(target, report)
        self.check(target)
