"""`proxmox-swarm forget-host`: what has to be so before anything is changed, what is told, and what is kept."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxmox_swarm.cli import forget_host as module
from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.forget_host import forget_host
from proxmox_swarm.cli.pulumi import Stack
from proxmox_swarm.proxmox.client import Guest
from proxmox_swarm.swarm.errors import NoManager, QuorumAtRisk
from proxmox_swarm.swarm.inventory import Inventory, NodeEntry
from proxmox_swarm.swarm.quorum import Quorum
from tests.unit.cli.states import OURS, VM, Json, find, image, of_node

ROOT = Path(__file__).parents[3]
NODES = {"docker-app-1": "pve01", "docker-app-2": "pve02", "docker-infra-2": "pve02", "docker-app-3": "pve03"}


class Pulumi(Stack):
    """A stack whose state is in here."""

    def __init__(self, folder: Path) -> None:
        super().__init__("prod", folder, {})
        resources = [image(host) for host in ("pve01", "pve02", "pve03")]
        for name, host in NODES.items():
            resources += of_node(name, host, data=name == "docker-infra-2")
        for resource in resources:
            if resource["type"] == f"{OURS}Member":
                role = "manager" if "-app-" in resource["inputs"]["node"] else "worker"
                resource["inputs"] |= {"user": "ansible", "host_key": "ssh-ed25519 A", "cluster_id": "c1", "role": role}
        self.state: Json = {"resources": resources}
        self.imports = 0

    def run(self, *words: str) -> str:
        if words[:2] == ("stack", "export"):
            return json.dumps({"version": 3, "deployment": self.state})
        assert words[:2] == ("stack", "import")
        self.state = json.loads(Path(words[-1]).read_text())["deployment"]
        self.imports += 1
        return ""

    def locks(self) -> list[dict[str, Any]]:
        return []


class World:
    """What Proxmox VE, the swarm and the network say."""

    endpoint = "https://pve01:8006"

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.states = {"pve01": "online", "pve02": "offline", "pve03": "online"}
        self.listed: list[Guest] = []
        self.ready = {"id-docker-app-1", "id-docker-app-3"}
        self.answering: set[str] = set()
        self.managers_answer = True
        self.refuses: Exception | None = None
        self.removed: list[str] = []
        monkeypatch.setattr(module, "Client", lambda *_, **__: self)
        monkeypatch.setattr(module, "answering", lambda addresses: [a for a in addresses if a in self.answering])
        monkeypatch.setattr(module, "read_inventory", self._inventory)
        monkeypatch.setattr(module, "remove", self._remove)

    def hosts(self) -> dict[str, str]:
        return self.states

    def guests(self) -> tuple[Guest, ...]:
        return tuple(self.listed)

    def _remove(self, spec: Any, managers: Any, cluster_id: str, node_id: str, **deadlines: float) -> None:
        assert cluster_id == "c1" and {target.node for target in managers} == {"docker-app-1", "docker-app-3"}
        assert spec.role == ("manager" if "app" in node_id else "worker")
        assert deadlines.keys() == {"drain_timeout", "role_timeout"}
        if self.refuses is not None:
            raise self.refuses
        self.removed.append(node_id)

    def _inventory(self, managers: Any, cluster_id: str) -> Inventory:
        assert cluster_id == "c1" and {target.node for target in managers} == {"docker-app-1", "docker-app-3"}
        if not self.managers_answer:
            raise NoManager("looking for a manager", came_back="nobody answers", do_now="Bring them back.")
        entries = [
            NodeEntry(f"id-{name}", name, "10.0.4.1", "manager", "active", state, "reachable", False, "29", {})
            for name in NODES
            for state in ["ready" if f"id-{name}" in self.ready else "down"]
        ]
        return Inventory("c1", Quorum(3, 2), tuple(entries))


@pytest.fixture
def pulumi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pulumi:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("Pulumi.yaml", "Pulumi.prod.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    return Pulumi(tmp_path)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


Forget = Callable[..., list[str]]


@pytest.fixture
def forget(pulumi: Pulumi) -> Forget:
    """Forget a host, with the person's answer; returns what was said."""

    def run(host: str = "pve02", *, answer: bool = True) -> list[str]:
        said: list[str] = []
        forget_host(pulumi, host, said.append, lambda _: answer)
        return said

    return run


def test_it_leaves_the_state_and_the_state_before_is_kept_for_its_owner(
    pulumi: Pulumi, world: World, forget: Forget, tmp_path: Path
) -> None:
    before, ids = pulumi.state, {name: find(pulumi.state, VM, name)["inputs"]["vmId"] for name in NODES}
    holder = find(pulumi.state, VM, "docker-infra-2-data")["inputs"]["vmId"]
    world.listed = [Guest(int(ids["docker-app-2"]), "", "pve02", "qemu", "unknown", ())]

    said = forget()

    assert said[0] == "pve02 is offline. Of stack prod this was on it:"
    assert f"  docker-app-2     VM {ids['docker-app-2']}" in said
    assert f"  docker-infra-2   VM {ids['docker-infra-2']}, data disk of VM {holder}: ITS FILES ARE LOST" in said
    assert "  files            image-pve02, docker-app-2, docker-infra-2" in said
    assert "swarm: 2 of 3 managers reachable, 2 needed, NONE TO SPARE" in said
    (hint,) = [line for line in said if "still lists" in line]
    assert f"VM {ids['docker-app-2']} on pve02" in hint
    assert "`pvecm delnode pve02`, then `rm -r /etc/pve/nodes/pve02`" in hint
    assert said[-1].startswith("next: in Pulumi.prod.yaml declare docker-app-2, docker-infra-2 on another host")
    assert world.removed == ["id-docker-app-2", "id-docker-infra-2"]
    assert said.index("docker-infra-2 is out of the swarm") < said.index(said[-2])
    machines = {r["urn"].rpartition("::")[2] for r in pulumi.state["resources"] if r["type"] == VM}
    assert machines == {"docker-app-1", "docker-app-3"}
    (kept,) = (tmp_path / "state" / "proxmox-swarm").iterdir()
    assert said[-2] == f"state before this is kept in {kept}"
    assert json.loads(kept.read_text())["deployment"] == before
    assert (stat.S_IMODE(kept.stat().st_mode), stat.S_IMODE(kept.parent.stat().st_mode)) == (0o600, 0o700)


def test_a_second_time_there_is_nothing_to_do(pulumi: Pulumi, world: World, forget: Forget) -> None:
    forget()
    assert forget() == ["stack prod has nothing on pve02: nothing to forget"]
    assert pulumi.imports == 1


def refused(pulumi: Pulumi, forget: Forget, **options: Any) -> str:
    before = pulumi.state
    with pytest.raises(CommandError) as raised:
        forget(**options)
    assert pulumi.state is before
    return str(raised.value)


def test_a_host_nobody_knows_is_refused(pulumi: Pulumi, world: World, forget: Forget) -> None:
    assert refused(pulumi, forget, host="pve22") == "stack prod has nothing on pve22; its hosts: pve01, pve02, pve03"


@pytest.mark.parametrize("state", ["online", "unknown"])
def test_a_host_that_proxmox_does_not_call_offline_is_refused(
    pulumi: Pulumi, world: World, forget: Forget, state: str
) -> None:
    world.states["pve02"] = state
    assert refused(pulumi, forget).startswith(f"pve02 is {state}, says Proxmox VE at https://pve01:8006")


def test_a_host_that_is_out_of_the_cluster_already_is_gone_as_well(world: World, forget: Forget) -> None:
    del world.states["pve02"]
    said = forget()
    assert said[0].startswith("pve02 is no member of the Proxmox VE cluster. ")
    assert not [line for line in said if "still lists" in line]


def test_a_machine_that_the_swarm_hears_is_not_gone(pulumi: Pulumi, world: World, forget: Forget) -> None:
    world.ready.add("id-docker-infra-2")
    said = refused(pulumi, forget)
    assert said.startswith("docker-infra-2 (") and "still runs: its host is cut off, not gone" in said


def test_a_machine_that_answers_is_not_gone(pulumi: Pulumi, world: World, forget: Forget) -> None:
    world.answering.add(find(pulumi.state, f"{OURS}Member", "docker-app-2")["inputs"]["address"])
    assert refused(pulumi, forget).startswith("docker-app-2 (")


def test_without_a_quorum_nothing_is_changed(pulumi: Pulumi, world: World, forget: Forget) -> None:
    world.managers_answer = False
    before = pulumi.state
    with pytest.raises(NoManager):
        forget()
    assert pulumi.state is before and world.removed == []


def test_what_the_swarm_does_not_let_go_stays_in_the_state(pulumi: Pulumi, world: World, forget: Forget) -> None:
    world.refuses = QuorumAtRisk("taking a manager out", came_back="it would cost the quorum", do_now="Bring it back.")
    before = pulumi.state
    with pytest.raises(QuorumAtRisk):
        forget()
    assert pulumi.state is before


def test_machines_that_never_joined_need_no_swarm(pulumi: Pulumi, world: World, forget: Forget) -> None:
    pulumi.state["resources"] = [r for r in pulumi.state["resources"] if r["type"] != f"{OURS}Member"]
    world.managers_answer = False
    said = forget()
    assert [line for line in said if line.endswith("never joined")]
    assert world.removed == [] and pulumi.imports == 1


def test_without_consent_nothing_is_changed(pulumi: Pulumi, world: World, forget: Forget, tmp_path: Path) -> None:
    assert refused(pulumi, forget, answer=False) == "pve02 is not forgotten: nothing was changed"
    assert world.removed == []
    assert not (tmp_path / "state").exists()


def test_nodes_that_are_declared_elsewhere_already_need_no_more_words(
    pulumi: Pulumi, world: World, forget: Forget, tmp_path: Path
) -> None:
    file = tmp_path / "Pulumi.prod.yaml"
    text = file.read_text().replace("host: pve02", "host: pve03") + "  swarm:guards: {managersOnOneHost: true}\n"
    file.write_text(text)
    assert forget()[-1] == "next: `pulumi up --refresh -s prod`"
