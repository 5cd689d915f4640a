"""Two stacks in one Proxmox VE cluster, and `make down`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.support import ROOT, SEVEN, Site, assert_whole, stack_file

HOSTS = ["pve01", "pve02", "pve03"]
MANAGERS = [f"other-{i}" for i in range(1, 6)]
WORKERS = ["other-worker-1", "other-worker-2"]
FILE = ROOT / "Pulumi.second.yaml"


def second_settings(**change: Any) -> dict[str, Any]:
    """Five managers and two workers with names, ids and addresses of their own."""
    nodes: dict[str, Any] = dict.fromkeys(SEVEN)
    for index, name in enumerate(MANAGERS):
        nodes[name] = {"pool": "app", "host": HOSTS[index % 3], "id": 5100 + index, "ip": 130 + index, "boot": 30}
    for index, name in enumerate(WORKERS):
        nodes[name] = {"pool": "infra", "host": HOSTS[index], "id": 5200 + index, "ip": 140 + index}
    return {"nodes": nodes, **change}


@pytest.fixture(scope="module")
def both(cluster: Site) -> Iterator[Site]:
    assert not FILE.exists(), f"{FILE} is in the way of this test"
    try:
        stack_file(second_settings(), FILE)
        cluster.pulumi("stack", "init", "second", "--no-select")
        cluster.pulumi("up", "--yes", "--skip-preview", "--stack", "second")
        yield cluster
    finally:
        cluster.pulumi("destroy", "--yes", "--skip-preview", "--stack", "second", check=False)
        FILE.unlink(missing_ok=True)


def test_two_swarms_beside_each_other(both: Site) -> None:
    assert_whole(both)
    both.exec("proxmox-swarm", "known-hosts", "--stack", "second")
    assert_whole(both, names=MANAGERS + WORKERS, managers=5, address="192.168.4.130")
    assert both.outputs()["clusterId"] != both.outputs("second")["clusterId"]
    assert both.steps() == {}
    assert both.steps(stack="second") == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": 4200, "ip": 150}, ["VM id 4200", "docker-infra-1", "stack swarm/lab"]),
        ({"id": 5300, "ip": 40}, ["address 192.168.4.40", "docker-infra-1", "stack swarm/lab"]),
    ],
    ids=["an id", "an address"],
)
def test_an_id_or_address_of_the_first_is_refused_and_untouched(
    both: Site, tmp_path: Path, change: dict[str, Any], words: list[str]
) -> None:
    before = _first_machine(both)
    settings = second_settings()
    settings["nodes"]["thief"] = {"pool": "infra", "host": "pve01", **change}
    thief = stack_file(settings, tmp_path / "thief.yaml")
    refused = both.pulumi(
        "up", "--yes", "--skip-preview", "--stack", "second", "--config-file", str(thief), check=False
    )
    assert refused.returncode != 0
    said = refused.stdout + refused.stderr
    assert all(word in said for word in words), said
    assert _first_machine(both) == before
    assert_whole(both)
    both.pulumi("up", "--yes", "--skip-preview", "--stack", "second")


def test_down_is_refused_while_another_stack_has_machines(both: Site) -> None:
    refused = both.make("down", check=False)
    assert refused.returncode != 0
    assert "swarm-second" in refused.stderr
    assert_whole(both)


def test_down_refuses_production(both: Site) -> None:
    refused = both.make("down", "STACK=prod", check=False)
    assert refused.returncode != 0
    assert "stack `lab` only" in refused.stderr
    assert_whole(both)


def test_down_leaves_nothing_whichever_stack_is_selected(both: Site) -> None:
    both.pulumi("destroy", "--yes", "--skip-preview", "--stack", "second")
    both.pulumi("stack", "select", "second")
    assert_whole(both)
    both.make("down")
    assert _left_of(both) == {}
    both.make("down")  # again: harmless
    # State and credentials stay, so that the stack can be looked at and made again.
    state = json.loads((both.folder / "state/.pulumi/stacks/swarm/lab.json").read_text())
    assert not state["checkpoint"]["latest"].get("resources")


def _first_machine(site: Site) -> dict[str, Any]:
    """What there is of docker-infra-1: its VM as Proxmox VE has it, when it booted, its node id."""
    booted = site.ssh("192.168.4.40", "cat /proc/sys/kernel/random/boot_id; stat -c %Y /proc/1").strip()
    config = site.exec(
        "sh",
        "-c",
        'curl -fsS --cacert "$SSL_CERT_FILE" -H "Authorization: PVEAPIToken=$PROXMOX_VE_API_TOKEN" '
        "https://192.168.2.11:8006/api2/json/nodes/pve01/qemu/4200/config",
    ).stdout
    return {"booted": booted, "config": json.loads(config), "node": site.nodes()["docker-infra-1"]["ID"]}


def _left_of(site: Site) -> dict[str, list[str]]:
    """What is still on this machine of a lab: processes, mounts, loop devices, network namespaces."""
    folder = str(site.folder)
    found = {
        "processes": [
            line
            for line in subprocess.run(
                ["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True
            ).stdout.splitlines()
            if folder in line and "pytest" not in line
        ],
        "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if folder in line],
        "loop devices": [
            line
            for line in subprocess.run(
                ["losetup", "-nlO", "BACK-FILE"], capture_output=True, text=True, check=True
            ).stdout.splitlines()
            if folder in line or "proxmox-swarm/image" in line
        ],
        "network namespaces": [path.name for path in Path("/run/netns").glob("*") if "vm" in path.name],
        "machines": [path.name for path in (site.folder / "pve" / "vms").glob("*")],
    }
    return {key: value for key, value in found.items() if value}
