"""The ``proxmox-swarm`` command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from proxmox_swarm.cli.errors import CommandError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

StackOption = Annotated[str, typer.Option("--stack", "-s", help="The stack, as in Pulumi.<stack>.yaml.")]


def say(text: str) -> None:
    """One line for the person who is watching."""
    typer.echo(text)


@app.command()
def up(stack: StackOption = "lab") -> None:
    """Everything from a fresh machine to a running swarm in the lab; then prints what is there."""
    from proxmox_swarm.cli.bring_up import bring_up

    bring_up(stack, Path.cwd(), say)


@app.command(hidden=True)
def converge(stack: StackOption = "lab") -> None:
    """The part of ``up`` that runs where the nodes can be reached."""
    from proxmox_swarm.cli.converge import converge as run
    from proxmox_swarm.cli.pulumi import Stack

    run(Stack(stack, Path.cwd(), os.environ), Path(os.environ["PROXMOX_SWARM_LAB"]) / "run", say)


@app.command()
def down(stack: StackOption = "lab") -> None:
    """Destroy the lab's stack and stop the lab, leaving nothing."""
    from proxmox_swarm.cli.down import down as run
    from proxmox_swarm.lab import Lab

    run(Lab(), stack, Path.cwd(), say)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def preview(context: typer.Context, stack: StackOption = "lab") -> None:
    """Show what ``up`` would do. Further arguments go to `pulumi preview`."""
    from proxmox_swarm.cli.preview import preview as run
    from proxmox_swarm.lab import Lab

    if stack == "lab":
        lab = Lab()
        if not lab.running():
            raise CommandError("the lab is not running, and its stack lives in it. Run `make up` first")
        words = ["pulumi", "preview", "--stack", stack, "--non-interactive", *context.args]
        sys.exit(subprocess.run(lab.command(words), env=lab.environment(), check=False).returncode)
    sys.exit(run(stack, Path.cwd(), context.args))


@app.command("known-hosts")
def known_hosts(stack: StackOption = "lab") -> None:
    """Pin the nodes' host keys where ssh and docker look for them."""
    from proxmox_swarm.cli.known_hosts import write_known_hosts
    from proxmox_swarm.cli.pulumi import Stack

    say(str(write_known_hosts(Stack(stack, Path.cwd(), os.environ))))


def main() -> None:
    """Run the command; failures are told in words, the traceback is behind PROXMOX_SWARM_DEBUG."""
    from proxmox_swarm.host.errors import Failure
    from proxmox_swarm.proxmox.client import ProxmoxError

    try:
        app()
    except (CommandError, ProxmoxError, Failure) as error:
        if os.environ.get("PROXMOX_SWARM_DEBUG"):
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
