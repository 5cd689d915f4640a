"""The ``lab`` command."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, Any

import typer

from proxmox_swarm.lab.control import ControlError, NotRunningError
from proxmox_swarm.lab.lab import Lab
from proxmox_swarm.lab.namespace import LabError

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
fault_app = typer.Typer(no_args_is_help=True, help="Faults on request, for tests.")
app.add_typer(fault_app, name="fault")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _fail(error: Exception, status: int = 1) -> typer.Exit:
    _say(f"lab: {error}")
    return typer.Exit(status)


@app.command()
def up() -> None:
    """Start the lab; harmless when it runs."""
    from proxmox_swarm.lab.image import ImageError
    from proxmox_swarm.lab.prerequisites import PrerequisiteError

    try:
        Lab().up(_say)
    except (LabError, ImageError, PrerequisiteError, NotRunningError, ControlError, OSError) as error:
        raise _fail(error) from error


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Say what runs; exit status 1 when the lab does not."""
    lab = Lab()
    try:
        found = lab.status()
    except (NotRunningError, ControlError, TimeoutError) as error:
        raise _fail(error) from error
    if as_json:
        print(json.dumps(found, indent=2))
        return
    up_hosts = [name for name, host in found["hosts"].items() if host["up"]]
    print(f"lab       up in {lab.paths.root}, hosts {', '.join(up_hosts)}")
    rows = [_row(m) for m in found["machines"]]
    _table(["VMID", "NAME", "HOST", "STATE", "TAGS"], rows)


def _row(machine: dict[str, Any]) -> list[str]:
    state = machine["status"] + (f" ({machine['lock']})" if machine["lock"] else "")
    return [str(machine["vmid"]), machine["name"], machine["host"], state, machine["tags"] or ""]


def _table(heads: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(r[i]) for r in [heads, *rows]) for i in range(len(heads))]
    for row in [heads, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command("exec", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def execute(context: typer.Context) -> None:
    """Run a command inside the lab's network: lab exec -- CMD ARGUMENTS."""
    if not context.args:
        raise _fail(LabError("say what to run: lab exec -- CMD"), 2)
    lab = Lab()
    try:
        command, environment = lab.command(context.args), lab.environment()
    except (NotRunningError, OSError) as error:
        raise _fail(error, 125) from error
    sys.stdout.flush()
    os.execvpe(command[0], command, environment)  # noqa: S606 - no shell


@app.command()
def down(
    purge: Annotated[bool, typer.Option("--purge", help="Delete machines, disks and stacks' state too.")] = False,
) -> None:
    """End the lab: nothing is left running or mounted; harmless when it does not run."""
    try:
        ran = Lab().down(purge)
    except (LabError, OSError) as error:
        raise _fail(error) from error
    _say("lab       down" if ran else "lab       was not running")


@app.command()
def log(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    api: Annotated[bool, typer.Option("--api", help="The record of API requests instead.")] = False,
) -> None:
    """Show the lab's log."""
    paths = Lab().paths
    path = paths.record if api else paths.log / "lab.log"
    arguments = ["tail", "-n", "+1", *(["-F"] if follow else []), str(path)]
    os.execvp(arguments[0], arguments)  # noqa: S606


Task = Annotated[str, typer.Option(help="Task type of Proxmox VE, such as qmstart; * for all.")]
Host = Annotated[str, typer.Option("--host", help="Host name; * for all.")]
Count = Annotated[int, typer.Option(help="How many tasks.")]
Nic = Annotated[int | None, typer.Option(help="Only this NIC.")]


def _faults() -> Any:
    return Lab().faults


@fault_app.command("fail")
def fault_fail(message: str, task: Task = "*", host: Host = "*", count: Count = 1) -> None:
    """The next tasks fail with this message."""
    _run(lambda: _faults().add("fail", task, host, count, message=message))


@fault_app.command("lock-timeout")
def fault_lock_timeout(task: Task = "*", host: Host = "*", count: Count = 1) -> None:
    """The next tasks fail because the VM's lock is not to be had."""
    _run(lambda: _faults().add("lock-timeout", task, host, count))


@fault_app.command("slow")
def fault_slow(seconds: float, task: Task = "*", host: Host = "*", count: Count = 1) -> None:
    """The next tasks take longer."""
    _run(lambda: _faults().add("slow", task, host, count, seconds=seconds))


@fault_app.command("api-down")
def fault_api_down(host: str) -> None:
    """A host's API answers nothing until cleared."""
    _run(lambda: _faults().add("api-down", host=host))


@fault_app.command("host-down")
def fault_host_down(host: str) -> None:
    """A host loses its power, and its machines with it, until host-up or cleared."""
    _run(lambda: _faults().add("host-down", host=host))


@fault_app.command("host-lost")
def fault_host_lost(host: str) -> None:
    """A host is gone for good: no power, taken out of the Proxmox VE cluster, its machines and disks with it."""
    _run(lambda: _faults().add("host-lost", host=host))


@fault_app.command("host-up")
def fault_host_up(host: str) -> None:
    """A host has power again; one that was lost comes back empty."""
    _run(lambda: _faults().host_up(host))


@fault_app.command("crash")
def fault_crash(vmid: int) -> None:
    """A machine loses its power."""
    _run(lambda: _faults().crash(vmid))


@fault_app.command("cut")
def fault_cut(vmid: int, nic: Nic = None) -> None:
    """A machine's network cable is pulled."""
    _run(lambda: _faults().cut(vmid, nic))


@fault_app.command("mend")
def fault_mend(vmid: int, nic: Nic = None) -> None:
    """The cable is plugged in again."""
    _run(lambda: _faults().mend(vmid, nic))


@fault_app.command("clear")
def fault_clear() -> None:
    """All faults end."""
    _run(lambda: _faults().clear())


def _run(action: Any) -> None:
    try:
        action()
    except (NotRunningError, ControlError, TimeoutError) as error:
        raise _fail(error) from error


def main() -> None:
    """Run the command, as root: a lab is made of machines and networks. Without root, by sudo."""
    if os.geteuid() != 0 and not {"--help", "-h"} & set(sys.argv):
        keep = "--preserve-env=PATH,XDG_CACHE_HOME,PROXMOX_SWARM_LAB,PROXMOX_SWARM_DEBUG"
        command = ["sudo", keep, sys.executable, "-m", "proxmox_swarm.lab.cli", *sys.argv[1:]]
        try:
            os.execvp(command[0], command)  # noqa: S606 - no shell
        except FileNotFoundError:
            sys.exit("lab: run this as root: a lab is made of machines and networks, and there is no sudo here")
    app()


if __name__ == "__main__":
    main()
