"""One ``up`` of one stack, from whatever an earlier one left behind to a table of nodes.

Runs where the nodes can be reached: for the lab, inside its network (``lab exec``).
"""

from __future__ import annotations

import fcntl
import importlib
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proxmox_swarm.cli import away, leftovers
from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.known_hosts import write_known_hosts
from proxmox_swarm.cli.progress import Progress, line
from proxmox_swarm.cli.pulumi import Stack, around_lost_endpoint
from proxmox_swarm.cli.stack_settings import read_settings
from proxmox_swarm.settings.model import Settings

POLL = 0.1
TABLE = "proxmox_swarm.cli.table"
MEMBER = "pulumi-python:dynamic/swarm:Member"
CLUSTER = "pulumi-python:dynamic/swarm:Cluster"
#: See components/established.py; importing it would import Pulumi.
ESTABLISHED = "PROXMOX_SWARM_ESTABLISHED"


def converge(stack: Stack, run: Path, say: Callable[[str], None]) -> None:
    """Bring a stack to what its settings declare, and print what is there.

    ``run`` is a private folder for the record of the running session. Raises CommandError.
    """
    settings = read_settings(stack.project, stack.name)
    with alone(run):
        session = run / "session"
        leftovers.end_session(session)
        if not stack.exists():
            stack.create()
            state: dict[str, Any] = {}
        else:
            leftovers.release_lock(stack)
            state = stack.deployment()
        left = away.find(settings, state)
        away.require_possible(settings, state, left)
        if left.nodes:
            say(f"{'away':<9} {left}; left as {'it is' if len(left.nodes) == 1 else 'they are'}")
        if state.get("resources"):
            refresh(stack, state, settings, say, left, record=session)
            if left.nodes:
                stack.edit(lambda deployment: away.without_order(deployment, left))
            state = stack.deployment()
        progress = Progress(settings, say)
        # What asks the engines afterwards takes half a second to load: there is time for it while Pulumi works.
        threading.Thread(target=importlib.import_module, args=(TABLE,), daemon=True).start()
        handed_over = {**_shape(state), "PROXMOX_SWARM_FIRST": " ".join(_not_well(state))}
        _pulumi(stack, session, progress, handed_over, options=left.options)
        if not progress.changed:
            say(line("up", "no change", time.monotonic() - progress.started))
        write_known_hosts(stack)
        importlib.import_module(TABLE).print_cluster(stack, settings)
        if left.nodes:
            hosts = ", ".join(sorted(set(left.nodes.values())))
            say(
                f"left alone: {left}. When {hosts} is back: `make up`; gone for good: `proxmox-swarm forget-host`, "
                "docs/runbooks/proxmox-host-lost.md"
            )


@contextmanager
def alone(run: Path) -> Iterator[None]:
    """One `up` or `down` at a time: a second one beside a living one would take its processes for leftovers."""
    run.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (run / "up.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError("another `up` or `down` of this lab is running: wait for it, or end it") from None
        yield


def refresh(
    stack: Stack,
    state: dict[str, Any],
    settings: Settings,
    say: Callable[[str], None],
    left: away.Away,
    *,
    record: Path | None = None,
) -> None:
    """Learn what became of everything that is not left alone; after a kill, first clear what was never finished.

    ``record`` is where the session of the run is written down, for whoever comes after a kill.
    """
    started = time.monotonic()
    pending = leftovers.unfinished(state)
    if pending:
        away.require_clearable(state, left)
        leftovers.wait_for_tasks(state, settings, left.hosts)
        removed = leftovers.remove_half_made(state, settings)
        say(
            line(
                "repair",
                f"{len(pending)} unfinished, half-made machines removed: {', '.join(removed) or 'none'}",
                time.monotonic() - started,
            )
        )
    words = ("refresh", "--yes", "--skip-preview", "--clear-pending-creates", *left.options)
    if record is None:
        stack.run(*words, *around_lost_endpoint(state))
    else:
        leftovers.run_recorded(stack, record, *words, *around_lost_endpoint(state))
    compared = len(settings.nodes) - len(left.nodes)
    say(line("refresh", f"{compared} nodes compared with what is there", time.monotonic() - started))


def _not_well(state: dict[str, Any]) -> list[str]:
    """The nodes whose recorded verdict is not ok: they are taken first, since rebuilding them costs no quorum.

    Drifted ones come after the others: such a manager is at work, and taking it out while another is dead would be refused,
    each time anew (a run that is cut short between drain and demotion leaves one).
    """
    resources: list[dict[str, Any]] = state.get("resources") or []
    members = [r.get("outputs", {}) for r in resources if r["type"] == MEMBER]
    ailing = [outputs for outputs in members if outputs.get("verdict", "ok") != "ok"]
    return [outputs["node"] for outputs in sorted(ailing, key=lambda outputs: outputs["verdict"] == "drifted")]


def _shape(state: dict[str, Any]) -> dict[str, str]:
    """The shape of bring-up for a state without a swarm, whatever its last outputs say.

    A machine that is off has to be started before the swarm is looked for; in later runs it is the other way round.
    """
    resources: list[dict[str, Any]] = state.get("resources") or []
    return {} if any(resource["type"] == CLUSTER for resource in resources) else {ESTABLISHED: "0"}


def _pulumi(
    stack: Stack, session: Path, progress: Progress, handed_over: Mapping[str, str], *, options: Sequence[str] = ()
) -> None:
    """Run ``pulumi up`` in a session of its own and follow its events. ``handed_over`` is for the program's environment."""
    with tempfile.TemporaryDirectory() as folder:
        events = Path(folder) / "events"
        output = Path(folder) / "output"
        environment = {
            **stack.environment,
            "PULUMI_DEBUG_COMMANDS": "1",  # makes the CLI take --event-log
            **handed_over,
        }
        command = stack.command("up", "--yes", "--skip-preview", "--event-log", str(events), *options)
        with (
            output.open("wb") as sink,
            leftovers.session(
                session, command, stack, env=environment, stdout=sink, stderr=subprocess.STDOUT
            ) as process,
        ):
            _follow(process, events, progress)
        if process.returncode != 0:
            # What went wrong was said when it happened; the CLI's own words are for when nothing was.
            unsaid = not progress.errors or os.environ.get("PROXMOX_SWARM_DEBUG")
            raise CommandError(_failure(process.returncode, progress), output.read_text() if unsaid else "")


def _follow(process: subprocess.Popen[bytes], events: Path, progress: Progress) -> None:
    rest = b""
    position = 0
    while True:
        ended = process.poll() is not None
        if events.exists():
            with events.open("rb") as log:
                log.seek(position)
                rest += log.read()
                position = log.tell()
            *lines, rest = rest.split(b"\n")
            for entry in lines:
                progress.feed(entry)
        if ended:
            return
        time.sleep(POLL)


def _failure(code: int, progress: Progress) -> str:
    if code < 0:
        return f"pulumi was ended by signal {-code}. Nothing needs cleaning up: run `make up` again"
    failed = ", ".join(sorted({urn.rpartition("::")[2] for urn in progress.failed}))
    return f"pulumi up failed{f' at {failed}' if failed else ''}. Mend the cause and run `make up` again"
