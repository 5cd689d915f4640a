"""`make up` and what people do next, asked of the engines themselves."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

from tests.lab.project import Project
from tests.lab.support import SEVEN, Site, assert_whole, stack_file
from tests.lab.watch import QuorumWatch


def test_up_ends_with_a_table_of_seven_nodes(site: Site) -> None:
    shown = site.make("up").stdout
    for phase in ("lab ", "machines ", "managers ", "workers "):
        assert any(line.startswith(phase) for line in shown.splitlines()), shown
    rows = [line.split() for line in shown.splitlines() if line.split()[:1] and line.split()[0] in SEVEN]
    assert [row[0] for row in rows] == SEVEN, shown
    assert all("ready" in row for row in rows)
    assert sum("leader" in row for row in rows) == 1
    assert sum("reachable" in row for row in rows) == 2
    assert_whole(site)


def test_the_engines_agree_with_the_outputs(cluster: Site) -> None:
    outputs = cluster.outputs()
    engines = cluster.nodes()
    assert {node["name"] for node in outputs["nodes"]} == set(engines)
    for node in outputs["nodes"]:
        engine = engines[node["name"]]
        assert node["id"] == engine["ID"]
        assert node["role"] == engine["Spec"]["Role"]
        assert node["availability"] == engine["Spec"]["Availability"] == "active"
        assert node["labels"] == engine["Spec"].get("Labels", {})
        assert node["address"] == engine["Status"]["Addr"]
        assert node["verdict"] == "ok"
    info = json.loads(cluster.ssh("192.168.4.31", "docker info --format '{{json .Swarm}}'"))
    assert info["Cluster"]["ID"] == outputs["clusterId"]
    assert info["Cluster"]["DefaultAddrPool"] == ["10.201.0.0/16"]
    assert engines["swarmpit-mgmt"]["Spec"]["Labels"] == {"portainer.data": "true"}


def test_docker_speaks_to_the_lab_and_through_the_printed_context(cluster: Site) -> None:
    form = ("node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.Availability}}")
    direct = cluster.exec("docker", *form).stdout
    assert sorted(direct.splitlines()) == [f"{name} Ready Active" for name in SEVEN]
    command = cluster.outputs()["dockerContext"]
    cluster.exec("sh", "-c", command)
    name = command.split()[3]
    assert cluster.exec("docker", "--context", name, *form).stdout == direct
    # The socket is root's alone: what lets the user in is sudo, for the Docker client.
    assert cluster.ssh("192.168.4.30", "stat -c '%U %G %a' /run/docker.sock").split()[0] == "root"
    assert "docker" not in cluster.exec("ssh", "ansible@192.168.4.30", "id", "-nG").stdout.split()


def test_a_host_key_that_changed_is_refused(cluster: Site, tmp_path: Path) -> None:
    pinned = (cluster.folder / "known_hosts").read_text()
    other = next(line for line in pinned.splitlines() if "192.168.4.31 " in line).split()[1:]
    try:
        lines = [line for line in pinned.splitlines() if not line.startswith("192.168.4.30 ")]
        (cluster.folder / "known_hosts").write_text("\n".join([*lines, " ".join(["192.168.4.30", *other])]) + "\n")
        refused = cluster.exec("docker", "node", "ls", check=False)
        assert refused.returncode != 0
        assert "key verification failed" in refused.stderr
    finally:
        (cluster.folder / "known_hosts").write_text(pinned)


def test_a_second_run_changes_nothing(cluster: Site) -> None:
    assert cluster.steps() == {}
    cluster.pulumi("refresh", "--yes", "--stack", "lab", "--expect-no-changes")
    cluster.pulumi("up", "--yes", "--skip-preview", "--stack", "lab", "--expect-no-changes")
    shown = cluster.make("up").stdout
    assert "no change" in shown
    assert "machines " not in shown
    assert_whole(cluster)


def test_the_tracked_stack_file_stays_as_it_is(cluster: Site) -> None:
    assert cluster.run("git", "status", "--porcelain", "--", "Pulumi.lab.yaml", "Pulumi.prod.yaml").stdout == ""


def test_a_node_edited_by_hand_is_reported_and_put_back(cluster: Site) -> None:
    cluster.ssh("192.168.4.30", "docker node update --label-add storage=tape --availability pause docker-infra-2")
    refreshed = cluster.pulumi("refresh", "--yes", "--stack", "lab", "--diff").stdout
    assert "docker-infra-2" in refreshed
    assert "pause" in refreshed
    assert "tape" in refreshed
    assert cluster.steps() == {"Member docker-infra-2": "update"}
    cluster.make("up")
    node = cluster.nodes()["docker-infra-2"]["Spec"]
    assert node["Availability"] == "active"
    assert node["Labels"] == {"storage": "ssd"}
    assert cluster.steps() == {}


def test_a_node_drained_by_hand_stays_so_until_undrained(cluster: Site) -> None:
    cluster.exec("proxmox-swarm", "drain", "docker-infra-3", "--reason", "new fan")
    cluster.pulumi("refresh", "--yes", "--stack", "lab")
    assert cluster.steps() == {}
    shown = cluster.make("up").stdout
    assert "ready drain by hand: new fan" in shown
    assert cluster.nodes()["docker-infra-3"]["Spec"]["Availability"] == "drain"
    assert "docker-infra-3: drained by hand: new fan" in cluster.make("preview").stdout
    cluster.exec("proxmox-swarm", "undrain", "docker-infra-3")
    spec = cluster.nodes()["docker-infra-3"]["Spec"]
    assert (spec["Availability"], spec["Labels"]) == ("active", {"storage": "ssd"})
    cluster.make("up")
    assert cluster.steps() == {}


def test_host_settings_are_on_every_node(cluster: Site) -> None:
    for node in cluster.outputs()["nodes"]:
        daemon = json.loads(cluster.ssh(node["address"], "cat /etc/docker/daemon.json"))
        assert daemon["log-driver"] == "json-file"
        assert daemon["log-opts"] == {"max-size": "100m", "max-file": "3"}
        assert daemon["default-address-pools"] == [{"base": "172.20.0.0/16", "size": 24}]
        assert "live-restore" not in daemon
        running = json.loads(cluster.ssh(node["address"], "docker info --format '{{json .}}'"))
        assert running["LoggingDriver"] == "json-file"
        assert running["LiveRestoreEnabled"] is False
        assert "apt-cacher" in cluster.ssh(node["address"], "apt-config dump Acquire::http::Proxy")
        servers = cluster.ssh(node["address"], "resolvectl dns").split("Global:")[1].split("\n")[0].split()
        assert servers == ["192.168.2.4", "192.168.4.5", "192.168.4.6"]


def test_host_settings_edited_by_hand_are_reported_and_put_back(cluster: Site) -> None:
    before = cluster.ssh("192.168.4.41", "cat /etc/docker/daemon.json")
    cluster.ssh("192.168.4.41", 'echo \'{"log-driver": "local"}\' > /etc/docker/daemon.json')
    cluster.pulumi("refresh", "--yes", "--stack", "lab")
    assert cluster.steps() == {"HostState docker-infra-2": "update"}
    cluster.make("up")
    assert cluster.ssh("192.168.4.41", "cat /etc/docker/daemon.json") == before
    assert_whole(cluster)


def test_an_engine_setting_reaches_every_node_one_by_one_and_replaces_no_machine(cluster: Site, tmp_path: Path) -> None:
    machines = {n["Description"]["Hostname"]: n["ID"] for n in cluster.nodes().values()}
    changed = stack_file({"docker": {"daemon": {"default-shm-size": "128M"}}}, tmp_path / "changed.yaml")
    steps = cluster.steps("--config-file", str(changed))
    assert steps == {f"HostState {name}": "update" for name in SEVEN}
    addresses = [node["address"] for node in cluster.outputs()["nodes"]]
    running = {address: _engine_moments(cluster, address)[1] for address in addresses}
    with QuorumWatch(Project(cluster.folder, tmp_path / "project")) as watch:
        begun = time.time()
        cluster.pulumi("up", "--yes", "--skip-preview", "--stack", "lab", "--config-file", str(changed))
        assert len(watch.fewest(begun).reachable) >= 2, watch.told(begun)
    assert all("128M" in cluster.ssh(address, "cat /etc/docker/daemon.json") for address in addresses)
    out = {address: _engine_moments(cluster, address) for address in addresses}
    assert all(running[address] < stopped < started for address, (stopped, started) in out.items()), out
    for earlier, later in itertools.pairwise(sorted(out.values())):
        assert earlier[1] < later[0], f"two engines were down at once: {out}"
    assert {n["Description"]["Hostname"]: n["ID"] for n in cluster.nodes().values()} == machines
    assert_whole(cluster)
    cluster.make("up")
    assert cluster.steps() == {}


def _engine_moments(cluster: Site, address: str) -> tuple[int, int]:
    """When dockerd was last stopped, and when it was last started: µs of one clock, which the lab's machines share."""
    show = "systemctl show -p {} --value docker"
    moments = [f"Active{way}TimestampMonotonic" for way in ("Exit", "Enter")]
    stopped, started = cluster.ssh(address, "; ".join(show.format(moment) for moment in moments)).split()
    return int(stopped), int(started)


def test_a_node_that_changes_role_keeps_its_member_both_ways(cluster: Site, tmp_path: Path) -> None:
    ids = {name: node["ID"] for name, node in cluster.nodes().items()}
    nodes = {"docker-infra-1": {"role": "manager"}, "docker-infra-2": {"role": "manager"}}
    five = stack_file({"nodes": nodes}, tmp_path / "five.yaml")
    steps = cluster.steps("--config-file", str(five))
    assert steps["Member docker-infra-1"] == steps["Member docker-infra-2"] == "update"
    assert not {op for op in steps.values() if "replace" in op or op == "delete"}, steps
    cluster.pulumi("up", "--yes", "--skip-preview", "--stack", "lab", "--config-file", str(five))
    assert_whole(cluster, managers=5)
    back = cluster.steps()
    assert back["Member docker-infra-1"] == back["Member docker-infra-2"] == "update"
    assert not {op for op in back.values() if "replace" in op or op == "delete"}, back
    cluster.make("up")
    assert_whole(cluster)
    assert {name: node["ID"] for name, node in cluster.nodes().items()} == ids


def test_a_file_on_a_data_disk_survives_the_rebuild_of_its_node(cluster: Site, tmp_path: Path) -> None:
    old = cluster.nodes()["docker-infra-1"]["ID"]
    mount = "/var/lib/data"
    mounted = cluster.ssh("192.168.4.40", f"findmnt -nro SOURCE,FSTYPE {mount}").split()
    assert mounted == ["/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data-4700", "ext4"]
    cluster.ssh("192.168.4.40", f"echo kept > {mount}/file && sync; touch /root/gone")
    rebuilt = stack_file({"nodes": {"docker-infra-1": {"generation": 2}}}, tmp_path / "rebuilt.yaml")
    steps = cluster.steps("--config-file", str(rebuilt))
    assert "replace" in steps["VmLegacy docker-infra-1"]
    assert "replace" in steps["Member docker-infra-1"]
    assert not [key for key in steps if "-data" in key], steps
    cluster.pulumi("up", "--yes", "--skip-preview", "--stack", "lab", "--config-file", str(rebuilt))
    assert_whole(cluster)
    assert cluster.nodes()["docker-infra-1"]["ID"] != old
    assert cluster.ssh("192.168.4.40", f"cat {mount}/file").strip() == "kept"
    assert cluster.ssh("192.168.4.40", "test -e /root/gone || echo new").strip() == "new"
    cluster.make("up")  # generation 1 again: one more rebuild, and the disk is there again
    assert cluster.ssh("192.168.4.40", f"cat {mount}/file").strip() == "kept"
    assert cluster.steps() == {}
