"""``proxmox-swarm rebalance``: one uneven service after the other. Runs where the nodes can be reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from proxmox_swarm.cli.stack_nodes import stack_nodes
from proxmox_swarm.swarm import rebalance as domain


def rebalance(
    stack: str,
    project: Path,
    services: Sequence[str],
    say: Callable[[str], None],
    *,
    dry_run: bool,
    timeout: float,
) -> None:
    """Even out the named services, or all that are uneven; says what is done, and why what is not. Raises CommandError,
    Failure.
    """
    nodes = stack_nodes(stack, project)
    plans = domain.plan(nodes.managers, nodes.cluster_id, services)
    touched = 0
    for plan in plans:
        if plan.untouched:
            say(f"{plan.name}: not touched, {plan.untouched}{_listed(plan.spread)}")
            continue
        touched += 1
        would = "would restart" if dry_run else "restarting"
        say(f"{plan.name}: uneven{_listed(plan.spread)}; {would} all {plan.tasks} tasks, {plan.policy}")
        if dry_run:
            continue
        done = domain.even_out(nodes.managers, nodes.cluster_id, plan, timeout=timeout)
        rest = (
            "" if done.even else "; STILL UNEVEN: the scheduler passes over a node, or tasks start before others stop"
        )
        say(f"{plan.name}: {done.moved} of {plan.tasks} tasks moved: {_changes(done)}{rest}")
    if not touched:
        say("nothing to even out" if plans else "there are no services")


def _listed(spread: dict[str, int]) -> str:
    return f" ({', '.join(f'{name} {count}' for name, count in spread.items())})" if spread else ""


def _changes(done: domain.Outcome) -> str:
    names = sorted({*done.before, *done.after})
    pairs = [(name, done.before.get(name, 0), done.after.get(name, 0)) for name in names]
    return ", ".join(f"{name} {old} → {new}" for name, old, new in pairs if old != new) or "no node has more or fewer"
