"""A preview that needs nothing: no lab, no network, no credentials, no state. For pull requests and first looks."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from proxmox_swarm import toolchain
from proxmox_swarm.cli.errors import CommandError

#: bpg's provider wants credentials of the right form before it does anything; a preview never uses them.
PLACEHOLDER_TOKEN = "preview@pve!none=00000000-0000-0000-0000-000000000000"  # noqa: S105


#: Read by components/adopted_machine.py, which is not imported here: it takes Pulumi's SDK along.
NO_IMPORT = "PROXMOX_SWARM_NO_IMPORT"


def preview(stack: str, project: Path, extra: list[str]) -> int:
    """Preview a stack; returns Pulumi's exit status.

    With a backend in the environment (PULUMI_BACKEND_URL, PULUMI_ACCESS_TOKEN) or a login, against the real state. Else
    against an empty one: a throw-away backend, passphrase and copy of the stack's file, so that nothing in the project
    changes.
    """
    source = project / f"Pulumi.{stack}.yaml"
    if not source.exists():
        raise CommandError(f"there is no {source.name}: a stack is declared there, see docs/settings.md")
    tools = toolchain.locate()
    if tools is None:
        raise CommandError("Pulumi and its plugins are not here yet. Run `make toolchain`")
    ensure_loopback()
    environment = {**os.environ, **tools.env()}
    if not environment.get("PROXMOX_VE_USERNAME"):  # the provider takes a token before anything else
        environment.setdefault("PROXMOX_VE_API_TOKEN", PLACEHOLDER_TOKEN)
    if _has_backend(environment):
        tools.link_plugins(Path(environment.get("PULUMI_HOME") or Path.home() / ".pulumi"))
        return subprocess.run(
            ["pulumi", "preview", "--stack", stack, *extra], cwd=project, env=environment, check=False
        ).returncode
    with tempfile.TemporaryDirectory() as folder:
        return _throw_away(stack, project, source, Path(folder), tools, environment, extra)


def _throw_away(
    stack: str,
    project: Path,
    source: Path,
    folder: Path,
    tools: toolchain.Toolchain,
    environment: Mapping[str, str],
    extra: list[str],
) -> int:
    home = folder / "home"
    home.mkdir()
    (folder / "state").mkdir()
    tools.link_plugins(home)
    copy = folder / source.name
    shutil.copy(source, copy)
    shutil.copy(project / "Pulumi.yaml", folder)
    ours = {
        **environment,
        "PULUMI_HOME": str(home),
        "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
        "PULUMI_CONFIG_PASSPHRASE": secrets.token_urlsafe(24),
        NO_IMPORT: "1",  # nothing is in that state, and so every machine that was there before would be read
    }
    made = subprocess.run(
        ["pulumi", "stack", "init", stack, "--non-interactive"],
        cwd=folder,
        env=ours,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise CommandError("the throw-away stack could not be made", made.stderr + made.stdout)
    return subprocess.run(
        ["pulumi", "preview", "--stack", stack, "--config-file", str(copy), "--non-interactive", *extra],
        cwd=project,
        env=ours,
        check=False,
    ).returncode


def _has_backend(environment: Mapping[str, str]) -> bool:
    if environment.get("PULUMI_BACKEND_URL") or environment.get("PULUMI_ACCESS_TOKEN"):
        return True
    home = Path(environment.get("PULUMI_HOME") or Path.home() / ".pulumi")
    return (home / "credentials.json").exists()


def ensure_loopback() -> None:
    """Pulumi and its plugins talk over 127.0.0.1, which is down in a fresh network namespace. Bring it up if we may."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("127.0.0.1", 9))
        except OSError:
            done = subprocess.run(["ip", "link", "set", "lo", "up"], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise CommandError(
                    "the loopback interface is down and Pulumi needs it: run `ip link set lo up` as root", done.stderr
                ) from None
