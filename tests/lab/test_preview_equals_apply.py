"""What `pulumi preview` says is what `pulumi up` does, step for step; and nothing is left to do afterwards.

One swarm, changed one way after the other; each change starts from where the one before it ended.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.lab.project import ADDRESS, Project
from tests.lab.support import SEVEN

NOTHING_DONE = ("same", "read", "refresh")
REBUILT = {"replace", "create-replacement", "delete-replaced"}
WORKER = "docker-infra-4"

Steps = dict[str, str | set[str]]


@dataclass(frozen=True)
class Change:
    """A change of the stack file, or of the swarm behind the program's back; and the steps that follow from it."""

    declared: dict[str, Any] = field(default_factory=dict)
    #: operations by ``<type's last part> <name>``
    steps: Steps = field(default_factory=dict)
    by_hand: Callable[[Project], None] | None = None
    #: what must then be so on the machines
    seen: Callable[[Project], None] | None = None


def every(kind: str, names: list[str], operation: str = "update") -> Steps:
    """The same operation on several nodes' resources."""
    return {f"{kind} {name}": operation for name in names}


def machine(name: str, operation: str, *, data: bool) -> Steps:
    """All that belongs to one node."""
    kinds = ("FirstBoot", "VirtualMachine", "Claim", "FileLegacy", "VmLegacy", "HostState", "Member")
    return {
        **{f"{kind} {name}": operation for kind in kinds},
        **({f"VmLegacy {name}-data": operation} if data else {}),
    }


def edited_by_hand(swarm: Project) -> None:
    """Labels and availability of two nodes are not what was declared."""
    swarm.ssh(
        ADDRESS["docker-app-2"],
        "docker node update --label-add storage=tape docker-infra-2; docker node update --availability pause docker-infra-3",
    )
    swarm.refresh()


def left_by_hand(swarm: Project) -> None:
    """A worker is out of the swarm; its object is still there."""
    swarm.ssh(ADDRESS["swarmpit-mgmt"], "docker swarm leave")
    swarm.refresh()


def app_3_is_paused(swarm: Project) -> None:
    """The engines have the availability that is declared."""
    assert swarm.nodes()["docker-app-3"]["Spec"]["Availability"] == "pause"


def on_worker(swarm: Project, script: str) -> str:
    """A script on the node that was added; plain `pulumi up` leaves it to a person to take its host key down."""
    swarm.exec("proxmox-swarm", "known-hosts")
    return swarm.ssh("192.168.4.43", script)


def formatted_as_xfs_by_hand(swarm: Project) -> None:
    """Another kind than we make: to grow a mounted ext4 the kernel wants CAP_SYS_RESOURCE, which a lab may lack."""
    on_worker(
        swarm,
        "systemctl stop docker.socket docker && systemctl stop var-lib-data.mount &&"
        " mkfs.xfs -q -f /dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data-4703 &&"
        " systemctl start docker.socket docker && mountpoint -q /var/lib/data",
    )


def all_of_the_disk_is_in_use(swarm: Project) -> None:
    """The file system has grown with its disk."""
    blocks, size = on_worker(swarm, "stat -f -c '%b %S' /var/lib/data").split()
    assert 11 < int(blocks) * int(size) / (1 << 30) < 12


def the_gateway_is_another_and_day_two_is_kept(swarm: Project) -> None:
    """Proxmox VE gives the machine a new instance id with it, and cloud-init does the first boot again."""
    for address in (ADDRESS["docker-app-1"], "192.168.4.43"):
        assert " via 192.168.4.5 " in swarm.ssh(address, "ip -4 route show default") + " "
        assert "max-concurrent-downloads" in swarm.ssh(address, "cat /etc/docker/daemon.json")


#: Where the managers are is known to what asks them; so it is to every member.
KNOWN_TO_ALL: Steps = {"Cluster managers": "update", "ClusterSettings managers": "update"}

CHANGES = {
    "a label": Change(
        {"nodes": {"docker-infra-1": {"labels": {"rack": "1"}}}},
        {"Member docker-infra-1": "update"},
    ),
    "a label of a pool, and an availability": Change(
        {"pools": {"infra": {"labels": {"tier": "data"}}}, "nodes": {"docker-app-3": {"availability": "drain"}}},
        {**every("Member", SEVEN[3:6]), "Member docker-app-3": "update"},
    ),
    "a node that keeps its tasks and gets no others": Change(
        {"nodes": {"docker-app-3": {"availability": "pause"}}},
        {"Member docker-app-3": "update"},
        seen=app_3_is_paused,
    ),
    "settings of the swarm": Change(
        {"cluster": {"taskHistory": 3, "certificateExpiry": "30d", "labels": {"environment": "lab"}}},
        {"ClusterSettings managers": "update"},
    ),
    "a new token for workers": Change(
        {"cluster": {"rotate": {"worker": 2}}},
        {"TokenRotation worker-token": "update"},
    ),
    "name servers": Change(
        {"os": {"dns": {"servers": ["192.168.4.5", "192.168.2.4"]}}},
        every("HostState", SEVEN),
    ),
    "a key of daemon.json": Change(
        {"docker": {"daemon": {"max-concurrent-downloads": 2}}},
        every("HostState", SEVEN),
    ),
    "how long is waited, and how many machines at once": Change(
        {"deadlines": {"role": "150s"}, "proxmox": {"parallel": 1}},
    ),
    "edits by hand": Change(
        steps={"Member docker-infra-2": "update", "Member docker-infra-3": "update"}, by_hand=edited_by_hand
    ),
    "a node that left": Change(
        steps={"Member swarmpit-mgmt": "update"},
        by_hand=left_by_hand,
    ),
    "two promotions": Change(
        {"nodes": {"docker-infra-1": {"role": "manager"}, "docker-infra-2": {"role": "manager"}}},
        {**KNOWN_TO_ALL, **every("Member", SEVEN)},
    ),
    "two demotions": Change(
        {"nodes": {"docker-infra-2": {"role": "worker"}, "docker-app-1": {"role": "worker"}}},
        {**KNOWN_TO_ALL, **every("Member", SEVEN), "WorkerPool app": "create"},
    ),
    "a swap of roles": Change(
        {"nodes": {"docker-infra-1": {"role": "worker"}, "swarmpit-mgmt": {"role": "manager"}}},
        {**KNOWN_TO_ALL, **every("Member", SEVEN), "WorkerPool mgmt": "delete"},
    ),
    "a node that moves into a new pool": Change(
        {"pools": {"edge": {"labels": {"edge": "true"}}}, "nodes": {"docker-infra-3": {"pool": "edge"}}},
        {"WorkerPool edge": "create", "Member docker-infra-3": "update"},
    ),
    "a data disk more": Change(
        {"nodes": {"docker-app-1": {"data": 5}}},
        {
            "Claim docker-app-1": "update",
            "VmLegacy docker-app-1-data": "create",
            **{f"{kind} docker-app-1": "update" for kind in ("VmLegacy", "HostState")},
        },
    ),
    "a data disk less": Change(
        {"nodes": {"docker-app-1": {"data": 0}}},
        {
            "Claim docker-app-1": "update",
            "VmLegacy docker-app-1-data": "delete",
            **{f"{kind} docker-app-1": "update" for kind in ("VmLegacy", "HostState")},
        },
    ),
    "a worker more": Change(
        {"nodes": {WORKER: {"pool": "infra", "host": "pve02", "id": 4203, "ip": 43, "data": 10}}},
        {**machine(WORKER, "create", data=True), "Undeclared undeclared": "update"},
    ),
    "a larger data disk": Change(
        {"nodes": {WORKER: {"data": 12}}},
        {f"VmLegacy {WORKER}-data": "update", f"HostState {WORKER}": "update"},
        by_hand=formatted_as_xfs_by_hand,
        seen=all_of_the_disk_is_in_use,
    ),
    "processors": Change(
        {"nodes": {WORKER: {"cpu": 2}}},
        {f"VmLegacy {WORKER}": "update", f"Member {WORKER}": "update"},
    ),
    "a larger boot disk": Change(
        {"nodes": {WORKER: {"boot": 32}}},
        {f"VmLegacy {WORKER}": "update", f"Member {WORKER}": "update"},
    ),
    "a gateway": Change(
        {"networks": {"main": {"gateway": "192.168.4.5"}}},
        {**every("VmLegacy", [*SEVEN, WORKER]), **every("Member", [*SEVEN, WORKER])},
        seen=the_gateway_is_another_and_day_two_is_kept,
    ),
    "a generation": Change(
        {"nodes": {WORKER: {"generation": 2}}},
        {
            f"FirstBoot {WORKER}": "update",
            **{f"{kind} {WORKER}": REBUILT for kind in ("FileLegacy", "VmLegacy", "HostState", "Member")},
        },
    ),
    "another address": Change(
        {"nodes": {WORKER: {"ip": 44}}},
        {
            f"Claim {WORKER}": "update",
            "Undeclared undeclared": "update",
            **{f"{kind} {WORKER}": REBUILT for kind in ("VmLegacy", "HostState", "Member")},
        },
    ),
    "a worker less": Change(
        {"nodes": {WORKER: None}},
        {**machine(WORKER, "delete", data=True), "Undeclared undeclared": "update"},
    ),
    "a manager goes, another node takes its place": Change(
        {"nodes": {"swarmpit-mgmt": None, "docker-app-1": {"role": "manager"}}},
        {
            **KNOWN_TO_ALL,
            **machine("swarmpit-mgmt", "delete", data=False),
            **every("Member", SEVEN[:6]),
            "Undeclared undeclared": "update",
            "WorkerPool app": "delete",
        },
    ),
}


@pytest.fixture(scope="module")
def declared() -> dict[str, Any]:
    """The stack file's changes so far."""
    return {}


@pytest.mark.parametrize("name", CHANGES)
def test_up_takes_the_steps_that_preview_shows(
    swarm: Project, declared: dict[str, Any], name: str, tmp_path: Path
) -> None:
    change = CHANGES[name]
    add(declared, change.declared)
    swarm.declare(**declared)
    if change.by_hand:
        change.by_hand(swarm)

    planned = previewed(swarm)
    taken = applied(swarm, tmp_path / "events")

    assert sorted((planned - taken).elements()) == sorted((taken - planned).elements()) == []
    assert told(planned) == {key: {op} if isinstance(op, str) else op for key, op in change.steps.items()}
    swarm.up("--expect-no-changes")
    assert swarm.verdicts() == {}
    if change.seen:
        change.seen(swarm)


def add(to: dict[str, Any], change: dict[str, Any]) -> None:
    """Put a change over what was changed before; None stays, for it takes a key out of the lab's stack file."""
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(to.get(key), dict):
            add(to[key], value)
        else:
            to[key] = copy.deepcopy(value)


def previewed(swarm: Project) -> Counter[tuple[str, str]]:
    """Operation and URN of each step that changes something, as preview says."""
    shown = swarm.pulumi("preview", "--json", "--show-replacement-steps", "--stack", "lab").stdout
    return changing(json.loads(shown)["steps"])


def applied(swarm: Project, log: Path) -> Counter[tuple[str, str]]:
    """Operation and URN of each step that changed something, as the engine's own events tell."""
    swarm.exec(
        "env", "PULUMI_DEBUG_COMMANDS=1", "pulumi", "up", "--yes", "--skip-preview", "--stack", "lab",
        "--non-interactive", "--event-log", str(log), timeout=900,
    )  # fmt: skip
    events = [json.loads(line) for line in log.read_text().splitlines()]
    return changing(event["resourcePreEvent"]["metadata"] for event in events if "resourcePreEvent" in event)


def changing(steps: Iterable[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """The steps that change something.

    Without Pulumi's own default providers, which no preview shows: that of dynamic resources holds a copy of the settings.
    """
    return Counter(
        (step["op"], step["urn"])
        for step in steps
        if step["op"] not in NOTHING_DONE
        and not (":pulumi:providers:" in step["urn"] and step["urn"].endswith("::default"))
    )


def told(steps: Counter[tuple[str, str]]) -> dict[str, set[str]]:
    """The operations on each resource, by ``<type's last part> <name>``; the stack's own outputs are left out."""
    found: dict[str, set[str]] = {}
    for op, urn in steps:
        kind, name = urn.split("$")[-1].split("::")[-2].split(":")[-1], urn.split("::")[-1]
        if kind != "Stack":
            found.setdefault(f"{kind} {name}", set()).add(op)
    return found
