"""Gets the Pulumi CLI and the Proxmox VE plugin: installed already, else downloaded, else built from Go modules.

Only the standard library is used here, so that the tools can be had before anything else is installed.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from proxmox_swarm.toolchain import store
from proxmox_swarm.toolchain.errors import ToolchainError
from proxmox_swarm.toolchain.proxmoxve_plugin import ProxmoxvePlugin
from proxmox_swarm.toolchain.pulumi_cli import PulumiCli

__all__ = ["Toolchain", "ToolchainError", "ensure", "locate"]


@dataclass(frozen=True)
class Toolchain:
    """The tools on this machine."""

    bin: Path
    """The directory that holds ``pulumi`` and the Python language host."""

    pulumi_home_plugins: Path
    """A directory in the shape of ``$PULUMI_HOME/plugins`` that holds the Proxmox VE plugin."""

    def env(self) -> dict[str, str]:
        """Return the variables to add to the environment of every ``pulumi`` call.

        The plugin is found through the CLI's home: call ``link_plugins`` for the home in use.
        """
        path = [str(self.bin), *os.get_exec_path()]
        if sys.prefix != sys.base_prefix:
            # The language host takes the first Python on PATH: the one that has our dependencies.
            path.insert(0, str(Path(sys.prefix) / "bin"))
        return {
            "PATH": os.pathsep.join(dict.fromkeys(path)),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            # All plugins are local. Without this a missing one is asked of the internet, with long timeouts.
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        }

    def link_plugins(self, pulumi_home: Path) -> None:
        """Make the plugin known to a CLI that runs with ``PULUMI_HOME`` set to ``pulumi_home``.

        Running it again is harmless, at the same time too; an older link is replaced.
        """
        # The CLI does not look into plugin directories that are links, so only the program is one.
        program = ProxmoxvePlugin().program
        target = (self.pulumi_home_plugins / program).resolve()
        wanted = pulumi_home / "plugins" / program
        with contextlib.suppress(OSError):  # not there, or going away at this very moment
            if wanted.resolve(strict=True) == target:
                return
        wanted.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=wanted.parent, prefix=".link-") as scratch:
            link = Path(scratch) / wanted.name
            link.symlink_to(target)
            link.replace(wanted)


def locate() -> Toolchain | None:
    """Return the tools if all of them are on this machine; uses no network and builds nothing."""
    cli = PulumiCli().locate()
    plugin = ProxmoxvePlugin().locate()
    return Toolchain(bin=cli, pulumi_home_plugins=plugin) if cli and plugin else None


def ensure(report: Callable[[str], None]) -> Toolchain:
    """Return the tools, downloading or building what is missing.

    ``report`` gets one line of progress every few seconds while there is work. A second run at the same time waits
    for the first. Raises ToolchainError when a tool cannot be had, naming each source tried and why it failed.
    """
    found = locate()
    if found:
        return found
    with store.locked(report):
        return Toolchain(bin=PulumiCli().obtain(report), pulumi_home_plugins=ProxmoxvePlugin().obtain(report))
