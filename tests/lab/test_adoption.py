"""A cluster that people built by hand is taken over as it runs; later its nodes are rebuilt, one by one, from the image."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab import by_hand
from tests.lab.by_hand import Machine
from tests.lab.project import ADDRESS, Project
from tests.lab.support import Site, assert_whole, kill

FIRST = ADDRESS["docker-app-1"]
DAEMON = {
    "log-driver": "json-file",
    "log-opts": {"max-size": "50m", "max-file": "3"},
    "default-address-pools": [{"base": "172.20.0.0/16", "size": 24}],
    "insecure-registries": ["192.168.2.20:5000"],
}
#: A machine that differs from the provider's defaults, and from what we would make, wherever it may.
UNUSUAL = {
    "sockets": 2,
    "onboot": 0,
    "tablet": 0,
    "bios": "ovmf",
    "machine": "q35",
    "numa": 1,
    "balloon": 512,
    "vga": "type=std",
    "serial0": "socket",
    "keyboard": "de",
    "hotplug": "network,disk",
    "startup": "order=2,up=30",
    "net0": "e1000,bridge=vmbr0,tag=4,mtu=1400",
    "boot": "order=scsi0;net0",
    "scsihw": "lsi",
    "scsi0": f"local-lvm:0,import-from=local:import/{by_hand.IMAGE},cache=writeback,discard=on,ssd=1",
    "virtio1": "local-lvm:1",
    "ide3": "none,media=cdrom",
    "agent": "enabled=1,fstrim_cloned_disks=1",
    "cpulimit": 2,
    "cpuunits": 200,
    "watchdog": "model=i6300esb,action=reset",
    "rng0": "source=/dev/urandom",
    "nameserver": "192.168.2.4 192.168.4.5",
    "searchdomain": "lab",
    "shares": 500,
    "localtime": 1,
}
MACHINES = [
    Machine("docker-app-1", "pve01", 4100, FIRST),
    Machine("docker-app-2", "pve02", 4101, ADDRESS["docker-app-2"]),
    Machine("docker-app-3", "pve03", 4102, ADDRESS["docker-app-3"]),
    Machine("docker-infra-1", "pve01", 4200, ADDRESS["docker-infra-1"], more={"scsi1": "local-lvm:1"}),
    Machine("swarmpit-mgmt", "pve01", 4300, ADDRESS["swarmpit-mgmt"], cores=1, memory=768, more=UNUSUAL),
]
NAMES = [machine.name for machine in MACHINES]
MANAGERS, WORKERS = NAMES[:3], NAMES[3:]
BY_HAND = {"rack": "a1", "storage": "hdd"}
REBUILT = ["docker-app-3", "docker-infra-1"]
#: What the adoption writes into a machine's configuration.
NOTED = ("description", "tags")
ALIVE = (
    "systemctl show --property=ActiveEnterTimestampMonotonic docker containerd;"
    " docker ps --no-trunc --format '{{.ID}} {{.CreatedAt}}' | sort"
)


class Found(Project):
    """A cluster built by hand, and a project that shall take it over."""

    def __init__(self, lab: Path, project: Path) -> None:
        super().__init__(lab, project)
        self.nodes_declared: dict[str, Any] = {}

    def build(self) -> None:
        """Machines, a swarm, labels and a service: all by the commands people use for it."""
        self.run("lab", "up")
        by_hand.create(self, MACHINES)
        self.add_image([machine.address for machine in MACHINES])
        write = (
            f"mkdir -p /etc/docker && echo '{json.dumps(DAEMON)}' >/etc/docker/daemon.json && systemctl restart docker"
        )
        self.everywhere(lambda address: self.ssh(address, write))
        self.ssh(FIRST, f"docker swarm init --advertise-addr {FIRST} --default-addr-pool 10.201.0.0/16")
        for machine in MACHINES[1:]:
            role = "manager" if machine.name in MANAGERS else "worker"
            token = self.ssh(FIRST, f"docker swarm join-token -q {role}").strip()
            self.ssh(machine.address, f"docker swarm join --token {token} {FIRST}:2377")
        labels = " ".join(f"--label-add {key}={value}" for key, value in BY_HAND.items())
        self.ssh(FIRST, f"docker node update {labels} docker-infra-1")
        self.ssh(
            FIRST,
            "docker service create --quiet --no-resolve-image --mode global --stop-signal KILL --name web sleeper",
        )
        limit = time.monotonic() + 60
        while len(self.tasks("web", FIRST)) < len(MACHINES):
            assert time.monotonic() < limit, self.ssh(FIRST, "docker service ps web")
            time.sleep(0.2)

    def look(self) -> None:
        """Have the settings of the nodes told by the command that looks at what is there."""
        told = self.run("proxmox-swarm", "adoption", FIRST)
        written = yaml.safe_load(told.stdout)
        assert "#" not in told.stdout.partition("\n")[2], told.stdout  # nothing to see to
        self.nodes_declared = written.pop("swarm:nodes")
        assert sorted(self.nodes_declared) == sorted(NAMES)
        assert self.nodes_declared["docker-infra-1"].pop("labels") == BY_HAND  # what the stack declares shall count
        assert self.nodes_declared["swarmpit-mgmt"]["memory"] == 0.75
        assert written == {"swarm:cluster": {"addressPool": ["10.201.0.0/16"]}, "swarm:docker": {"daemon": DAEMON}}

    def everywhere(
        self, action: Callable[[str], object], addresses: Iterable[str] = tuple(machine.address for machine in MACHINES)
    ) -> None:
        """On each of the five at the same time."""
        super().everywhere(action, addresses)

    def declare(self, **change: Any) -> None:
        """The stack file with the nodes that were found, and these changes to single nodes."""
        nodes = {name: dict(keys) for name, keys in getattr(self, "nodes_declared", {}).items()}
        for name, keys in change.pop("nodes", {}).items():
            nodes[name] = {key: v for key, v in {**nodes.get(name, {}), **keys}.items() if v is not None}
        super().declare(nodes={**dict.fromkeys(("docker-infra-2", "docker-infra-3")), **nodes}, **change)

    def pending(self) -> dict[str, set[str]]:
        """What waits for the next power cycle of each machine."""
        shown = {m.name: self.api(f"nodes/{m.host}/qemu/{m.vm_id}/pending") for m in MACHINES}
        return {name: {e["key"] for e in all_ if "pending" in e or "delete" in e} for name, all_ in shown.items()}

    def record(self) -> list[dict[str, Any]]:
        """The lab's record of requests and tasks."""
        return self._lab.record()

    def up_cut_short(self) -> None:
        """``make up``, killed with all its processes when the first machine has just been marked."""
        begun = len(self.record())
        running = self.start("make", "--silent", "up", log=self.folder / "up.log")
        try:
            limit = time.monotonic() + 120
            while not any(entry.get("method") == "PUT" for entry in self.record()[begun:]):
                assert time.monotonic() < limit and running.poll() is None, (self.folder / "up.log").read_text()
                time.sleep(0.05)
        finally:
            kill(self, running.pid, whole_group=True)
            running.wait()

    def tasks_begun(self, since: int) -> list[str]:
        """The tasks that Proxmox VE began after the record had this many entries."""
        return [entry["type"] for entry in self.record()[since:] if entry.get("event") == "task-start"]

    def api(self, path: str) -> Any:
        """An answer of Proxmox VE's API."""
        answer = self.exec(
            "sh",
            "-c",
            'curl -fsS --cacert "$SSL_CERT_FILE" -H "Authorization: PVEAPIToken=$PROXMOX_VE_API_TOKEN" '
            f"https://192.168.2.11:8006/api2/json/{path}",
        )
        return json.loads(answer.stdout)["data"]

    def configurations(self) -> dict[str, dict[str, Any]]:
        """Each machine's configuration on Proxmox VE, without what changes with every write."""
        found = {m.name: self.api(f"nodes/{m.host}/qemu/{m.vm_id}/config?current=1") for m in MACHINES}
        return {name: {k: v for k, v in config.items() if k != "digest"} for name, config in found.items()}

    def alive(self) -> dict[str, str]:
        """When each machine's engine and containers started, and which containers they are."""
        return {machine.name: self.ssh(machine.address, ALIVE) for machine in MACHINES}

    def operations(self, *words: str) -> list[tuple[str, str]]:
        """Every step of a preview that does something: operation and resource."""
        shown = json.loads(self.pulumi("preview", "--json", "--stack", "lab", *words).stdout)
        return sorted(
            (step["op"], f"{step['urn'].split('$')[-1].split('::')[0].split(':')[-1]} {step['urn'].split('::')[-1]}")
            for step in shown["steps"]
            if step["op"] not in ("same", "refresh")
        )


@pytest.fixture(scope="module")
def found(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    """The cluster as it was found, and a stack that has nothing in it yet."""
    cluster = Found(site.folder, tmp_path_factory.mktemp("found") / "project")
    cluster.build()
    cluster.look()
    cluster.declare()
    make = "from pathlib import Path as P; from proxmox_swarm.cli.pulumi import Stack; import os"
    make += "; Stack('lab', P.cwd(), os.environ).create()"
    cluster.exec("python", "-c", make)
    yield cluster


@pytest.fixture(scope="module")
def adopted(found: Found) -> Found:
    """The same cluster, taken over; what must hold is asserted here, for it happens once."""
    before = {"alive": found.alive(), "machines": found.configurations(), "nodes": _nodes(found)}
    steps = found.operations()
    assert {op for op, _ in steps} == {"create", "import", "update"}
    for op in ("import", "update"):
        assert [what for this, what in steps if this == op] == [f"VmLegacy {name}" for name in NAMES]
    assert not [what for _, what in steps if what.split()[0] in ("FirstBoot", "FileLegacy", "File")]
    begun = len(found.record())

    found.up_cut_short()
    told = found.make("up").stdout
    assert "docker-infra-1 adopted, swarmpit-mgmt adopted" in told, told

    assert found.alive() == before["alive"]
    assert found.tasks_begun(begun) == []  # no power cycle, no disk, no machine: Proxmox VE had no task at all
    # The agent's line is written in full, which says the same; see docs/adoption.md.
    assert found.pending() == {name: {"agent"} for name in NAMES}
    for name, config in found.configurations().items():
        old = before["machines"][name]
        assert config["description"].splitlines()[:-1] == old["description"].splitlines()
        assert config["tags"] == "prod;swarm-lab;terraform"
        assert {k: v for k, v in config.items() if k not in NOTED} == {k: v for k, v in old.items() if k not in NOTED}
    assert {name: node[0] for name, node in _nodes(found).items()} == {
        name: node[0] for name, node in before["nodes"].items()
    }
    assert_whole(found, NAMES)
    return found


def test_what_is_adopted_goes_on_as_it_was_and_the_next_run_changes_nothing(adopted: Found) -> None:
    assert adopted.operations() == []
    assert adopted.outputs()["sshHostKeys"]["docker-infra-1"] == adopted.nodes_declared["docker-infra-1"]["hostKey"]
    adopted.up("--expect-no-changes")
    adopted.pulumi("refresh", "--yes", "--skip-preview", "--stack", "lab", "--expect-no-changes")
    assert adopted.operations() == []
    assert adopted.operations("--refresh") == []
    assert adopted.run("proxmox-swarm", "status").stdout.startswith("WHOLE")


def test_labels_and_keys_of_daemon_json_that_were_found_are_kept_and_those_once_declared_go(adopted: Found) -> None:
    alive = adopted.alive()
    assert _nodes(adopted)["docker-infra-1"][1] == {"rack": "a1", "storage": "ssd"}  # declared otherwise than hdd
    changed = [("update", f"HostState {name}") for name in NAMES] + [("update", "Member docker-infra-1")]
    adopted.declare(
        nodes={"docker-infra-1": {"labels": {"zone": "b"}}},
        docker={"daemon": {"max-concurrent-downloads": 5}},  # needs no restart
    )
    assert adopted.operations() == changed
    adopted.up()
    for machine in MACHINES:
        written = json.loads(adopted.ssh(machine.address, "cat /etc/docker/daemon.json"))
        assert written == {**DAEMON, "max-concurrent-downloads": 5}
    adopted.ssh(FIRST, "docker node update --label-add by=hand docker-infra-1")
    adopted.refresh()
    assert adopted.operations() == []
    adopted.declare()
    assert adopted.operations() == changed
    adopted.up()
    assert _nodes(adopted)["docker-infra-1"][1] == {"rack": "a1", "storage": "ssd", "by": "hand"}
    assert adopted.alive() == alive


def test_cores_are_changed_by_a_power_cycle_and_everything_else_stays_as_found(adopted: Found) -> None:
    name = "swarmpit-mgmt"
    before, alive = adopted.configurations()[name], adopted.alive()
    adopted.declare(nodes={name: {"cpu": 2}})
    assert adopted.operations() == [("update", f"Member {name}"), ("update", f"VmLegacy {name}")]
    adopted.up()
    after = adopted.configurations()[name]
    assert (after.pop("cores"), before.pop("cores")) == (2, 1)
    assert after.pop("agent") == f"{before.pop('agent')},type=virtio"
    assert after == before
    assert {one for one, told in adopted.alive().items() if told != alive[one]} == {name}
    adopted.nodes_declared[name]["cpu"] = 2
    assert adopted.operations() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hostKey": None}, "put hostKey back, or say that it is meant: generation: 2"),
        ({"id": 4299}, "cannot change while it lives"),
        ({"ip": 99}, "cannot change while it lives"),
        ({"generation": 2}, "would destroy disks that belong to its machine: scsi1 (local-lvm:vm-4200-disk-1)"),
    ],
)
def test_preview_refuses_what_would_cost_an_adopted_machine(adopted: Found, change: dict[str, Any], words: str) -> None:
    adopted.declare(nodes={"docker-infra-1": change})
    shown = adopted.pulumi("preview", "--stack", "lab", check=False)
    assert shown.returncode != 0
    errors = [line for line in shown.stdout.splitlines() if line.strip().startswith("error:")]
    assert words in errors[0] and "docker-infra-1" in errors[0], errors


def test_a_higher_generation_rebuilds_adopted_nodes_from_the_image_one_after_the_other(adopted: Found) -> None:
    adopted.declare()
    assert adopted.operations() == []  # what was refused has left no trace
    before, keys = _nodes(adopted), adopted.outputs()["sshHostKeys"]
    others = {name: alive for name, alive in adopted.alive().items() if name not in REBUILT}
    adopted.declare(
        nodes={
            "docker-app-3": {"generation": 2},
            "docker-infra-1": {"generation": 2, "discard": ["scsi1"], "data": 1},
        }
    )
    steps = adopted.operations()
    assert sorted(what for op, what in steps if op == "replace") == sorted(
        f"{kind} {name}" for kind in ("HostState", "Member", "VmLegacy") for name in REBUILT
    )
    assert not [what for _, what in steps if what.split()[1] in set(NAMES) - set(REBUILT)]

    adopted.up()

    assert_whole(adopted, NAMES)
    after = _nodes(adopted)
    assert {name for name in NAMES if after[name][0] != before[name][0]} == set(REBUILT)
    assert after["docker-infra-1"][1] == {"storage": "ssd"}  # as declared, and no more
    assert adopted.outputs()["sshHostKeys"] == keys
    assert "data-4700" in adopted.ssh(ADDRESS["docker-infra-1"], "findmnt -no SOURCE /var/lib/data")
    assert {name: alive for name, alive in adopted.alive().items() if name not in REBUILT} == others
    assert adopted.operations() == []
    # From here on they are nodes like any other: the host key in the settings has done its part.
    adopted.declare(
        nodes={
            "docker-app-3": {"generation": 2, "hostKey": None},
            "docker-infra-1": {"generation": 2, "data": 1, "hostKey": None},
        }
    )
    assert adopted.operations() == []
    adopted.pulumi("refresh", "--yes", "--skip-preview", "--stack", "lab", "--expect-no-changes")


def test_machines_whose_state_is_lost_are_taken_over_as_they_run(adopted: Found) -> None:
    """Those that were built by hand and those that this program made, one of them with a data disk."""
    alive, nodes, keys = adopted.alive(), _nodes(adopted), adopted.outputs()["sshHostKeys"]
    (adopted.folder / "state" / ".pulumi" / "stacks" / "swarm" / "lab.json").unlink()
    told = yaml.safe_load(adopted.run("proxmox-swarm", "adoption", FIRST).stdout)["swarm:nodes"]
    assert {name: node["hostKey"] for name, node in told.items()} == keys
    adopted.nodes_declared = told
    adopted.declare()
    begun = len(adopted.record())

    adopted.make("up")

    assert adopted.alive() == alive
    assert adopted.tasks_begun(begun) == []
    assert _nodes(adopted) == nodes
    assert_whole(adopted, NAMES)
    assert "data-4700" in adopted.ssh(ADDRESS["docker-infra-1"], "findmnt -no SOURCE /var/lib/data")
    assert adopted.operations() == []


def _nodes(cluster: Found) -> dict[str, tuple[str, dict[str, str]]]:
    """Each node's id and labels, as the engines tell them."""
    return {name: (node["ID"], node["Spec"].get("Labels") or {}) for name, node in cluster.nodes().items()}
