"""The Pulumi resource plugin for Proxmox VE."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from proxmox_swarm.toolchain import download, gobuild, process, store, versions
from proxmox_swarm.toolchain.errors import SourceFailed
from proxmox_swarm.toolchain.gobuild import GoProgram
from proxmox_swarm.toolchain.store import Report
from proxmox_swarm.toolchain.tool import Tool

PROGRAM = "pulumi-resource-proxmoxve"
_RELEASES = "https://github.com/muhlba91/pulumi-proxmoxve/releases/download"


def pulumi_home() -> Path:
    """Return the home of the CLI as the CLI finds it."""
    return Path(os.environ.get("PULUMI_HOME") or "~/.pulumi").expanduser()


class ProxmoxvePlugin(Tool):
    """A directory in the shape of the CLI's ``plugins`` directory."""

    title = "resource-proxmoxve"

    @property
    def version(self) -> str:
        """The version of the plugin and of its Python SDK."""
        return versions.pinned().proxmoxve

    @property
    def program(self) -> Path:
        """Where the program is, relative to the ``plugins`` directory."""
        return Path(f"resource-proxmoxve-v{self.version}") / PROGRAM

    @property
    def go_programs(self) -> Sequence[GoProgram]:
        """Our own small main over the same parts as the official plugin; its module cannot be fetched by version."""
        return (GoProgram(name=PROGRAM, module="proxmoxve", package=".", variables=(("main.Version", self.version),)),)

    def installed(self) -> Path:
        """Return the ``plugins`` directory of the CLI's home if it holds exactly this version."""
        plugins = pulumi_home() / "plugins"
        program = plugins / self.program
        if not os.access(program, os.X_OK):
            raise SourceFailed(f"no {program}")
        if program.parent.with_name(f"{program.parent.name}.partial").exists():
            raise SourceFailed(f"{program.parent} is an unfinished download of the CLI")
        # A link that `link_plugins` made is not an installation: it may lead to a build of an older checkout.
        if program.resolve().is_relative_to(store.root().resolve()):
            raise SourceFailed(f"{program} is only a link into {store.root()}")
        return plugins

    def download(self, target: Path, report: Report) -> None:
        """Take the program from the release on GitHub, checked against the release's published sums."""
        version = self.version
        machine = download.machine({"x86_64": "amd64", "aarch64": "arm64"})
        release = download.Release(
            archive=f"{_RELEASES}/v{version}/{PROGRAM}-v{version}-linux-{machine}.tar.gz",
            checksums=f"{_RELEASES}/v{version}/pulumi-proxmoxve_{version}_checksums.txt",
        )
        download.fetch(release, [PROGRAM], self._program_directory(target), report)

    def build(self, target: Path, report: Report) -> None:
        """Build the program."""
        for program in self.go_programs:
            gobuild.build(program, self._program_directory(target), report)

    def check(self, directory: Path) -> None:
        """Check that the program runs and says the pinned version."""
        said = process.run([directory / self.program, "-version"], deadline=60).strip()
        if said.removeprefix("v") != self.version:
            raise SourceFailed(f"{directory / self.program} says version {said!r}; {self.version} is needed")

    def _program_directory(self, target: Path) -> Path:
        directory = (target / self.program).parent
        directory.mkdir(exist_ok=True)
        return directory
