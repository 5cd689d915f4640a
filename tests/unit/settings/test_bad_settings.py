"""Bad settings: a small change to good ones, the key that is named for it, and what is said."""

from __future__ import annotations

import base64
import datetime
from dataclasses import dataclass
from typing import Any

import pytest

from proxmox_swarm.settings import SettingsError, resolve
from proxmox_swarm.settings.errors import render

GONE = object()
APP1, APP2, INFRA1, INFRA2 = (f"nodes/docker-{name}" for name in ("app-1", "app-2", "infra-1", "infra-2"))
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAKYnp5dx6trJn0rTM0UWOuFSqsr5+X12QS2CeTCtPs6 me"


def rsa_key(bits: int) -> str:
    """A public key of the right shape: type, exponent, modulus."""
    fields = (b"ssh-rsa", b"\x01\x00\x01", b"\x00" + (1 << bits - 1 | 1).to_bytes(bits // 8, "big"))
    blob = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    return f"ssh-rsa {base64.b64encode(blob).decode()} me"


@dataclass(frozen=True)
class Row:
    """``changes``: new values by path; ``path``: the key of the one problem; ``words``: what its line holds."""

    name: str
    changes: dict[str, Any]
    path: str
    words: tuple[str, ...]


def row(name: str, changes: dict[str, Any], path: str, *words: str) -> Row:
    return Row(name, changes, path, words)


def new_node(name: str, **keys: Any) -> dict[str, Any]:
    return {f"nodes/{name}": {"pool": "infra", "host": "pve03", "id": 5000, "ip": 90, **keys}}


MANAGERS = [
    row(
        "two managers",
        {"nodes/docker-app-3": GONE},
        "nodes",
        "2 managers (docker-app-1, docker-app-2)",
        "even",
        "1, 3, 5 or 7",
        "evenManagers: true",
    ),
    row(
        "four managers",
        new_node("docker-app-4", pool="app"),
        "nodes",
        "4 managers",
        "docker-app-4",
        "no more than 3 managers do",
    ),
    row("no manager", {"pools/app/role": "worker"}, "nodes", "no node is a manager", "role: manager"),
    row(
        "nine managers",
        {
            k: v
            for i in range(4, 10)
            for k, v in new_node(f"docker-app-{i}", pool="app", host=f"pve0{i % 3 + 1}", id=5000 + i, ip=90 + i).items()
        },
        "nodes",
        "9 managers",
        "more than 7",
    ),
    row(
        "two of three managers on one host",
        {f"{APP2}/host": "pve01"},
        "nodes",
        "2 of 3 managers on pve01 (docker-app-1, docker-app-2)",
        "lose the quorum",
        "managersOnOneHost: true",
    ),
    row(
        "half of four managers on one host",
        {**new_node("docker-app-4", pool="app", host="pve01"), "guards/evenManagers": True},
        "nodes",
        "2 of 4 managers on pve01",
    ),
]

LANES = [
    row(
        "more workers out than there are",
        {"rolling": {"maxUnavailable": 5}},
        "rolling.maxUnavailable",
        "= 5:",
        "4 workers are declared",
        "1 to 4",
    ),
    row("no worker out", {"rolling": {"maxUnavailable": 0}}, "rolling.maxUnavailable", "1 to the number of workers"),
]

DATA_PATH = [
    row(
        "a data path that is no network",
        {"cluster/dataPath": "storag"},
        "cluster.dataPath",
        '"storag"',
        "no such network",
        "a key of networks: main, storage",
        "Did you mean storage?",
    ),
    row(
        "a data path that a node is not on",
        {"cluster/dataPath": "storage", f"{APP2}/networks": ["main"]},
        "cluster.dataPath",
        "not on this network: docker-app-2",
        "every node is on",
    ),
]

ONCE_ONLY = [
    row(
        "address twice",
        {f"{APP2}/ip": 30},
        "nodes.docker-app-2.ip",
        "= 30:",
        "192.168.4.30 on network main",
        "node docker-app-1 has it already",
    ),
    row(
        "address twice, by network",
        {f"{APP2}/ip": {"main": 31, "storage": "192.168.12.30"}},
        "nodes.docker-app-2.ip.storage",
        '"192.168.12.30"',
        "docker-app-1",
    ),
    row("VM id twice", {f"{APP2}/id": 4100}, "nodes.docker-app-2.id", "4100", "docker-app-1 has this id already"),
    row(
        "VM id of a data disk's owner",
        {f"{APP1}/id": 4700},
        "nodes.docker-infra-1.dataId",
        "4700",
        "docker-app-1",
        "id + 500",
    ),
    row(
        "data disks' owner twice",
        {f"{INFRA2}/dataId": 4700},
        "nodes.docker-infra-2.dataId",
        "4700",
        "data disk of docker-infra-1",
    ),
    row(
        "owner's id too high",
        {f"{INFRA1}/id": 999_999_999},
        "nodes.docker-infra-1.dataId",
        "1000000499",
        "above 999999999",
    ),
    row(
        "MAC twice",
        {f"{APP1}/macs": {"main": "BC:24:11:00:00:01"}, f"{APP2}/macs": {"main": "bc:24:11:00:00:01"}},
        "nodes.docker-app-2.macs.main",
        "docker-app-1 on main",
        "MAC address of its own",
    ),
    row(
        "a MAC that another node gets from its id",
        {f"{APP1}/macs": {"main": "02:00:01:00:50:04"}},
        "nodes.docker-app-2.macs.main",
        "docker-app-1 on main",
        "made from the id and the VLAN",
    ),
    row(
        "two untagged networks give one MAC",
        {
            "networks/main/vlan": GONE,
            "networks/storage/vlan": GONE,
            "networks/storage/bridge": "vmbr1",
            "nodes": {"a": {"pool": "app", "host": "pve01", "id": 100, "ip": 9}},
        },
        "nodes.a.macs.storage",
        "a on main",
        "02:00:00:06:40:00",
    ),
    row("VLAN twice on a bridge", {"networks/storage/vlan": 4}, "networks.storage.vlan", "network main has this VLAN"),
    row(
        "endpoint twice", {"proxmox/endpoints": ["https://a:8006", "https://a:8006/"]}, "proxmox.endpoints[1]", "twice"
    ),
    row(
        "DNS server twice",
        {"os/dns/servers": ["192.168.2.4", "192.168.2.4"]},
        "os.dns.servers[1]",
        "192.168.2.4",
        "twice",
    ),
    row("SSH key twice", {"access/keys": [SSH_KEY, SSH_KEY + "@home"]}, "access.keys[1]", "the same key as keys[0]"),
    row("network twice", {f"{APP1}/networks": ["main", "main"]}, "nodes.docker-app-1.networks[1]", "main", "twice"),
]

ADDRESSES = [
    row(
        "the network's own address",
        {f"{APP1}/ip": 0},
        "nodes.docker-app-1.ip",
        "192.168.4.0 on network main",
        "the subnet's own address",
    ),
    row(
        "the broadcast address",
        {f"{APP1}/ip": {"main": 30, "storage": 255}},
        "nodes.docker-app-1.ip.storage",
        "192.168.12.255",
        "broadcast",
    ),
    row(
        "the gateway's address",
        {f"{APP1}/ip": {"main": 1, "storage": 30}},
        "nodes.docker-app-1.ip.main",
        "192.168.4.1",
        "gateway of network main",
    ),
    row(
        "outside a small subnet",
        {"networks/storage/subnet": "192.168.12.0/26", f"{APP1}/ip": 100},
        "nodes.docker-app-1.ip",
        "192.168.12.100 on network storage",
        "outside the subnet 192.168.12.0/26",
    ),
    row(
        "an address of another subnet",
        {f"{APP1}/ip": {"main": "192.168.5.30", "storage": 30}},
        "nodes.docker-app-1.ip.main",
        "192.168.5.30",
        "outside the subnet 192.168.4.0/24",
    ),
    row("last octet too high", {f"{APP1}/ip": 256}, "nodes.docker-app-1.ip", "256", "0 to 255"),
    row("last octet negative", {f"{APP1}/ip": -1}, "nodes.docker-app-1.ip", "-1", "0 to 255"),
    row("last octet in quotes", {f"{APP1}/ip": "30"}, "nodes.docker-app-1.ip", "without quotes"),
    row(
        "one address for two networks",
        {f"{APP1}/ip": "192.168.4.30"},
        "nodes.docker-app-1.ip",
        "192.168.4.30",
        "belongs to one network",
    ),
    row("no address on one network", {f"{APP1}/ip": {"main": 30}}, "nodes.docker-app-1.ip", "no address on storage"),
    row(
        "an address on a network the node is not on",
        {f"{APP1}/networks": ["main"], f"{APP1}/ip": {"main": 30, "storage": 30}},
        "nodes.docker-app-1.ip.storage",
        "not on this network",
    ),
    row(
        "an address of a Proxmox VE host",
        {"proxmox/hosts/pve01/ssh": "192.168.4.30"},
        "nodes.docker-app-1.ip",
        "Proxmox VE host pve01",
    ),
    row(
        "IPv6 address of a node",
        {f"{APP1}/ip": {"main": "fe80::1", "storage": 30}},
        "nodes.docker-app-1.ip",
        "not an IPv4 address",
    ),
    row(
        "gateway outside the subnet",
        {"networks/main/gateway": "192.168.5.1"},
        "networks.main.gateway",
        "192.168.5.1",
        "outside the subnet 192.168.4.0/24",
    ),
    row(
        "gateway is the broadcast address",
        {"networks/main/gateway": "192.168.4.255"},
        "networks.main.gateway",
        "broadcast",
    ),
    row(
        "two networks with a gateway",
        {"networks/storage/gateway": "192.168.12.1"},
        "pools.default.networks",
        "main, storage have a gateway each",
        "one at most",
    ),
    row(
        "subnet with bits behind the prefix",
        {"networks/main/subnet": "192.168.4.1/24"},
        "networks.main.subnet",
        "192.168.4.1/24",
        "192.168.4.0/24",
    ),
    row(
        "subnet without a prefix length",
        {"networks/main/subnet": "192.168.4.0"},
        "networks.main.subnet",
        "prefix length",
    ),
    row("subnet too small", {"networks/main/subnet": "192.168.4.0/31"}, "networks.main.subnet", "/31"),
    row("IPv6 subnet", {"networks/main/subnet": "fd00::/64"}, "networks.main.subnet", "fd00::/64", "IPv4"),
    row("loopback subnet", {"networks/main/subnet": "127.0.0.0/24"}, "networks.main.subnet", "loopback"),
    row(
        "overlapping networks",
        {"networks/third": {"vlan": 5, "subnet": "192.168.4.0/23"}},
        "networks.third.subnet",
        "192.168.4.0/23",
        "overlaps node network 192.168.4.0/24",
    ),
    row("VLAN 0", {"networks/main/vlan": 0}, "networks.main.vlan", "= 0:", "1 to 4094"),
    row("VLAN 4095", {"networks/main/vlan": 4095}, "networks.main.vlan", "4095", "1 to 4094"),
    row("MTU too small", {"networks/main/mtu": 100}, "networks.main.mtu", "100", "576 to 65520"),
    row(
        "bridge's name too long", {"networks/main/bridge": "vmbr0123456789abc"}, "networks.main.bridge", "15 characters"
    ),
    row(
        "MAC is none",
        {f"{APP1}/macs": {"main": "02:00:01"}},
        "nodes.docker-app-1.macs.main",
        '"02:00:01"',
        "not a MAC address",
    ),
    row(
        "MAC is multicast", {f"{APP1}/macs": {"main": "03:00:00:00:00:01"}}, "nodes.docker-app-1.macs.main", "multicast"
    ),
    row(
        "MAC of a network the node is not on",
        {f"{APP1}/macs": {"mian": "02:00:00:00:00:01"}},
        "nodes.docker-app-1.macs.mian",
        "not on this network",
        "Did you mean main?",
    ),
]

UNDECLARED = [
    row(
        "host",
        {f"{APP1}/host": "pve1"},
        "nodes.docker-app-1.host",
        '"pve1"',
        "pve01, pve02, pve03",
        "Did you mean pve01?",
    ),
    row(
        "pool",
        {f"{APP1}/pool": "apps"},
        "nodes.docker-app-1.pool",
        '"apps"',
        "default, app, infra, mgmt",
        "Did you mean app?",
    ),
    row(
        "datastore",
        {f"{APP1}/datastore": "tonk"},
        "nodes.docker-app-1.datastore",
        '"tonk"',
        "a datastore of pve01: tank",
        "Did you mean tank?",
    ),
    row(
        "datastore of another host",
        {f"{INFRA1}/dataDatastore": "local-lvm"},
        "nodes.docker-infra-1.dataDatastore",
        "host pve01 of node docker-infra-1 does not declare",
        "proxmox.hosts.pve01.datastores",
    ),
    row(
        "network",
        {"pools/default/networks": ["main", "storge"]},
        "pools.default.networks[1]",
        '"storge"',
        "main, storage",
        "Did you mean storage?",
    ),
    row(
        "networks left open",
        {"pools/default/networks": GONE, "nodes": {"a": {"pool": "app", "host": "pve01", "id": 100, "ip": 9}}},
        "nodes.a.networks",
        "missing",
        "main, storage",
    ),
]

SIZES = [
    row(
        "boot disk below the image",
        {"pools/app/boot": 2},
        "pools.app.boot",
        "= 2:",
        "smaller than the image (3 GiB)",
        "3 or more",
    ),
    row(
        "boot disk of one node below the image",
        {f"{APP1}/boot": 1},
        "nodes.docker-app-1.boot",
        "= 1:",
        "smaller than the image",
    ),
    row("no CPU", {f"{APP1}/cpu": 0}, "nodes.docker-app-1.cpu", "= 0:", "below 1", "1 to 512"),
    row("negative CPU", {"pools/app/cpu": -4}, "pools.app.cpu", "-4"),
    row("half a CPU", {f"{APP1}/cpu": 0.5}, "nodes.docker-app-1.cpu", "0.5", "not a whole number"),
    row("CPU in quotes", {f"{APP1}/cpu": "4"}, "nodes.docker-app-1.cpu", '"4"', "without quotes"),
    row("no memory", {"pools/mgmt/memory": 0}, "pools.mgmt.memory", "= 0:", "0.25 to 4096"),
    row("memory in MiB by mistake", {"pools/mgmt/memory": 8192}, "pools.mgmt.memory", "8192", "number of GiB"),
    row("memory that is no whole MiB", {"pools/mgmt/memory": 0.3}, "pools.mgmt.memory", "0.3", "MiB"),
    row("memory with a unit", {"pools/mgmt/memory": "6G"}, "pools.mgmt.memory", '"6G"', "not a number"),
    row("negative data disk", {f"{INFRA1}/data": -1}, "nodes.docker-infra-1.data", "-1"),
    row("image size nothing", {"proxmox/image/size": 0}, "proxmox.image.size", "= 0:"),
    row("parallel nothing", {"proxmox/parallel": 0}, "proxmox.parallel", "= 0:", "1 to 16"),
    row("VM id below 100", {f"{APP1}/id": 99}, "nodes.docker-app-1.id", "= 99:", "100 to 999999999"),
    row("VM id too high", {f"{APP1}/id": 1_000_000_000}, "nodes.docker-app-1.id", "1000000000"),
    row("generation 0", {f"{APP1}/generation": 0}, "nodes.docker-app-1.generation", "1 or more"),
    row(
        "data mounted over the system",
        {f"{INFRA1}/dataMount": "/usr/share"},
        "nodes.docker-infra-1.dataMount",
        '"/usr/share"',
        "hide the system's own files",
    ),
    row("data mounted over all state", {f"{INFRA1}/dataMount": "/var/lib"}, "nodes.docker-infra-1.dataMount", "hide"),
    row(
        "data mounted over Docker's directory",
        {f"{INFRA1}/dataMount": "/var/lib/docker"},
        "nodes.docker-infra-1.dataMount",
        "swarm identity",
    ),
    row(
        "data mounted by a relative path",
        {f"{INFRA1}/dataMount": "srv/../etc"},
        "nodes.docker-infra-1.dataMount",
        "absolute path",
    ),
]

YAML_TRAPS = [
    row(
        "label true",
        {"nodes/swarmpit-mgmt/labels": {"portainer.data": True}},
        'nodes.swarmpit-mgmt.labels["portainer.data"]',
        "= true:",
        'write "true" in quotes',
    ),
    row(
        "label number", {"pools/infra/labels": {"zone": 8}}, "pools.infra.labels.zone", "= 8:", "010 is 8", "in quotes"
    ),
    row(
        "label 29.10",
        {"pools/infra/labels": {"engine": 29.1}},
        "pools.infra.labels.engine",
        "29.1",
        "29.10 and 29.1 are the same",
        "in quotes",
    ),
    row("label nothing", {"pools/infra/labels": {"zone": None}}, "pools.infra.labels.zone", "nothing is written"),
    row(
        "label date",
        {"pools/infra/labels": {"since": datetime.date(2026, 1, 2)}},
        "pools.infra.labels.since",
        '"2026-01-02" in quotes',
    ),
    row(
        "label date, as Pulumi hands it over",
        {"pools/infra/labels": {"since": "2026-01-02 00:00:00 +0000 UTC"}},
        "pools.infra.labels.since",
        'write "2026-01-02" in quotes',
    ),
    row("label list", {"pools/infra/labels": {"zone": ["a"]}}, "pools.infra.labels.zone", '["a"]', "not text"),
    row("swarm label true", {"cluster/labels": {"a": True}}, "cluster.labels.a", "= true:"),
    row(
        "version 29.10", {"docker/version": 29.1}, "docker.version", "29.1", "29.10 and 29.1 are the same", "in quotes"
    ),
    row("version 29", {"docker/version": 29}, "docker.version", "29", "in quotes"),
    row("version none", {"docker/version": "latest"}, "docker.version", '"latest"', "not an engine version", "29.8.2"),
    row("version in part", {"docker/version": "29.10"}, "docker.version", '"29.10"', "three numbers", "29.8.2"),
    row(
        "version of Debian's package", {"docker/version": "26.1.5+dfsg1-9"}, "docker.version", "engine's own", "29.8.2"
    ),
    row(
        "version of Docker's package",
        {"docker/version": "5:29.8.2-1~debian.13~trixie"},
        "docker.version",
        "engine's own version, not a package's",
        "Accepted: an engine version of three numbers, in quotes",
    ),
    row("version with a letter", {"docker/version": "v29.8.2"}, "docker.version", '"v29.8.2"', "not an engine version"),
    row(
        "deadline without a unit", {"deadlines": {"boot": 300}}, "deadlines.boot", "= 300:", "without a unit", '"300s"'
    ),
    row("boolean in quotes", {"proxmox/protect": "true"}, "proxmox.protect", '"true"', "without quotes"),
    row(
        "a key with nothing behind it",
        {"pools/app/boot": None},
        "pools.app.boot",
        "= null:",
        "nothing is written behind the key",
    ),
    row("a node with nothing behind it", {"nodes/extra": None}, "nodes.extra", "not a mapping", "host, id, ip"),
]

NAMES = [
    row(
        "a data disk's owner with too long a name",
        new_node(f"a{'b' * 58}", data=10),
        f"nodes.a{'b' * 58}",
        "-data, would have 64 characters",
        "up to 58 characters",
    ),
    row(
        "a data disk's owner with too long a name, by its pool",
        {**new_node(f"a{'b' * 58}", pool="disks"), "pools/disks": {"data": 10}},
        f"nodes.a{'b' * 58}",
        "up to 58 characters",
    ),
    row(
        "the name of another node's data disk's owner",
        new_node("docker-infra-1-data"),
        "nodes.docker-infra-1-data",
        "the data disk of docker-infra-1",
        "a name of its own",
    ),
    row("name of a Proxmox VE host", new_node("pve01"), "nodes.pve01", "a Proxmox VE host has this name"),
    row("capitals", new_node("Docker-1"), "nodes.Docker-1", "without case", "write docker-1"),
    row("underscore", new_node("docker_1"), "nodes.docker_1", "RFC 1123", "1 to 63 characters"),
    row("hyphen at the end", new_node("docker-"), "nodes.docker-", "RFC 1123"),
    row("64 characters", new_node("a" * 64), f"nodes.{'a' * 64}", "1 to 63 characters"),
    row("dot", new_node("a.example"), 'nodes["a.example"]', "RFC 1123"),
    row("line break", new_node("docker\n"), 'nodes["docker\\n"]', "RFC 1123"),
    row(
        "reserved label",
        {"pools/infra/labels": {"com.docker.stack": "x"}},
        'pools.infra.labels["com.docker.stack"]',
        "com.docker.",
        "reserved",
    ),
    row(
        "our own label",
        {f"{APP1}/labels": {"proxmox-swarm.drained": "x"}},
        'nodes.docker-app-1.labels["proxmox-swarm.drained"]',
        "proxmox-swarm.",
        "reserved",
    ),
    row(
        "Docker's label for objects",
        {f"{APP1}/labels": {"org.dockerproject.x": "x"}},
        'nodes.docker-app-1.labels["org.dockerproject.x"]',
        "reserved",
    ),
    row(
        "label with a space",
        {f"{APP1}/labels": {"a b": "x"}},
        'nodes.docker-app-1.labels["a b"]',
        "placement constraint",
    ),
    row(
        "storage's name",
        {"proxmox/hosts/pve01/datastore": "my tank"},
        "proxmox.hosts.pve01.datastore",
        '"my tank"',
        "Proxmox VE storage",
    ),
    row("role", {"pools/app/role": "master"}, "pools.app.role", '"master"', "manager or worker"),
    row("availability", {"pools/app/availability": "off"}, "pools.app.availability", '"off"', "active, pause or drain"),
    row(
        "what to do about others",
        {"cluster/undeclared": "kill"},
        "cluster.undeclared",
        '"kill"',
        "Accepted: report or remove.",
    ),
    row("root", {"access/user": "root"}, "access.user", '"root"', "account of their own"),
    row("user with capitals", {"access/user": "Ansible"}, "access.user", "not a user name"),
]

KEYS_AND_SHAPES = [
    row("unknown top-level key", {"node": {}}, "node", "no such key", "Did you mean nodes?"),
    row("unknown node key", {f"{APP1}/datas": 5}, "nodes.docker-app-1.datas", "no such key", "Did you mean data?"),
    row("unknown pool key", {"pools/app/ram": 5}, "pools.app.ram", "no such key", "memory"),
    row(
        "snake_case",
        {f"{INFRA1}/data_mount": "/srv/data"},
        "nodes.docker-infra-1.data_mount",
        "Did you mean dataMount?",
    ),
    row(
        "unknown host key",
        {"proxmox/hosts/pve01/snippet": "local"},
        "proxmox.hosts.pve01.snippet",
        "Did you mean snippets?",
    ),
    row("credentials in settings", {"proxmox/apiToken": "root@pam!x=1234"}, "proxmox.apiToken", "PROXMOX_VE_API_TOKEN"),
    row("overlays", {"overlays": {"a": {}}}, "overlays", "overlay networks are not supported by this version"),
    row("stacks", {"stacks": {}}, "stacks", "stacks are not supported by this version"),
    row("secrets", {"secrets": {"a": "hidden-value"}}, "secrets", "not supported by this version"),
    row(
        "rotation of nothing",
        {"cluster/rotate": {"token": 2}},
        "cluster.rotate.token",
        "no such key",
        "worker, manager",
    ),
    row("rotation below one", {"cluster/rotate": {"worker": 0}}, "cluster.rotate.worker", "below 1", "1 or more"),
    row("rotation by yes", {"cluster/rotate": {"ca": True}}, "cluster.rotate.ca", "true", "not a whole number"),
    row("rotation in words", {"cluster/rotate": "now"}, "cluster.rotate", '"now"', "not a mapping"),
    row("autolock in words", {"cluster/autolock": "on"}, "cluster.autolock", '"on"', "not true or false"),
    row(
        "a host that may be off",
        {f"{APP1}/mayBeOff": True},
        "nodes.docker-app-1.mayBeOff",
        "not supported by this version",
    ),
    row("a pool that may be off", {"pools/app/mayBeOff": True}, "pools.app.mayBeOff", "not supported by this version"),
    row("a bare host", {f"{APP1}/address": "10.9.0.7"}, "nodes.docker-app-1.address", "not supported by this version"),
    row("no nodes", {"nodes": {}}, "nodes", "empty", "at least one"),
    row("nodes left out", {"nodes": GONE}, "nodes", "missing", "app-1: {host: pve01"),
    row("nodes a list", {"nodes": [1]}, "nodes", "[1]", "not a mapping"),
    row(
        "host left out",
        {f"{APP1}/host": GONE},
        "nodes.docker-app-1.host",
        "missing",
        "a key of `proxmox.hosts`",
        "Example: pve01",
    ),
    row("image left out", {"proxmox/image": GONE}, "proxmox.image", "missing", "url, sha512 and size"),
    row("access left out", {"access": GONE}, "access", "missing"),
    row("no endpoints", {"proxmox/endpoints": []}, "proxmox.endpoints", "too few"),
    row(
        "four DNS servers",
        {"os/dns/servers": ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"]},
        "os.dns.servers",
        "too many",
        "one to three",
    ),
    row("a mapping where text belongs", {"proxmox/image/url": {"a": 1}}, "proxmox.image.url", "not text"),
    row("a section that is text", {"docker": "29.10"}, "docker", '"29.10"', "not a mapping", "daemon, version"),
]

URLS_AND_KEYS = [
    row(
        "plain http endpoint",
        {"proxmox/endpoints": ["http://pve01:8006"]},
        "proxmox.endpoints[0]",
        "http://pve01:8006",
        "https only",
    ),
    row(
        "endpoint with a path",
        {"proxmox/endpoints": ["https://pve01:8006/api2/json"]},
        "proxmox.endpoints[0]",
        "no path",
    ),
    row(
        "endpoint with a password",
        {"proxmox/endpoints": ["https://root:hidden-value@pve01:8006"]},
        "proxmox.endpoints[0]",
        "https://(hidden)@pve01:8006",
        "credentials",
    ),
    row(
        "endpoint without a scheme",
        {"proxmox/endpoints": ["pve01:8006"]},
        "proxmox.endpoints[0]",
        "not an http or https URL",
    ),
    row(
        "endpoint with a bad port", {"proxmox/endpoints": ["https://pve01:80060"]}, "proxmox.endpoints[0]", "not a URL"
    ),
    row(
        "image from a file",
        {"proxmox/image/url": "file:///debian.qcow2"},
        "proxmox.image.url",
        "file:///debian.qcow2",
        "http or https URL",
    ),
    *(
        row(name, {"proxmox/image/url": url, **more}, "proxmox.image.url", *words, ".qcow2, .raw or .vmdk")
        for name, url, more, *words in (
            ("image of no kind", "https://a/debian", {}, '"https://a/debian"', "by the end of its name"),
            ("image behind a query", "https://a/get?f=x.qcow2", {}, "by the end of its name"),
            (
                "image that says .img",
                "https://a/noble.img",
                {},
                '"https://a/noble.img"',
                "format: qcow2",
                "format: raw",
            ),
            ("image in an archive", "https://a/x.qcow2.xz", {"proxmox/image/format": "qcow2"}, "does not unpack"),
            ("image that is a whole machine", "https://a/x.ova", {}, "a machine, not a disk"),
            ("image for burning", "https://a/x.iso", {"proxmox/image/format": "raw"}, "by the end of its name"),
        )
    ),
    row("image format of no kind", {"proxmox/image/format": "vhd"}, "proxmox.image.format", '"vhd"', "qcow2 or raw"),
    row(
        "image format against the name",
        {"proxmox/image/format": "raw"},
        "proxmox.image.format",
        '"raw"',
        "says qcow2",
        "without `format`",
    ),
    row("image URL with a line break", {"proxmox/image/url": "https://a/b\nc"}, "proxmox.image.url", "not a URL"),
    row(
        "digest cut off",
        {"proxmox/image/sha512": "95e110df"},
        "proxmox.image.sha512",
        '"95e110df"',
        "128 hexadecimal digits",
    ),
    row(
        "digest of another kind", {"proxmox/image/sha512": "g" * 128}, "proxmox.image.sha512", "128 hexadecimal digits"
    ),
    row(
        "APT cache without a scheme",
        {"os/aptCache/url": "cache:3142"},
        "os.aptCache.url",
        '"cache:3142"',
        "http or https URL",
    ),
    row(
        "SSH address with a bad port",
        {"proxmox/hosts/pve01/ssh": "10.0.0.1:0"},
        "proxmox.hosts.pve01.ssh",
        '"10.0.0.1:0"',
        "not a port",
    ),
    row("SSH address with a user", {"proxmox/hosts/pve01/ssh": "root@pve01"}, "proxmox.hosts.pve01.ssh", "host name"),
    row(
        "DNS server by name",
        {"os/dns/servers": ["dns.example"]},
        "os.dns.servers[0]",
        '"dns.example"',
        "not an IP address",
    ),
    row("search domain", {"os/dns/search": ["exa mple"]}, "os.dns.search[0]", '"exa mple"', "not a domain name"),
    row("no SSH key", {"access/keys": []}, "access.keys", "too few", "at least one"),
    row("SSH key cut off", {"access/keys": [SSH_KEY[:60]]}, "access.keys[0]", "ssh-ed25519 …", "damaged or cut off"),
    row(
        "SSH key of another type",
        {"access/keys": ["ssh-dss AAAAB3NzaC1kc3M= me"]},
        "access.keys[0]",
        "ssh-dss",
        "not a type of key",
    ),
    row(
        "SSH key under a wrong type",
        {"access/keys": [SSH_KEY.replace("ssh-ed25519", "ssh-rsa")]},
        "access.keys[0]",
        "not a key of the type before it",
    ),
    row("short RSA key", {"access/keys": [rsa_key(1024)]}, "access.keys[0]", "shorter than 2048 bits"),
    row("two SSH keys in one", {"access/keys": [f"{SSH_KEY}\n{SSH_KEY}"]}, "access.keys[0]", "one line"),
    row("SSH key with options", {"access/keys": [f"no-pty {SSH_KEY}"]}, "access.keys[0]", "not a type of key"),
    row(
        "private SSH key",
        {"access/keys": ["-----BEGIN OPENSSH " + "PRIVATE KEY-----\nhidden-value\n"]},
        "access.keys[0]",
        "PRIVATE key",
        ".pub",
    ),
    row(
        "body of a private SSH key",
        {"access/keys": ["ssh-ed25519 b3BlbnNzaC1rZXktdjEAhidden-value"]},
        "access.keys[0]",
        "PRIVATE key",
    ),
]

DAEMON = [
    row(
        "live-restore",
        {"docker/daemon/live-restore": True},
        "docker.daemon.live-restore",
        "= true:",
        "incompatible with swarm mode",
        "no live-restore, or false",
    ),
    row("iptables off", {"docker/daemon/iptables": False}, "docker.daemon.iptables", "publish a port"),
    row("forwarding off", {"docker/daemon/ip-forward": False}, "docker.daemon.ip-forward", "forwarding"),
    row(
        "nftables",
        {"docker/daemon/firewall-backend": "nftables"},
        "docker.daemon.firewall-backend",
        '"nftables"',
        "incompatible with swarm mode",
    ),
    row("hosts", {"docker/daemon/hosts": ["tcp://0.0.0.0:2375"]}, "docker.daemon.hosts", "would not start", "root"),
    row("data-root", {"docker/daemon/data-root": "/srv/docker"}, "docker.daemon.data-root", "forget the swarm"),
    row(
        "misspelt key",
        {"docker/daemon/default-address-pool": []},
        "docker.daemon.default-address-pool",
        "would not start",
        "Did you mean default-address-pools?",
    ),
    row(
        "underscores", {"docker/daemon/live_restore": True}, "docker.daemon.live_restore", "Did you mean live-restore?"
    ),
    row(
        "boolean in quotes",
        {"docker/daemon/debug": "true"},
        "docker.daemon.debug",
        '"true"',
        "would not start",
        "without quotes",
    ),
    row(
        "log option a number",
        {"docker/daemon/log-opts": {"max-file": 3}},
        "docker.daemon.log-opts.max-file",
        "= 3:",
        '"3"',
    ),
    row(
        "address pool's size",
        {"docker/daemon/default-address-pools": [{"base": "172.20.0.0/16", "size": 8}]},
        "docker.daemon.default-address-pools[0].size",
        "= 8:",
        "172.20.0.0/16",
    ),
    row(
        "address pool's base",
        {"docker/daemon/default-address-pools": [{"base": "172.20.1.0/16", "size": 24}]},
        "docker.daemon.default-address-pools[0].base",
        "172.20.1.0/16",
    ),
    row(
        "address pool's shape",
        {"docker/daemon/default-address-pools": ["172.20.0.0/16"]},
        "docker.daemon.default-address-pools[0]",
        "base and size",
    ),
    row(
        "Docker's pool over the nodes' network",
        {
            "docker/daemon/default-address-pools": [{"base": "192.168.0.0/16", "size": 24}],
            "networks/storage/subnet": "10.12.0.0/24",
        },
        "docker.daemon.default-address-pools[0].base",
        "192.168.0.0/16",
        "overlaps node network 192.168.4.0/24",
    ),
    row(
        "Docker's bridge over the nodes' network",
        {"docker/daemon/bip": "192.168.4.200/28"},
        "docker.daemon.bip",
        "overlaps node network",
    ),
]

CLUSTER = [
    row(
        "pool over the nodes' network",
        {"cluster/addressPool": "192.168.4.0/22"},
        "cluster.addressPool",
        "overlaps node network 192.168.4.0/24 at networks.main.subnet",
    ),
    row(
        "pool over Docker's pool",
        {"cluster/addressPool": "172.16.0.0/12"},
        "cluster.addressPool",
        "172.16.0.0/12",
        "Docker's address pool 172.20.0.0/16",
    ),
    row(
        "default pool over the nodes' network",
        {"cluster/addressPool": GONE, "networks/storage/subnet": "10.12.0.0/24"},
        "cluster.addressPool",
        "10.0.0.0/8",
        "the default",
        "10.201.0.0/16",
    ),
    row(
        "pools over each other",
        {"cluster/addressPool": ["10.201.0.0/16", "10.201.4.0/24"]},
        "cluster.addressPool",
        "10.201.4.0/24",
        "overlaps",
    ),
    row("pool is none", {"cluster/addressPool": "10.201.0.0"}, "cluster.addressPool", '"10.201.0.0"', "prefix length"),
    row(
        "subnets greater than the pool",
        {"cluster/subnetSize": 15},
        "cluster.subnetSize",
        "= 15:",
        "10.201.0.0/16 is smaller",
        "from 16 to 29",
    ),
    row("subnets too small", {"cluster/subnetSize": 30}, "cluster.subnetSize", "= 30:", "29"),
    row("data path port too low", {"cluster/dataPathPort": 1023}, "cluster.dataPathPort", "1023", "1024 to 49151"),
    row("data path port too high", {"cluster/dataPathPort": 49152}, "cluster.dataPathPort", "49152", "1024 to 49151"),
    row(
        "election before the heartbeat",
        {"cluster/electionTick": 3, "cluster/heartbeatTick": 3},
        "cluster.electionTick",
        "= 3:",
        "voted out",
    ),
    row(
        "heartbeat above the default election",
        {"cluster/heartbeatTick": 20},
        "cluster.heartbeatTick",
        "= 20:",
        "electionTick above",
    ),
    row(
        "certificates too short", {"cluster/certificateExpiry": "59m"}, "cluster.certificateExpiry", '"59m"', "below 1h"
    ),
    row("deadline is none", {"deadlines": {"join": "soon"}}, "deadlines.join", '"soon"', "not a duration", "`5m`"),
    row("deadline of nothing", {"deadlines": {"drain": "0s"}}, "deadlines.drain", '"0s"', "below 1s"),
    row("deadline in words", {"deadlines": {"boot": "5 m"}}, "deadlines.boot", '"5 m"', "not a duration"),
    row("deadline too long", {"deadlines": {"boot": "2d"}}, "deadlines.boot", '"2d"', "above 1d"),
]

ADOPTED = [
    row(
        "a data disk for an adopted machine",
        {f"{INFRA1}/hostKey": SSH_KEY},
        "nodes.docker-infra-1.data",
        "50",
        "adopted with the disks it has",
        "Write data: 0 at docker-infra-1",
    ),
    row(
        "a host key of another type",
        {f"{APP1}/hostKey": rsa_key(3072)},
        "nodes.docker-app-1.hostKey",
        "not an ssh-ed25519 key",
        "ssh_host_ed25519_key.pub",
    ),
    row("a host key cut off", {f"{APP1}/hostKey": SSH_KEY[:40]}, "nodes.docker-app-1.hostKey", "damaged or cut off"),
    row(
        "a disk by another name",
        {f"{APP1}/discard": ["/dev/sdb"]},
        "nodes.docker-app-1.discard[0]",
        "/dev/sdb",
        "such as scsi1",
    ),
]

TABLE = {
    "managers": MANAGERS,
    "lanes": LANES,
    "data path": DATA_PATH,
    "once": ONCE_ONLY,
    "addresses": ADDRESSES,
    "undeclared": UNDECLARED,
    "sizes": SIZES,
    "yaml": YAML_TRAPS,
    "names": NAMES,
    "shapes": KEYS_AND_SHAPES,
    "urls": URLS_AND_KEYS,
    "daemon": DAEMON,
    "cluster": CLUSTER,
    "adopted": ADOPTED,
}
ROWS = [pytest.param(item, id=f"{group}-{item.name}") for group, rows in TABLE.items() for item in rows]


def change(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    for path, value in changes.items():
        *above, last = path.split("/")
        place = config
        for name in above:
            place = place.setdefault(name, {})
        if value is GONE:
            del place[last]
        else:
            place[last] = value
    return config


@pytest.mark.parametrize("bad", ROWS)
def test_refused_with_key_value_and_what_is_accepted(good: dict[str, Any], bad: Row) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(change(good, bad.changes), project="swarm", stack="prod")

    error = caught.value
    assert [render(problem.path) for problem in error.problems] == [bad.path], str(error)
    line = str(error)
    assert line.startswith(f"swarm:{bad.path}")
    assert "\n" not in line
    assert " Accepted: " in line
    for words in bad.words:
        assert words in line
    assert "hidden-value" not in line


def test_the_table_is_long_enough() -> None:
    names = [param.id for param in ROWS]
    assert len(names) == len(set(names))
    assert len(names) >= 60


def test_all_problems_are_told_at_once_the_first_on_the_first_line(good: dict[str, Any]) -> None:
    bad = change(
        good,
        {
            f"{APP1}/cpu": 0,
            f"{APP2}/host": "pve09",
            "networks/storage/vlan": 5000,
            "docker/daemon/live-restore": True,
            "nope": 1,
        },
    )
    with pytest.raises(SettingsError) as caught:
        resolve(bad, project="swarm", stack="prod")

    lines = str(caught.value).splitlines()
    assert {render(p.path) for p in caught.value.problems} == {
        "nope",
        "networks.storage.vlan",
        "nodes.docker-app-1.cpu",
        "nodes.docker-app-2.host",
        "docker.daemon.live-restore",
    }
    assert len(lines) == 5
    assert lines[0].startswith("swarm:nope: no such key.")
    assert lines[0].endswith("(1 of 5 problems in the settings of stack prod)")
    assert lines[1].startswith("  2. swarm:")
    assert lines[4].startswith("  5. swarm:")


def test_the_error_survives_pickling(good: dict[str, Any]) -> None:
    import pickle

    with pytest.raises(SettingsError) as caught:
        resolve(change(good, {f"{APP1}/cpu": 0}), project="swarm", stack="prod")
    again = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(again, SettingsError)
    assert str(again) == str(caught.value)
    assert again.problems == caught.value.problems
