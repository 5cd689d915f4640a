"""The stack files in the repository: the same cluster in both, and the one that the sources describe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxmox_swarm.settings import Settings, load, read_stack_file
from proxmox_swarm.settings.parse import SECTIONS

LAB_FILE = """
proxmox:
  image: {url: 'https://127.0.0.1/image.qcow2', sha512: '%s', size: 2}
access:
  keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAKYnp5dx6trJn0rTM0UWOuFSqsr5+X12QS2CeTCtPs6 lab]
""" % ("0" * 128)

# Where the lab may differ from production: endpoint, credentials and SSH addresses, memory, image, protect, and where
# packages, images and names come from.
MAY_DIFFER = {
    "proxmox.endpoints",
    "proxmox.image.url",
    "proxmox.image.sha512",
    "proxmox.image.format",
    "proxmox.image.size",
    "proxmox.protect",
    "proxmox.hosts.*.ssh_address",
    "proxmox.hosts.*.ssh_port",
    "nodes.*.memory",
    "access.keys",
    "os.dns_servers",
    "os.apt_cache",
    "docker.daemon.insecure-registries",
    "docker.declared.insecure-registries",
    "docker.daemon.registry-mirrors",
}

NODES = {
    # name: role, host, VM id, last octet, memory, boot, data, datastore (000_….txt and 001_….txt, "Node Types")
    "docker-app-1": ("manager", "pve01", 4100, 30, 8, 50, 0, "tank"),
    "docker-app-2": ("manager", "pve02", 4101, 31, 8, 50, 0, "local-lvm"),
    "docker-app-3": ("manager", "pve03", 4102, 32, 8, 50, 0, "tank"),
    "docker-infra-1": ("worker", "pve01", 4200, 40, 8, 30, 50, "tank"),
    "docker-infra-2": ("worker", "pve02", 4201, 41, 8, 30, 100, "local-lvm"),
    "docker-infra-3": ("worker", "pve03", 4202, 42, 8, 30, 200, "tank"),
    "swarmpit-mgmt": ("worker", "pve01", 4300, 50, 6, 30, 0, "tank"),
}


@pytest.fixture
def prod(repository: Path) -> Settings:
    return load(
        read_stack_file(repository / "Pulumi.prod.yaml", "swarm"), project="swarm", stack="prod", base=repository
    )


@pytest.fixture
def lab(repository: Path, tmp_path: Path) -> Settings:
    (tmp_path / "settings.yaml").write_text(LAB_FILE)
    config = read_stack_file(repository / "Pulumi.lab.yaml", "swarm")
    env = {"PROXMOX_SWARM_LAB": str(tmp_path)}
    return load(config, project="swarm", stack="lab", base=repository, env=env)


def flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {k: v for name, item in value.items() for k, v in flat(item, f"{path}.{name}" if path else name).items()}
    return {path: value}


def general(path: str) -> str:
    parts = path.split(".")
    if parts[0] == "nodes":
        parts[1] = "*"
    if parts[:2] == ["proxmox", "hosts"]:
        parts[2] = "*"
    return ".".join(parts)


def test_lab_and_prod_are_the_same_cluster(lab: Settings, prod: Settings) -> None:
    left, right = ({k: v for k, v in flat(asdict(s)).items() if not k.startswith("raw")} for s in (lab, prod))
    different = {general(k) for k in left.keys() | right.keys() if left.get(k) != right.get(k)}
    assert different - MAY_DIFFER == {"stack"}


def test_lab_differs_where_it_must(lab: Settings, prod: Settings) -> None:
    assert not lab.proxmox.protect
    assert prod.proxmox.protect
    assert lab.proxmox.endpoints == tuple(f"https://192.168.2.{n}:8006" for n in (11, 12, 13))
    assert [host.ssh_address for host in lab.proxmox.hosts.values()] == [f"192.168.2.{n}" for n in (11, 12, 13)]
    assert lab.proxmox.image.url == "https://127.0.0.1/image.qcow2"
    assert sum(node.memory for node in lab.nodes.values()) <= 8


@pytest.mark.parametrize("name", NODES)
def test_a1_a2_a3_b1_nodes_as_in_the_sources(prod: Settings, name: str) -> None:
    role, host, vm_id, octet, memory, boot, data, datastore = NODES[name]
    node = prod.nodes[name]
    assert (node.role, node.host, node.vm_id, node.cpu, node.memory, node.boot) == (role, host, vm_id, 4, memory, boot)
    assert node.datastore == datastore
    assert [(n.network, n.bridge, n.vlan, n.address, n.prefix, n.gateway) for n in node.nics] == [
        ("main", "vmbr0", 4, f"192.168.4.{octet}", 24, "192.168.4.1"),
        ("storage", "vmbr0", 12, f"192.168.12.{octet}", 24, None),
    ]
    assert node.address == f"192.168.4.{octet}"
    assert (node.data.size if node.data else 0) == data
    if node.data:
        assert (node.data.datastore, node.data.holder_id, node.data.mount) == (datastore, vm_id + 500, "/var/lib/data")


def test_a1_seven_nodes_three_managers_in_order(prod: Settings) -> None:
    assert list(prod.nodes) == list(NODES)
    assert [node.name for node in prod.managers] == ["docker-app-1", "docker-app-2", "docker-app-3"]
    assert len(prod.workers) == 4
    assert {name: len(nodes) for name, nodes in prod.pools.items()} == {"app": 3, "infra": 3, "mgmt": 1}


def test_a4_a5_daemon_json(prod: Settings) -> None:
    assert prod.docker.daemon == {
        "log-driver": "json-file",
        "log-opts": {"max-size": "100m", "max-file": "3"},
        "storage-driver": "overlay2",
        "default-address-pools": [{"base": "172.20.0.0/16", "size": 24}],
    }
    assert prod.access.user == "ansible"
    assert prod.access.keys


def test_a8_two_machines_of_a_host_at_once(prod: Settings) -> None:
    assert prod.proxmox.parallel == 2


def test_b2_labels(prod: Settings) -> None:
    labels = {name: dict(node.labels) for name, node in prod.nodes.items() if node.labels}
    assert labels == {
        **{f"docker-infra-{n}": {"storage": "ssd"} for n in (1, 2, 3)},
        "swarmpit-mgmt": {"portainer.data": "true"},
    }


def test_b10_b11_totals_and_services_of_the_site(prod: Settings) -> None:
    nodes = prod.nodes.values()
    assert sum(node.cpu for node in nodes) == 28
    assert sum(node.memory for node in nodes) == 54
    assert sum(node.boot for node in nodes) == 270  # the source says 240: a slip, its own rows add up to 270
    assert sum(node.data.size for node in nodes if node.data) == 350
    assert prod.os.dns_servers == ("192.168.2.4", "192.168.4.5", "192.168.4.6")
    assert prod.os.apt_cache == "http://apt-cacher.hornung-bn.de:3142"


def test_swarm_address_pool_and_deadlines(prod: Settings) -> None:
    assert prod.cluster.address_pool == ("10.201.0.0/16",)
    assert (prod.cluster.subnet_size, prod.cluster.data_path_port, prod.cluster.undeclared) == (24, 4789, "report")
    assert asdict(prod.deadlines) == {"boot": 300, "join": 120, "drain": 600, "role": 120, "rotation": 300}
    assert prod.marker == "swarm-prod"


def test_image_of_prod_is_dated(prod: Settings) -> None:
    *_, directory, file = prod.proxmox.image.url.split("/")
    assert directory in file
    assert "latest" not in prod.proxmox.image.url


@pytest.mark.parametrize("stack", ["lab", "prod"])
def test_one_line_a_node_with_the_prefix_on_every_key(repository: Path, stack: str) -> None:
    text = (repository / f"Pulumi.{stack}.yaml").read_text()
    assert all(key.startswith("swarm:") for key in yaml.safe_load(text)["config"])
    for name in NODES:
        assert sum(line.strip().startswith(f"{name}: {{") for line in text.splitlines()) == 1
    # Pulumi drops empty lines when it rewrites the file; without any, a `config set` changes one line.
    assert all(line.strip() for line in text.splitlines())


def test_pulumi_yaml_types_every_top_level_key(repository: Path) -> None:
    project = yaml.safe_load((repository / "Pulumi.yaml").read_text())
    assert project["name"] == "swarm"
    assert project["runtime"] == {"name": "python", "options": {"toolchain": "pip", "virtualenv": ".venv"}}
    assert {key: value["type"] for key, value in project["config"].items()} == dict(SECTIONS)
    for key, value in project["config"].items():
        assert value["description"]
        assert ("items" in value) == (value["type"] == "array")
        # A typed key without a default is required by Pulumi itself.
        assert ("default" in value) == (key not in ("proxmox", "networks", "nodes"))
