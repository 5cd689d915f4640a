"""Managers lost: a backup of raft's state, a quorum that comes back by itself, one that is forced, one that is restored."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import tarfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.lab.project import ADDRESS, MANAGERS, VM_ID, Project
from tests.lab.support import ELECTION, SEVEN, assert_whole, until
from tests.lab.terminal import Terminal
from tests.lab.watch import QuorumWatch

WORKERS = [name for name in SEVEN if name not in MANAGERS]
LABELS = {name: {"storage": "ssd"} if "infra" in name else {} for name in SEVEN} | {
    "swarmpit-mgmt": {"portainer.data": "true"}
}
KINDS = {
    "services": "docker service ls -q",
    "networks": "docker network ls -q --no-trunc --filter scope=swarm",
    "secrets": "docker secret ls -q",
    "configs": "docker config ls -q",
}


@pytest.fixture(scope="module")
def filled(swarm: Project) -> Project:
    """The swarm with something in it: a service on every worker with a secret, a network of its own, a config."""
    swarm.add_image()
    swarm.ssh(
        ADDRESS["docker-app-1"],
        "docker network create --driver overlay inner && echo secret | docker secret create word - &&"
        " echo config | docker config create text - && docker service create --quiet --detach --no-resolve-image"
        " --mode global --constraint node.role==worker --stop-signal KILL --endpoint-mode dnsrr --network inner"
        " --secret word --name web sleeper",
    )
    until(lambda: len(swarm.tasks("web", ADDRESS["docker-app-1"])) == len(WORKERS), 60, "a task on every worker")
    return swarm


def contents(swarm: Project, address: str) -> dict[str, list[str]]:
    """The ids of all that the swarm has, by kind."""
    return {kind: sorted(swarm.ssh(address, command).split()) for kind, command in KINDS.items()}


def assert_as_before(swarm: Project, before: dict[str, Any], address: str, *, elections: bool = True) -> None:
    """The same swarm, with all that was in it, and a task on every worker: those of ``before`` where nobody was elected.

    A worker that knows of managers that are dead may be too late for the new leader. It then counts as down for a moment, and
    its tasks are started anew.
    """
    assert swarm.engine(address)["Cluster"]["ID"] == before["cluster"]
    assert contents(swarm, address) == before["contents"]
    nodes = swarm.nodes(address)
    assert {name: nodes[name]["Spec"].get("Labels", {}) for name in WORKERS} == {n: LABELS[n] for n in WORKERS}
    if elections:
        until(lambda: sorted(swarm.tasks("web", address).values()) == sorted(WORKERS), 90, "a task on every worker")
    else:
        assert swarm.tasks("web", address) == before["tasks"]


def known(swarm: Project, address: str = ADDRESS["docker-app-1"]) -> dict[str, Any]:
    """What has to be there afterwards too."""
    return {
        "cluster": swarm.outputs()["clusterId"],
        "contents": contents(swarm, address),
        "tasks": swarm.tasks("web", address),
    }


def ours(swarm: Project, *words: str, check: bool = True) -> tuple[str, int]:
    """A command of ours, as it is typed in the project's folder; all it said."""
    done = swarm.exec("proxmox-swarm", *words, check=check)
    return done.stdout + done.stderr, done.returncode


def refused(swarm: Project, *words: str) -> str:
    """What a command of ours that must fail gives as its reason."""
    said, code = ours(swarm, *words, check=False)
    assert code != 0, said
    return next(line for line in said.splitlines() if line.startswith("error:"))


def killed(swarm: Project, line: str, *words: str) -> None:
    """A command of ours, killed when it has said a line that begins so."""
    process = swarm.open("proxmox-swarm", *words)
    assert process.stdout is not None
    for said in process.stdout:
        if said.startswith(line):
            break
    else:
        raise AssertionError(f"it never said {line}")
    process.kill()
    process.wait()


def leader(swarm: Project, address: str) -> str:
    return next(n for n, node in swarm.nodes(address).items() if (node.get("ManagerStatus") or {}).get("Leader"))


def all_reachable(swarm: Project, address: str) -> bool:
    managers = [m for _, _, _, m in swarm.summary(address) if m]
    return sorted(managers) == ["Leader", "Reachable", "Reachable"]


def assert_settled(swarm: Project, address: str) -> None:
    """Whole, once nodes are heard of again: after a change of leader they are unknown until their next heartbeat."""
    until(lambda: {status for _, status, _, _ in swarm.summary(address)} == {"Ready"}, 60, "all nodes ready")
    assert_whole(swarm, address=address)


@pytest.fixture(scope="module")
def file(filled: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of the swarm as it is at the beginning."""
    return tmp_path_factory.mktemp("backups") / "first.backup"


def test_a_backup_costs_no_quorum_and_leaves_the_swarm_as_it_was(filled: Project, file: Path) -> None:
    swarm = filled
    before = known(swarm)
    led = leader(swarm, ADDRESS["docker-app-1"])
    with QuorumWatch(swarm) as watch:
        begun = time.time()
        said, _ = ours(swarm, "backup", "--to", str(file))
        until(lambda: all_reachable(swarm, ADDRESS[led]), ELECTION, "all managers back")
        assert len(watch.fewest(begun).reachable) >= 2, watch.told(begun)
        assert watch.leaderless(begun) < 3, watch.told(begun)
    assert str(file) in said and "private keys" in said

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with tarfile.open(file) as archive:
        manifest = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]
        packed = archive.extractfile("swarm.tar.gz").read()  # type: ignore[union-attr]
    assert manifest["node"] in MANAGERS and manifest["node"] != led
    nodes = swarm.nodes()
    assert manifest["cluster_id"] == before["cluster"]
    assert manifest["node_id"] == nodes[manifest["node"]]["ID"]
    assert manifest["sha256"] == hashlib.sha256(packed).hexdigest()
    assert manifest["contents"] == {**{kind: len(ids) for kind, ids in before["contents"].items()}, "nodes": 7}
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert {"./certificates/swarm-node.key", "./docker-state.json"} <= set(archive.getnames())

    assert_as_before(swarm, before, ADDRESS[led], elections=False)
    assert {node["Spec"]["Availability"] for node in nodes.values()} == {"active"}
    left = swarm.ssh(ADDRESS[manifest["node"]], "ls /var/lib/docker; systemctl list-timers --all --no-legend")
    assert "swarm." not in left and "proxmox-swarm" not in left
    assert swarm.steps("--refresh") == {}


def test_a_leader_whose_engine_restarts_is_a_manager_again(filled: Project) -> None:
    swarm = filled
    before = known(swarm)
    led = leader(swarm, ADDRESS["docker-app-1"])
    other = next(name for name in MANAGERS if name != led)
    with QuorumWatch(swarm) as watch:
        begun = time.time()
        swarm.restart_engines(led)
        until(lambda: all_reachable(swarm, ADDRESS[other]), 2 * ELECTION, "all managers back")
        assert len(watch.fewest(begun).reachable) >= 2, watch.told(begun)
        assert watch.leaderless(begun) < ELECTION, watch.told(begun)
    assert_as_before(swarm, before, ADDRESS[other])
    assert_settled(swarm, ADDRESS[other])


def test_after_a_split_the_side_with_the_majority_goes_on_and_the_other_follows_later(filled: Project) -> None:
    """One manager and one worker on one side, the others on the other; the operator reaches both."""
    swarm = filled
    before = known(swarm)
    few, alone = ("docker-app-1", "docker-infra-1"), ADDRESS["docker-app-1"]
    many, there = [name for name in SEVEN if name not in few], ADDRESS["docker-app-2"]
    walls = [
        f"{chain} {way} {ADDRESS[name]} -j DROP" for name in many for chain, way in (("INPUT", "-s"), ("OUTPUT", "-d"))
    ]
    with swarm.rules({ADDRESS[name]: walls for name in few}):
        until(lambda: swarm.engine(alone)["Error"], 90, "the smaller side has no leader")
        until(lambda: leader(swarm, there) in many, ELECTION, "the larger side has one")
        swarm.ssh(there, "echo decided | docker config create meanwhile -")
        assert "has a leader and takes decisions" in refused(swarm, "recover", "--yes")
        assert "meanwhile" not in swarm.ssh(alone, "docker config ls 2>&1 || true")
    until(lambda: all_reachable(swarm, there), 2 * ELECTION, "one swarm again")
    until(
        lambda: "meanwhile" in swarm.ssh(alone, "docker config ls 2>&1 || true"), ELECTION, "what was decided is known"
    )
    swarm.ssh(there, "docker config rm meanwhile")
    assert_settled(swarm, alone)
    assert swarm.engine(alone)["Cluster"]["ID"] == before["cluster"]
    until(lambda: len(swarm.tasks("web", alone)) == len(WORKERS), 60, "a task on every worker")


def test_a_quorum_that_is_cut_off_is_not_forced_and_comes_back_by_itself(filled: Project) -> None:
    """Two of three managers run on unseen: were they forced out, the swarm would be split in two."""
    swarm = filled
    before = known(swarm)
    assert "has a leader and takes decisions" in refused(swarm, "recover", "--yes")
    lost = ("docker-app-2", "docker-app-3")
    for name in lost:
        swarm.faults.cut(VM_ID[name])
    try:
        said = refused(swarm, "recover", "--yes")
        assert all(name in said for name in lost), said
        assert "not shown to be off" in said and "running" in said and "--others-are-gone" in said, said
        assert (
            swarm.engine(ADDRESS["docker-app-1"])["Cluster"] is None or swarm.engine(ADDRESS["docker-app-1"])["Error"]
        )
    finally:
        for name in lost:
            swarm.faults.mend(VM_ID[name])
    until(lambda: all_reachable(swarm, ADDRESS["docker-app-1"]), 2 * ELECTION, "the quorum back")
    assert_as_before(swarm, before, ADDRESS["docker-app-1"])
    assert_settled(swarm, ADDRESS["docker-app-1"])


def test_two_of_three_managers_lost_for_good(filled: Project, tmp_path: Path) -> None:
    """One machine is destroyed, one is off and starts again later with its old state.

    The person who is asked thinks twice; then `recover` is killed once.
    """
    swarm = filled
    before = known(swarm)
    gone, off, survivor = "docker-app-1", "docker-app-2", "docker-app-3"
    swarm.destroy_machine(VM_ID[gone])
    assert "has a leader and takes decisions" in refused(swarm, "recover", "--yes"), "two of three are a majority"
    swarm.faults.crash(VM_ID[off])
    until(lambda: swarm.engine(ADDRESS[survivor])["Error"], 60, "the loss is noticed")

    kept = tmp_path / "survivor.backup"
    prefix = before["cluster"][:4]
    with Terminal(swarm, "proxmox-swarm", "recover", "--to", str(kept)) as person:
        person.shows(rf"survivor  {survivor} knows the most")
        person.shows(rf"Type {prefix}, ")
        person.type("yes")
        assert person.ends() == 1, person.said
        assert "not confirmed: nothing was changed" in person.said, person.said
    assert not kept.exists()
    with Terminal(swarm, "proxmox-swarm", "recover", "--to", str(kept)) as person:
        person.shows(rf"Type {prefix}, ")
        person.type(prefix)
        person.shows(r"\nforced ", 300)  # and is killed
    said, code = ours(swarm, "recover", "--yes", "--to", str(kept), check=False)
    # The restart that was begun on the node ends by itself: the second run finds it at work, or done.
    assert "next: make up" in said if code == 0 else "nothing to recover" in said, said

    assert_as_before(swarm, before, ADDRESS[survivor])
    told = swarm.engine(ADDRESS[survivor])
    assert (told["Nodes"], told["Managers"]) == (7, 1)
    assert {status for name, status, _, _ in swarm.summary(ADDRESS[survivor]) if name in WORKERS} == {"Ready"}
    until(
        lambda: not swarm.ssh(ADDRESS[survivor], "ls /var/lib/docker/swarm | grep -e recovery -e detached || true"),
        30,
        "done",
    )
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600

    swarm.make("up")
    assert_whole(swarm, address=ADDRESS[survivor])
    assert swarm.engine(ADDRESS[survivor])["Nodes"] == 7
    assert_as_before(swarm, before, ADDRESS[survivor])
    assert swarm.verdicts() == {}
    assert swarm.steps() == {}


def test_all_managers_lost_and_a_backup_restored(filled: Project, file: Path) -> None:
    swarm = filled
    node = json.loads(tarfile.open(file).extractfile("manifest.json").read())["node"]  # type: ignore[union-attr] # noqa: SIM115
    other = next(name for name in MANAGERS if name != node)
    address = ADDRESS[node]
    before = known(swarm)
    assert "has a leader" in refused(swarm, "restore", str(file), "--node", node, "--yes")
    assert f"taken on {node}" in refused(swarm, "restore", str(file), "--node", other, "--yes")
    for name in MANAGERS:
        swarm.destroy_machine(VM_ID[name])
    said = refused(swarm, "restore", str(file), "--node", node, "--yes")
    command = f"PROXMOX_SWARM_FIRST={node} pulumi up --refresh -s lab"
    assert command in said, said
    made = swarm.exec("env", *command.split(), "--yes", "--skip-preview", "--non-interactive", check=False)
    assert made.returncode != 0 and "looking for a manager" in made.stdout + made.stderr, made.stdout + made.stderr

    killed(swarm, "backup", "restore", str(file), "--node", node, "--yes")
    said, _ = ours(swarm, "restore", str(file), "--node", node, "--yes")
    assert "next: make up" in said, said
    assert_as_before(swarm, before, address)

    swarm.make("up")
    assert_whole(swarm, address=address)
    assert swarm.engine(address)["Nodes"] == 7
    assert_as_before(swarm, before, address)
    assert swarm.verdicts() == {}


def test_a_swarm_whose_managers_lock_themselves_is_recovered_with_the_stack_s_key(filled: Project) -> None:
    """No engine unlocks and forces at once; and an ordinary force ends the locking and rotates the root CA anew."""
    swarm = filled
    address = ADDRESS["docker-app-1"]
    swarm.ssh(address, "docker swarm ca --rotate --quiet")
    swarm.declare(cluster={"autolock": True})
    swarm.make("up")
    before = known(swarm)
    key, ca = swarm.ssh(address, "docker swarm unlock-key -q"), authority(swarm, address)
    assert key.startswith("SWMKEY-1-") and ca["ForceRotate"]
    lost = ("docker-app-2", "docker-app-3")
    for name in lost:
        swarm.faults.crash(VM_ID[name])
    until(lambda: swarm.engine(address)["Error"], 60, "the loss is noticed")

    said, _ = ours(swarm, "recover", "--yes")
    assert key.strip() not in said
    assert_as_before(swarm, before, address)
    assert swarm.ssh(address, "docker swarm unlock-key -q") == key
    assert "ENCRYPTED" in swarm.ssh(address, "head -1 /var/lib/docker/swarm/certificates/swarm-node.key")
    assert authority(swarm, address) == ca

    swarm.make("up")
    assert_whole(swarm, address=address)
    assert swarm.engine(address)["Nodes"] == 7
    assert authority(swarm, address) == ca
    assert swarm.verdicts() == {}


def authority(swarm: Project, address: str) -> dict[str, Any]:
    """The root CA, how often its rotation was forced, and whether it is being rotated."""
    cluster = swarm.engine(address)["Cluster"]
    return {
        "TrustRoot": cluster["TLSInfo"]["TrustRoot"],
        "ForceRotate": cluster["Spec"]["CAConfig"].get("ForceRotate", 0),
        "rotating": cluster["RootRotationInProgress"],
    }


def test_live_restore_set_by_hand_keeps_dockerd_down_until_up_takes_it_out(filled: Project) -> None:
    swarm, address = filled, ADDRESS["docker-infra-3"]
    swarm.ssh(
        address,
        "sed -i '1s/{/{\"live-restore\": true,/' /etc/docker/daemon.json"
        " && systemctl reset-failed docker && systemctl restart docker || true",
    )
    said = swarm.ssh(address, "journalctl -u docker -n 40 --no-pager")
    assert "incompatible with swarm mode" in said, said
    swarm.refresh()
    assert swarm.verdicts() == {"docker-infra-3": "unreachable"}
    found = json.loads(swarm.run("proxmox-swarm", "status", "--json", check=False).stdout)
    assert found["problems"][0]["text"].endswith("its dockerd ends as it starts"), found["problems"]
    step, _, hint = found["next"].partition("    ")
    assert "incompatible with swarm mode" in swarm.run("bash", "-c", step).stdout
    assert "make up puts back" in hint
    swarm.make("up")
    assert_whole(swarm)
    assert swarm.verdicts() == {}


def test_a_node_whose_certificate_ran_out_while_it_was_off_joins_anew(filled: Project) -> None:
    """Certificates live for 90 days: one that is over is made with a root CA of the test's own."""
    swarm, name = filled, "docker-infra-2"
    manager, address = ADDRESS["docker-app-1"], ADDRESS[name]
    node_id = swarm.nodes()[name]["ID"]
    root = Authority()
    key = root.key_pem().encode().hex()  # a test beside this one searches all command lines for keys
    write = f"import pathlib; pathlib.Path('ca.key').write_bytes(bytes.fromhex('{key}'))"
    swarm.ssh(manager, f"umask 077; cd /run; printf %s '{root.pem()}' > ca.pem; python3 -c \"{write}\"")
    swarm.ssh(manager, "cd /run; docker swarm ca --rotate --quiet --ca-cert ca.pem --ca-key ca.key; rm ca.pem ca.key")
    folder = "/var/lib/docker/swarm/certificates"
    swarm.ssh(address, "systemctl stop docker.socket docker")
    cluster_id = swarm.outputs()["clusterId"]
    expired = root.expired(cluster_id, node_id, swarm.ssh(address, f"cat {folder}/swarm-node.key"))
    swarm.ssh(address, f"printf %s '{expired}' > {folder}/swarm-node.crt; systemctl start docker")
    assert "not valid after" in swarm.engine(address)["Error"], swarm.engine(address)

    swarm.refresh()
    found = swarm.members()[name]
    assert found["verdict"] == "error" and "not valid after" in found["detail"], found
    swarm.make("up")
    assert_whole(swarm)
    assert swarm.nodes()[name]["ID"] != node_id
    assert swarm.engine(manager)["Nodes"] == 7
    assert swarm.verdicts() == {}


class Authority:
    """A root CA of our own, and certificates of it as swarmkit makes them."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "swarm-ca")])
        now = datetime.now(UTC)
        self._certificate = self._sign(self._name, self._key.public_key(), now, now + timedelta(days=7300), ca=True)

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, begin: datetime, end: datetime, *, ca: bool
    ) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def pem(self) -> str:
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def key_pem(self) -> str:
        form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return self._key.private_bytes(serialization.Encoding.PEM, *form).decode()

    def expired(self, cluster_id: str, node_id: str, key_file: str) -> str:
        """A worker's certificate for the key in its key file, over for a day."""
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster_id),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "swarm-worker"),
                x509.NameAttribute(NameOID.COMMON_NAME, node_id),
            ]
        )
        body = "\n".join(line for line in key_file.splitlines() if line and ": " not in line)
        key = serialization.load_pem_private_key(body.encode(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        now = datetime.now(UTC)
        made = self._sign(subject, key.public_key(), now - timedelta(days=91), now - timedelta(days=1), ca=False)
        return made.public_bytes(serialization.Encoding.PEM).decode()
