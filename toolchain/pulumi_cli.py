"""The Pulumi CLI with its Python language host and the host's two scripts."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from proxmox_swarm.toolchain import download, gobuild, process, store, versions
from proxmox_swarm.toolchain.errors import SourceFailed
from proxmox_swarm.toolchain.gobuild import GoProgram
from proxmox_swarm.toolchain.store import Report
from proxmox_swarm.toolchain.tool import Tool

SDK_MODULE = "github.com/pulumi/pulumi/sdk/v3"
SCRIPTS = {
    "pulumi-language-python-exec": "python/cmd/pulumi-language-python-exec",
    "pulumi-resource-pulumi-python": "python/dist/pulumi-resource-pulumi-python",
}
"""Scripts that belong beside the programs: name to path inside the SDK module."""

PROGRAMS = ("pulumi", "pulumi-language-python", *SCRIPTS)

_TAGS = "osusergo,grpcnotrace"
_VERSION_VARIABLE = f"{SDK_MODULE}/go/common/version.Version"


class PulumiCli(Tool):
    """The directory to put first on PATH."""

    title = "pulumi"

    @property
    def version(self) -> str:
        """The pinned version of the CLI."""
        return versions.pinned().pulumi

    @property
    def go_programs(self) -> Sequence[GoProgram]:
        """The CLI and the language host, from two modules: no single SDK version serves both."""
        pins = versions.pinned()
        return (
            GoProgram(
                name="pulumi",
                module="pulumi",
                package="github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
                variables=((_VERSION_VARIABLE, f"v{pins.pulumi}"),),
                tags=_TAGS,
            ),
            GoProgram(
                name="pulumi-language-python",
                module="language-python",
                package=f"{SDK_MODULE}/python/cmd/pulumi-language-python",
                variables=((_VERSION_VARIABLE, f"v{pins.language_python}"),),
                tags=_TAGS,
            ),
        )

    def installed(self) -> Path:
        """Return the directory of a CLI of the same major version that is not older, from PATH or ~/.pulumi/bin."""
        # Our own store may be on PATH already (a program run by another one of ours).
        places = [p for p in os.get_exec_path() if p and not Path(p).is_relative_to(store.root())]
        found = shutil.which("pulumi", path=os.pathsep.join([*places, str(Path("~/.pulumi/bin").expanduser())]))
        if found is None:
            raise SourceFailed("no `pulumi` on PATH or in ~/.pulumi/bin")
        directory = Path(found).parent
        self.check(directory, newer=True)
        return directory

    def download(self, target: Path, report: Report) -> None:
        """Take the programs from the release on get.pulumi.com, checked against the sums published on GitHub."""
        version = self.version
        machine = download.machine({"x86_64": "x64", "aarch64": "arm64"})
        release = download.Release(
            archive=f"https://get.pulumi.com/releases/sdk/pulumi-v{version}-linux-{machine}.tar.gz",
            checksums=f"https://github.com/pulumi/pulumi/releases/download/v{version}/pulumi-{version}-checksums.txt",
        )
        download.fetch(release, PROGRAMS, target, report)

    def build(self, target: Path, report: Report) -> None:
        """Build the two programs and copy the scripts from the SDK module of the CLI's version."""
        for program in self.go_programs:
            gobuild.build(program, target, report)
        sdk = gobuild.module_directory(self.go_programs[0], SDK_MODULE)
        for name, path in SCRIPTS.items():
            shutil.copyfile(sdk / path, target / name)
            (target / name).chmod(0o755)

    def check(self, directory: Path, *, newer: bool = False) -> None:
        """Check that all programs are there and the CLI has the pinned version, or with ``newer`` a newer one."""
        missing = [name for name in PROGRAMS if not os.access(directory / name, os.X_OK)]
        if missing:
            raise SourceFailed(f"{directory} has no {', '.join(missing)}")
        with tempfile.TemporaryDirectory() as home:  # even `pulumi version` writes into its home
            said = process.run(
                [directory / "pulumi", "version"],
                deadline=60,
                env={"PULUMI_HOME": home, "PULUMI_SKIP_UPDATE_CHECK": "true"},
            ).strip()
        try:
            found, wanted = versions.parse(said), versions.parse(self.version)
        except ValueError as error:
            raise SourceFailed(f"`{directory / 'pulumi'} version` said {said!r}") from error
        if found != wanted and not (newer and found[0] == wanted[0] and found > wanted):
            or_newer = f" or a newer {wanted[0]}.x" if newer else ""
            raise SourceFailed(f"{directory / 'pulumi'} is {said}; v{self.version}{or_newer} is needed")
