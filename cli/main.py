"""The ``proxmox-swarm`` command."""

from __future__ import annotations

import json
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


def ask(question: str) -> str:
    """What a person types; CommandError where nobody can."""
    if not sys.stdin.isatty():
        raise CommandError("nobody is here to be asked: --yes, if you mean it")
    return str(typer.prompt(question))


def _key() -> str:
    """The unlock key that comes on standard input, where neither process list nor shell history shows it."""
    return sys.stdin.readline().strip()


@app.command()
def up(stack: StackOption = "lab") -> None:
    """Everything from a fresh machine to a running swarm in the lab; then prints what is there."""
    from proxmox_swarm.cli.bring_up import bring_up

    bring_up(stack, Path.cwd(), say)


@app.command(hidden=True)
def prepare() -> None:
    """What the lab needs of this machine: packages, Pulumi with its plugins, the machine image."""
    from proxmox_swarm.cli.bring_up import prepare as run

    run(say)


@app.command(hidden=True)
def converge(stack: StackOption = "lab") -> None:
    """The part of ``up`` that runs where the nodes can be reached."""
    from proxmox_swarm.cli.converge import converge as run
    from proxmox_swarm.cli.pulumi import Stack

    run(Stack(stack, Path.cwd(), os.environ), Path(os.environ["PROXMOX_SWARM_LAB"]) / "run", say)


@app.command(hidden=True)
def destroy(stack: StackOption = "lab") -> None:
    """The part of ``down`` that runs where Proxmox VE can be reached."""
    from proxmox_swarm.cli.destroy import destroy as run
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
        words = ["proxmox-swarm", "around", "--stack", stack, "preview", "--non-interactive", *context.args]
        sys.exit(subprocess.run(lab.command(words), env=lab.environment(), check=False).returncode)
    sys.exit(run(stack, Path.cwd(), context.args))


@app.command()
def status(
    stack: StackOption = "lab",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON; docs/operations.md lists its keys.")] = False,
) -> None:
    """What the swarm is like, and what to do next. Exit status: 0 whole, 1 degraded, 2 no quorum, 3 could not look."""
    from proxmox_swarm.cli.inside import enter_lab
    from proxmox_swarm.cli.status import BLIND, print_status

    try:
        enter_lab(stack)
        code = print_status(stack, Path.cwd(), as_json=as_json)
    except CommandError as error:
        if as_json:
            say(json.dumps({"verdict": "unknown", "exit": BLIND, "summary": str(error)}, indent=2))
        typer.echo(f"error: {error}", err=True)
        code = BLIND
    sys.exit(code)


@app.command()
def start(
    nodes: Annotated[list[str], typer.Argument(help="The nodes' names.")],
    stack: StackOption = "lab",
) -> None:
    """Start nodes' machines that are off, also where a lost quorum keeps `up` from it."""
    from proxmox_swarm.cli.inside import enter_lab
    from proxmox_swarm.cli.start import start as run

    enter_lab(stack)
    run(stack, Path.cwd(), nodes, say)


@app.command()
def rebalance(
    service: Annotated[list[str] | None, typer.Option("--service", help="Only this one; may be given again.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, change nothing.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds that the update of one service may take.")] = 600,
    stack: StackOption = "lab",
) -> None:
    """Spread tasks evenly again after a node came back. RESTARTS every task of each service that is uneven."""
    from proxmox_swarm.cli.inside import enter_lab
    from proxmox_swarm.cli.rebalance import rebalance as run

    enter_lab(stack)
    run(stack, Path.cwd(), service or [], say, dry_run=dry_run, timeout=timeout)


@app.command()
def connect(
    node: Annotated[str, typer.Argument(help="The node's name.")],
    command: Annotated[list[str] | None, typer.Argument(help="What to run there; a shell without it.")] = None,
    stack: StackOption = "lab",
) -> None:
    """Log in to a node by its name, with its pinned host key: connect NODE [-- CMD ARGUMENTS]."""
    from proxmox_swarm.cli.connect import connect as run
    from proxmox_swarm.cli.inside import enter_lab

    enter_lab(stack)
    run(stack, Path.cwd(), node, command or [])


@app.command()
def adoption(
    manager: Annotated[str, typer.Argument(help="The address of one of its managers.")],
    stack: StackOption = "lab",
) -> None:
    """Print the settings that describe a swarm made by hand. Changes nothing. Exit status 1: something to see to first."""
    from proxmox_swarm.cli.adoption import show
    from proxmox_swarm.cli.inside import enter_lab

    enter_lab(stack)
    sys.exit(0 if show(stack, Path.cwd(), manager, say) else 1)


@app.command()
def drain(
    node: Annotated[str, typer.Argument(help="The node's name.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the swarm and shown until `undrain`.")],
    stack: StackOption = "lab",
) -> None:
    """Move a node's tasks away and keep it so: `up` leaves it drained until `undrain`."""
    from proxmox_swarm.cli.hand_drain import drain as run
    from proxmox_swarm.cli.inside import enter_lab

    enter_lab(stack)
    run(stack, Path.cwd(), node, reason)
    say(f"{node} is drained: {reason}. Later: proxmox-swarm undrain {node}")


@app.command()
def undrain(
    node: Annotated[str, typer.Argument(help="The node's name.")],
    stack: StackOption = "lab",
) -> None:
    """End a drain by hand: the node gets its declared availability again."""
    from proxmox_swarm.cli.hand_drain import undrain as run
    from proxmox_swarm.cli.inside import enter_lab

    enter_lab(stack)
    reason = run(stack, Path.cwd(), node)
    say(f"{node} is back ({reason})" if reason is not None else f"{node} was not drained by hand; nothing changed")


YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
ToOption = Annotated[Path | None, typer.Option("--to", help="The file; by default one named for the node, here.")]
GoneOption = Annotated[
    bool, typer.Option("--others-are-gone", help="The managers not shown to be off are off, or gone for good.")
]
KeyOption = Annotated[
    bool, typer.Option("--key-from-stdin", help="Read the unlock key there instead of in the stack's outputs.")
]


@app.command()
def backup(
    stack: StackOption = "lab",
    to: ToOption = None,
    node: Annotated[str, typer.Option(help="The manager to take it from; by default one that is not the leader.")] = "",
    stop_decisions: Annotated[
        bool, typer.Option("--stop-decisions", help="With one or two managers: the swarm may be without them for it.")
    ] = False,
) -> None:
    """Save the swarm's raft state, with all its keys and secrets, to a private file."""
    from proxmox_swarm.cli.backup import take_backup
    from proxmox_swarm.cli.inside import enter_lab

    enter_lab(stack)
    take_backup(stack, Path.cwd(), to, node, stop_decisions=stop_decisions, say=say)


@app.command()
def recover(
    stack: StackOption = "lab",
    to: ToOption = None,
    yes: YesOption = False,
    others_are_gone: GoneOption = False,
    key_from_stdin: KeyOption = False,
) -> None:
    """Lost quorum: go on from the manager that knows the most, as the only one."""
    from proxmox_swarm.cli.inside import enter_lab
    from proxmox_swarm.cli.recovery import Choices
    from proxmox_swarm.cli.recovery import recover as run

    enter_lab(stack)
    chosen = Choices(yes=yes, others_are_gone=others_are_gone, key=_key() if key_from_stdin else None)
    run(stack, Path.cwd(), to, chosen, say, ask)


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A file that `backup` or `recover` wrote.")],
    node: Annotated[str, typer.Option(help="The manager it was taken from.")],
    stack: StackOption = "lab",
    yes: YesOption = False,
    others_are_gone: GoneOption = False,
    discard_newer: Annotated[
        bool, typer.Option("--discard-newer", help="Go back to the backup although a manager holds newer state.")
    ] = False,
    key_from_stdin: KeyOption = False,
) -> None:
    """All managers lost: put a backup on one of them and go on from there."""
    from proxmox_swarm.cli.inside import enter_lab
    from proxmox_swarm.cli.recovery import Choices
    from proxmox_swarm.cli.recovery import restore as run

    enter_lab(stack)
    chosen = Choices(yes, others_are_gone, discard_newer, _key() if key_from_stdin else None)
    run(stack, Path.cwd(), file, node, chosen, say, ask)


@app.command()
def unlock(
    key_from_stdin: KeyOption = False,
    stack: StackOption = "lab",
) -> None:
    """Give the managers that are locked, after their engines have restarted, their key."""
    from proxmox_swarm.cli.inside import enter_lab
    from proxmox_swarm.cli.unlock import unlock as run

    enter_lab(stack)
    names = run(stack, Path.cwd(), _key() if key_from_stdin else None)
    say(f"unlocked: {', '.join(names)}" if names else "no declared manager is locked; nothing changed")


@app.command()
def repair(
    stack: Annotated[str, typer.Option("--stack", "-s", help="The stack, as in Pulumi.<stack>.yaml.")],
    cancelled: Annotated[
        bool, typer.Option("--cancelled", help="`pulumi cancel` was run, and nobody works on the stack.")
    ] = False,
) -> None:
    """After a `pulumi up` that was killed: clear what it left behind, so that the next one can go on."""
    from proxmox_swarm.cli.repair import repair as run
    from proxmox_swarm.cli.repair import stack_here

    run(stack_here(stack, Path.cwd()), say, cancelled=cancelled)


@app.command("forget-host")
def forget_host(
    host: Annotated[str, typer.Argument(help="The Proxmox VE host that is gone for good.")],
    stack: Annotated[str, typer.Option("--stack", "-s", help="The stack, as in Pulumi.<stack>.yaml.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for the host's name.")] = False,
) -> None:
    """A Proxmox VE host is gone for good: what was on it leaves the state, so that `up` can go on without it."""
    from proxmox_swarm.cli.forget_host import forget_host as run
    from proxmox_swarm.cli.inside import enter_lab
    from proxmox_swarm.cli.stack_nodes import stack_here

    enter_lab(stack)

    def confirm(name: str) -> bool:
        return yes or typer.prompt("Type the host's name to go on", default="", show_default=False) == name

    run(stack_here(stack, Path.cwd()), host, say, confirm)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def around(context: typer.Context, stack: StackOption) -> None:
    """Run Pulumi around Proxmox VE hosts that are away: around -s STACK -- preview, refresh or up, then its options."""
    from proxmox_swarm.cli.around import around as run
    from proxmox_swarm.cli.inside import enter_lab
    from proxmox_swarm.cli.stack_nodes import stack_here

    enter_lab(stack)
    sys.exit(run(stack_here(stack, Path.cwd()), context.args, lambda text: typer.echo(text, err=True)))


@app.command("known-hosts")
def known_hosts(stack: StackOption = "lab") -> None:
    """Pin the nodes' host keys where ssh and docker look for them."""
    from proxmox_swarm.cli.known_hosts import write_known_hosts
    from proxmox_swarm.cli.pulumi import Stack

    say(str(write_known_hosts(Stack(stack, Path.cwd(), os.environ))))


def _told_in_words() -> tuple[type[Exception], ...]:
    """The errors whose text is made for people."""
    from proxmox_swarm.host.errors import Failure
    from proxmox_swarm.lab.control import ControlError, NotRunningError
    from proxmox_swarm.lab.image import ImageError
    from proxmox_swarm.lab.namespace import LabError
    from proxmox_swarm.lab.prerequisites import PrerequisiteError
    from proxmox_swarm.proxmox.client import ProxmoxError
    from proxmox_swarm.toolchain import ToolchainError

    lab = (LabError, ImageError, PrerequisiteError, NotRunningError, ControlError)
    return (CommandError, ProxmoxError, Failure, ToolchainError, *lab)


def main() -> None:
    """Run the command; failures are told in words, the traceback is behind PROXMOX_SWARM_DEBUG."""
    try:
        app()
    except Exception as error:
        if not isinstance(error, _told_in_words()):
            raise
        if os.environ.get("PROXMOX_SWARM_DEBUG"):
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
