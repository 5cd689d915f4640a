"""What the Proxmox VE API saw of `make up`: bounded tasks, faults survived, every request and answer as the schema has it."""

from __future__ import annotations

from collections import defaultdict

from proxmox_swarm.lab import Lab
from tests.lab.support import Site, assert_whole

PARALLEL = 2
VM_TASKS = {"qmcreate", "resize", "qmstart", "imgcopy", "qmmove"}


def test_never_more_tasks_on_a_host_than_declared_and_a_lock_timeout_is_survived(site: Site) -> None:
    lab = Lab(site.folder)
    site.run("lab", "up")
    lab.faults.add("lock-timeout", task="qmcreate", host="pve02", count=1)
    lab.faults.add("slow", seconds=0.5, count=99)  # long enough to overlap, if anything lets them
    site.make("up")
    assert_whole(site)

    record = list(lab.record())
    assert any(entry.get("exitstatus", "").startswith("can't lock file") for entry in record)
    running: dict[str, set[str]] = defaultdict(set)
    most: dict[str, int] = defaultdict(int)
    for entry in record:
        if entry.get("type") not in VM_TASKS:
            continue
        if entry["event"] == "task-start":
            running[entry["node"]].add(entry["upid"])
            most[entry["node"]] = max(most[entry["node"]], len(running[entry["node"]]))
        else:
            running[entry["node"]].discard(entry["upid"])
    assert set(most) == {"pve01", "pve02", "pve03"}
    assert max(most.values()) == PARALLEL, dict(most)
    assert lab.stats()["schema_violations"] == 0
