"""``proxmox-swarm status``: the verdict first, the next step last. Runs where the nodes can be reached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from proxmox_swarm.cli.next_step import next_step
from proxmox_swarm.cli.stack_nodes import stack_nodes
from proxmox_swarm.cli.table import console, nodes_table, verdict_line
from proxmox_swarm.settings import Settings
from proxmox_swarm.swarm.look import look
from proxmox_swarm.swarm.parallel import answers_within
from proxmox_swarm.swarm.quorum import majority
from proxmox_swarm.swarm.services import ServiceStatus
from proxmox_swarm.swarm.status import NodeStatus, Status

EXIT = {"whole": 0, "degraded": 1, "no-quorum": 2}
#: The exit status when nothing could be looked at, as with settings that cannot be used.
BLIND = 3
#: Seconds that Proxmox VE gets to say what machines that do not answer are at.
POWER = 10.0


def print_status(stack: str, project: Path, *, as_json: bool) -> int:
    """Look, print, and return the exit status. Raises CommandError when there is nothing to look at."""
    nodes = stack_nodes(stack, project)
    found = _with_power(look(nodes.declared, nodes.cluster_id), nodes.settings)
    step = next_step(found, stack, undeclared=nodes.settings.cluster.undeclared)
    if as_json:
        print(json.dumps(as_data(found, stack, step), indent=2))
        return EXIT[found.verdict]
    out = console()
    out.print(verdict_line(found))
    out.print()
    out.print(nodes_table(found.nodes, hosts=True))
    out.print()
    for line in below(found, step):
        out.print(line)
    return EXIT[found.verdict]


def below(status: Status, step: str) -> list[str]:
    """The lines below the table: what is wrong, what is worth knowing, the ``step`` to take next."""
    wrong = [f"{p.kind:<12}{p.subject + ': ' if p.subject else ''}{p.text}" for p in status.problems]
    return [*wrong, *(f"{'note':<12}{note}" for note in status.notes), f"next: {step}"]


def _with_power(status: Status, settings: Settings) -> Status:
    """Whether machines that do not answer are off, where Proxmox VE tells: it is asked only then, and not for long."""
    machines = {
        n.name: n.declared.vm_id for n in status.silent if n.declared is not None and n.declared.vm_id is not None
    }
    if not machines:
        return status
    from proxmox_swarm.proxmox.power import power_of

    proxmox = settings.proxmox
    (power,) = answers_within(
        lambda endpoints: power_of(machines, endpoints, insecure=proxmox.insecure), [proxmox.endpoints], POWER
    )
    known = {name: word for name, word in (power or {}).items() if word in ("running", "stopped", "absent")}
    return status.with_power(known)


def as_data(status: Status, stack: str, step: str) -> dict[str, Any]:
    """The same for programs, ``step`` the next one; docs/operations.md lists the keys."""
    quorum = status.quorum
    return {
        "verdict": status.verdict,
        "exit": EXIT[status.verdict],
        "summary": status.summary,
        "next": step,
        "stack": stack,
        "clusterId": status.cluster_id,
        "quorum": None
        if quorum is None
        else {
            "managers": quorum.managers,
            "reachable": quorum.reachable,
            "needed": majority(quorum.managers),
            "margin": quorum.margin,
            "leader": status.leader,
        },
        "caRotation": status.ca_rotation,
        "nodes": [_node(node) for node in status.nodes],
        "services": None if status.services is None else [_service(service) for service in status.services],
        "uneven": list(status.uneven),
        "problems": [{"kind": p.kind, "subject": p.subject, "text": p.text} for p in status.problems],
        "notes": list(status.notes),
        "seconds": round(status.took, 1),
    }


def _node(node: NodeStatus) -> dict[str, Any]:
    entry, certificate = node.entry, node.certificate
    return {
        "name": node.name,
        "address": node.address,
        "host": node.declared.host if node.declared else None,
        "vmId": node.declared.vm_id if node.declared else None,
        "declared": node.declared is not None,
        "id": entry.node_id if entry else None,
        "role": node.role,
        "verdict": node.verdict,
        "detail": node.detail,
        "state": entry.state if entry else None,
        "availability": entry.availability if entry else None,
        "leader": entry.leader if entry else None,
        "reachability": (entry.reachability or None) if entry else None,
        "engine": node.engine or None,
        "engineVersion": entry.engine_version if entry else None,
        "machine": node.power or None,
        "drainedByHand": node.hand_drain,
        "labels": node.labels,
        "certificate": None
        if certificate is None
        else {"secondsLeft": round(certificate.left), "expired": certificate.expired, "overdue": certificate.overdue},
        "disks": [{"path": d.path, "size": d.size, "free": d.free, "mounted": d.mounted} for d in node.disks],
    }


def _service(service: ServiceStatus) -> dict[str, Any]:
    return {
        "name": service.name,
        "id": service.service_id,
        "mode": service.mode,
        "running": service.running,
        "wanted": service.wanted,
        "completed": service.completed if service.is_job else None,
        "whole": service.whole,
        "reason": service.reason,
    }
