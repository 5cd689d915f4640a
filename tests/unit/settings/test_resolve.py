"""What follows from settings: defaults, pools under nodes, addresses, daemon.json."""

from __future__ import annotations

from typing import Any

import pytest

from proxmox_swarm.settings import Settings, resolve
from proxmox_swarm.settings.checks import duration
from proxmox_swarm.settings.daemon import merged
from proxmox_swarm.settings.errors import show
from proxmox_swarm.settings.model import Rotate

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAKYnp5dx6trJn0rTM0UWOuFSqsr5+X12QS2CeTCtPs6"
SMALLEST: dict[str, Any] = {
    "proxmox": {
        "endpoints": ["https://pve:8006/"],
        "hosts": {"pve": {"datastore": "local-zfs"}},
        "image": {"url": "https://a/b.qcow2", "sha512": "AB" * 64, "size": 3},
    },
    "networks": {"lan": {"subnet": "192.168.1.0/24", "gateway": "192.168.1.1"}},
    "nodes": {"one": {"host": "pve", "id": 100, "ip": 10, "role": "manager"}},
    "access": {"keys": [KEY]},
}


def settled(config: dict[str, Any]) -> Settings:
    return resolve(config, project="swarm", stack="home")


def test_the_smallest_settings() -> None:
    settings = settled(SMALLEST)
    node = settings.nodes["one"]
    assert settings.proxmox.endpoints == ("https://pve:8006",)
    assert settings.proxmox.image.sha512 == "ab" * 64
    assert settings.proxmox.protect
    assert not settings.proxmox.insecure
    host = settings.proxmox.hosts["pve"]
    assert (host.images, host.snippets, host.ssh_address, host.ssh_port) == ("local", "local", None, 22)
    assert (node.pool, node.cpu, node.memory, node.boot, node.datastore) == ("default", 2, 4, 20, "local-zfs")
    assert (node.availability, node.generation, node.data, dict(node.labels)) == ("active", 1, None, {})
    assert len(node.nics) == 1
    assert (node.nics[0].vlan, node.nics[0].gateway, node.nics[0].mac) == (None, "192.168.1.1", "02:00:00:06:40:00")
    assert settings.os.dns_servers == ()
    assert settings.os.apt_cache is None
    assert settings.cluster.address_pool == ("10.0.0.0/8",)
    assert settings.access.user == "ansible"


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        ({"url": "https://a/b.qcow2"}, "qcow2"),
        ({"url": "https://a/b.QCOW2?x=1"}, "qcow2"),
        ({"url": "https://a/b.raw"}, "raw"),
        ({"url": "https://a/b.vmdk"}, "vmdk"),
        ({"url": "https://a/b.qcow2", "format": "qcow2"}, "qcow2"),
        ({"url": "https://a/noble-server-cloudimg-amd64.img", "format": "qcow2"}, "qcow2"),
        ({"url": "https://a/b.img", "format": "raw"}, "raw"),
    ],
)
def test_the_format_of_an_image(image: dict[str, str], kind: str) -> None:
    proxmox = {**SMALLEST["proxmox"], "image": {**SMALLEST["proxmox"]["image"], **image}}
    assert settled({**SMALLEST, "proxmox": proxmox}).proxmox.image.format == kind


def test_a_long_name_is_a_matter_of_data_disks_only() -> None:
    node = SMALLEST["nodes"]["one"]
    settled({**SMALLEST, "nodes": {"a" * 63: node}})
    settled({**SMALLEST, "nodes": {"a" * 58: {**node, "data": 1}}})


def test_the_engine_to_install() -> None:
    assert settled(SMALLEST).docker.version is None
    assert settled({**SMALLEST, "docker": {"version": "29.8.2"}}).docker.version == "29.8.2"


def test_one_manager_needs_no_word() -> None:
    assert [n.name for n in settled(SMALLEST).managers] == ["one"]


@pytest.mark.parametrize(("count", "guards"), [(3, {"managersOnOneHost": True}), (2, {"evenManagers": True})])
def test_words_that_allow_a_risk(count: int, guards: dict[str, bool]) -> None:
    nodes = {f"m{i}": {"host": "pve", "id": 100 + i, "ip": 10 + i, "role": "manager"} for i in range(count)}
    settings = settled({**SMALLEST, "nodes": nodes, "guards": guards})
    assert len(settings.managers) == count
    assert settings.allow_even_managers == guards.get("evenManagers", False)


def test_one_worker_at_a_time_and_no_majority_of_managers_unless_said_otherwise() -> None:
    settings = settled(SMALLEST)
    assert (settings.rolling.max_unavailable, settings.allow_fewer_managers) == (1, False)
    workers = {f"w{i}": {"host": "pve", "id": 200 + i, "ip": 20 + i} for i in range(2)}
    said = {
        "nodes": {**SMALLEST["nodes"], **workers},
        "rolling": {"maxUnavailable": 2},
        "guards": {"fewerManagers": True},
    }
    settings = settled({**SMALLEST, **said})
    assert (settings.rolling.max_unavailable, settings.allow_fewer_managers) == (2, True)


def test_a_node_overrides_its_pool_and_the_pool_default(good: dict[str, Any]) -> None:
    good["pools"]["default"]["labels"] = {"site": "bn", "tier": "low"}
    good["pools"]["infra"] = {"labels": {"storage": "ssd", "tier": "mid"}, "data": 20, "availability": "pause"}
    good["nodes"]["docker-infra-1"] = {
        "pool": "infra",
        "host": "pve01",
        "id": 4200,
        "ip": 40,
        "memory": 2,
        "cpu": 1,
        "data": 0,
        "networks": ["storage"],
        "labels": {"tier": "high"},
    }
    nodes = settled(good).nodes
    one, two = nodes["docker-infra-1"], nodes["docker-infra-2"]
    assert (one.memory, one.cpu, one.data, one.address, one.availability) == (2, 1, None, "192.168.12.40", "pause")
    assert dict(one.labels) == {"site": "bn", "storage": "ssd", "tier": "high"}
    assert two.data is not None
    assert two.data.size == 100
    assert dict(two.labels) == {"site": "bn", "storage": "ssd", "tier": "mid"}
    assert nodes["docker-app-1"].data is None
    assert dict(nodes["docker-app-1"].labels) == {"site": "bn", "tier": "low"}


def test_addresses_by_octet_and_in_full(good: dict[str, Any]) -> None:
    good["networks"]["storage"]["subnet"] = "192.168.12.0/22"
    good["nodes"]["docker-app-1"]["ip"] = {"main": 33, "storage": "192.168.14.7"}
    nics = settled(good).nodes["docker-app-1"].nics
    assert [(nic.address, nic.prefix) for nic in nics] == [("192.168.4.33", 24), ("192.168.14.7", 22)]


def test_declared_disk_owner_datastores_and_mac(good: dict[str, Any]) -> None:
    good["proxmox"]["hosts"]["pve01"]["datastores"] = ["local-lvm", "ceph"]
    good["nodes"]["docker-infra-1"] |= {
        "dataId": 9000,
        "dataDatastore": "ceph",
        "dataMount": "/srv/data",
        "datastore": "local-lvm",
        "macs": {"storage": "bc-24-11-00-00-01"},
        "generation": 3,
    }
    node = settled(good).nodes["docker-infra-1"]
    assert node.data is not None
    assert (node.data.holder_id, node.data.datastore, node.data.mount) == (9000, "ceph", "/srv/data")
    assert node.data.serial == "data-9000"
    assert node.datastore == "local-lvm"
    assert [nic.mac for nic in node.nics] == ["02:00:01:06:80:04", "BC:24:11:00:00:01"]
    assert node.generation == 3


@pytest.mark.parametrize(
    ("cluster", "network", "addresses"),
    [
        ({}, "main", {""}),
        ({"dataPath": "main"}, "main", {""}),
        ({"dataPath": "storage"}, "storage", {"192.168.12.30", "192.168.12.31"}),
    ],
)
def test_overlay_traffic_goes_over_the_first_network_unless_said_otherwise(
    good: dict[str, Any], cluster: dict[str, str], network: str, addresses: set[str]
) -> None:
    good["cluster"] |= cluster
    settings = settled(good)
    assert settings.cluster.data_path == network
    found = {settings.nodes[name].data_path_address(network) for name in ("docker-app-1", "docker-app-2")}
    assert found == addresses


def test_nodes_of_different_first_networks_have_their_own_each(good: dict[str, Any]) -> None:
    good["nodes"]["docker-infra-1"]["networks"] = ["storage", "main"]
    settings = settled(good)
    assert settings.cluster.data_path == ""
    assert {node.data_path_address("") for node in settings.nodes.values()} == {""}


def test_labels_of_the_swarm_that_are_not_declared_are_not_ours(good: dict[str, Any]) -> None:
    assert settled(good).cluster.labels is None
    good["cluster"]["labels"] = {}
    assert settled(good).cluster.labels == {}


def test_every_cluster_setting_arrives(good: dict[str, Any]) -> None:
    good["cluster"] = {
        "addressPool": ["10.201.0.0/16", "10.202.0.0/16"],
        "subnetSize": 25,
        "dataPathPort": 7789,
        "dataPath": "storage",
        "electionTick": 20,
        "heartbeatTick": 2,
        "snapshotInterval": 5000,
        "keepOldSnapshots": 1,
        "taskHistory": 2,
        "certificateExpiry": "30d",
        "dispatcherHeartbeat": "10s",
        "labels": {"a": "b"},
        "autolock": True,
        "rotate": {"worker": 2, "unlockKey": 3},
        "undeclared": "report",
    }
    cluster = settled(good).cluster
    assert cluster.address_pool == ("10.201.0.0/16", "10.202.0.0/16")
    assert (cluster.subnet_size, cluster.data_path_port, cluster.election_tick, cluster.heartbeat_tick) == (
        25,
        7789,
        20,
        2,
    )
    assert (cluster.snapshot_interval, cluster.keep_old_snapshots, cluster.task_history) == (5000, 1, 2)
    assert (cluster.certificate_expiry, cluster.dispatcher_heartbeat) == (30 * 86400, 10)
    assert (dict(cluster.labels), cluster.undeclared) == ({"a": "b"}, "report")
    assert (cluster.autolock, cluster.rotate) == (True, Rotate(worker=2, manager=1, ca=1, unlock_key=3))


def test_ssh_address_with_a_port(good: dict[str, Any]) -> None:
    good["proxmox"]["hosts"]["pve01"]["ssh"] = "pve01.example.org:2222"
    host = settled(good).proxmox.hosts["pve01"]
    assert (host.ssh_address, host.ssh_port) == ("pve01.example.org", 2222)


def test_nodes_come_in_natural_order(good: dict[str, Any]) -> None:
    good["nodes"] = {
        f"n-{i}": {"pool": "app" if i == 10 else "infra", "host": "pve01", "id": 4000 + i, "ip": 100 + i}
        for i in (10, 9, 2, 1)
    }
    assert list(settled(good).nodes) == ["n-1", "n-2", "n-9", "n-10"]


def test_secrets_are_not_kept(good: dict[str, Any]) -> None:
    good["secrets"] = {}
    assert "secrets" not in settled(good).raw


def test_daemon_log_options_belong_to_their_driver() -> None:
    assert merged({})["log-opts"] == {"max-size": "100m", "max-file": "3"}
    assert merged({"log-driver": "local"})["log-opts"] == {"max-size": "100m", "max-file": "3"}
    assert merged({"log-opts": {"max-size": "5m"}})["log-opts"] == {"max-size": "5m", "max-file": "3"}
    assert "log-opts" not in merged({"log-driver": "journald"})
    assert merged({"log-driver": "journald", "log-opts": {"tag": "x"}})["log-opts"] == {"tag": "x"}


def test_daemon_keys_of_newer_engines_and_harmless_values_pass(good: dict[str, Any]) -> None:
    good["docker"]["daemon"] |= {
        "live-restore": False,
        "iptables": True,
        "firewall-backend": "iptables",
        "brand-new-thing": 1,
    }
    daemon = settled(good).docker.daemon
    assert daemon["live-restore"] is False
    assert daemon["brand-new-thing"] == 1


def test_daemon_defaults_are_not_shared(good: dict[str, Any]) -> None:
    first = settled(good).docker.daemon
    first["log-opts"]["max-file"] = "9"  # type: ignore[index]
    assert settled(good).docker.daemon["log-opts"] == {"max-size": "100m", "max-file": "3"}


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("5m", 300), ("1h30m", 5400), ("90d", 7_776_000)])
def test_durations(text: str, seconds: int) -> None:
    assert duration("1s", "100d", text) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "-----BEGIN RSA " + "PRIVATE KEY-----\nsecretpart",
        {"a": ["SWMTKN-1-secretpart"]},
        "root@pam!ci=secretpart-1234",
        ["https://me:secretpart@host/"],
        "SWMKEY-1-secretpart",
    ],
)
def test_secrets_are_never_shown(value: object) -> None:
    assert "secretpart" not in show(value)


def test_long_values_are_cut() -> None:
    assert len(show("x" * 1000)) < 80


def test_a_node_with_a_host_key_is_adopted_until_its_generation_is_raised() -> None:
    node = {**SMALLEST["nodes"]["one"], "hostKey": f"{KEY}  root@one", "macs": {"lan": "BC:24:11:00:41:00"}}
    found = settled({**SMALLEST, "nodes": {"one": node}}).nodes["one"]
    assert (found.host_key, found.adopted, found.discard) == (KEY, True, ())
    assert (found.nics[0].mac, found.nics[0].declared_mac) == ("BC:24:11:00:41:00", True)
    rebuilt = {**node, "generation": 2, "data": 5, "discard": ["scsi1", "unused0"]}
    found = settled({**SMALLEST, "nodes": {"one": rebuilt}}).nodes["one"]
    assert (found.host_key, found.adopted, found.discard) == (KEY, False, ("scsi1", "unused0"))
    usual = settled(SMALLEST).nodes["one"]
    assert (usual.host_key, usual.adopted, usual.nics[0].declared_mac) == (None, False, False)


def test_what_is_written_of_daemon_json_is_known_apart_from_its_defaults() -> None:
    assert settled(SMALLEST).docker.declared == {}
    assert settled({**SMALLEST, "docker": {"daemon": {"mtu": 1400}}}).docker.declared == {"mtu": 1400}


def test_a_swarm_that_was_made_with_an_overlapping_address_pool_can_be_declared() -> None:
    networks = {"lan": {"subnet": "10.1.0.0/24", "gateway": "10.1.0.1"}}
    guards = {"overlappingAddressPool": True}
    assert settled({**SMALLEST, "networks": networks, "guards": guards}).cluster.address_pool == ("10.0.0.0/8",)
