"""Settings of what runs on the machines, as written: access, system, Docker, the swarm, deadlines, rolling, guards."""

from __future__ import annotations

from typing import Any

from proxmox_swarm.settings.schema_types import (
    DURATION,
    LABELS,
    Address,
    CertificateExpiry,
    Deadline,
    Domain,
    EngineVersion,
    Heartbeat,
    Keys,
    Labels,
    Name,
    SshKey,
    Subnets,
    Undeclared,
    Url,
    User,
    key,
)

ROTATION = "a whole number, 1 or more"


class Access(Keys):
    """`access`: who may log in to the nodes."""

    user: User = key(
        "The account on every node: no password, sudo without one.",
        "a Linux user name other than root: lower-case letters, digits, `_`, `-`, up to 32 characters",
        default="ansible",
        example="ansible",
    )
    keys: list[SshKey] = key(
        "SSH public keys of those who may log in.",
        "a list of OpenSSH public keys, at least one: ssh-ed25519, ecdsa, sk- keys, ssh-rsa of 2048 bits or more",
        example="['ssh-ed25519 AAAAC3… me@desk']",
        min_length=1,
    )


class Dns(Keys):
    """`os.dns`: name resolution on the nodes."""

    servers: list[Address] = key(
        "Name servers in the order they are asked.",
        "a list of one to three IP addresses, each once (the resolver of glibc reads no more)",
        example="[192.168.2.4, 192.168.4.5]",
        min_length=1,
        max_length=3,
    )
    search: list[Domain] = key(
        "Domains added to short names.", "a list of domain names", default=list, example="[example.org]"
    )


class AptCache(Keys):
    """`os.aptCache`: a proxy for Debian packages."""

    url: Url = key("The proxy's address.", "an http or https URL", example="http://apt-cacher.example.org:3142")


class Os(Keys):
    """`os`: settings of every node's operating system. They may change at any time and replace no machine."""

    dns: Dns = key(
        "Name resolution.",
        "a mapping with servers and search",
        default=None,
        example="{servers: [192.168.2.4]}",
        otherwise="the image's own",
    )
    apt_cache: AptCache = key(
        "A proxy for Debian packages.",
        "a mapping with url",
        default=None,
        example="{url: 'http://apt-cacher.example.org:3142'}",
        otherwise="no proxy",
    )


class Docker(Keys):
    """`docker`: the engine on every node."""

    daemon: dict[str, Any] = key(
        "`daemon.json`, added to the defaults: log driver json-file with 3 files of 100m, storage driver overlay2. "
        "Keys that break a swarm are refused, `live-restore` first of all.",
        "a mapping of keys of Docker's daemon.json",
        default=dict,
        example="{default-address-pools: [{base: 172.20.0.0/16, size: 24}]}",
        otherwise="the defaults",
    )
    version: EngineVersion = key(
        "The engine to install where the image has no Docker: `docker-ce` of this version from Docker's own repository, "
        "kept at it (`apt-mark hold`). An engine that is there already stays as it is.",
        'an engine version of three numbers, in quotes, such as "29.8.2"',
        default=None,
        example='"29.8.2"',
        otherwise="the newest that Docker's repository has",
    )


class Rotate(Keys):
    """`cluster.rotate`: a number for each thing that can be rotated. A number higher than that of the last `up` rotates it
    once, whatever the difference; a lower one is refused. Members stay as they are."""

    worker: int = key("The join token of workers.", ROTATION, default=1, example="2", ge=1)
    manager: int = key("The join token of managers.", ROTATION, default=1, example="2", ge=1)
    ca: int = key(
        "The root CA: every node gets a new certificate, and both join tokens change. Every node must be up.",
        ROTATION,
        default=1,
        example="2",
        ge=1,
    )
    unlock_key: int = key(
        "The key that unlocks managers; without `cluster.autolock` there is none to rotate.",
        ROTATION,
        default=1,
        example="2",
        ge=1,
    )


class Cluster(Keys):
    """`cluster`: settings of the swarm itself. The first four are fixed: preview refuses to change them."""

    address_pool: Subnets = key(
        "Where overlay networks take their subnets from. Fixed at init.",
        "an IPv4 subnet or a list of them, not overlapping each other, `networks` or Docker's own pools",
        default=None,
        example="10.201.0.0/16",
        otherwise="10.0.0.0/8, as the engine has it",
    )
    subnet_size: int = key(
        "Prefix length of each overlay network. Fixed at init.",
        "a whole number from the pool's prefix length to 29",
        default=24,
        example="24",
        le=29,
        ge=8,
    )
    data_path_port: int = key(
        "UDP port of overlay traffic. Fixed at init.",
        "a whole number, 1024 to 49151",
        default=4789,
        example="7789",
        ge=1024,
        le=49151,
    )
    data_path: Name = key(
        "The network that carries overlay traffic. A node gets its address there when it joins.",
        "a key of `networks` that every node is on",
        default=None,
        example="storage",
        otherwise="each node's first network",
    )
    election_tick: int = key(
        "Raft ticks (of a second) without a leader before an election, as the swarm keeps it. Docker's managers go by 10 "
        "whatever it says, and log a warning where it differs.",
        "a whole number above heartbeatTick, up to 1000",
        default=None,
        example="10",
        otherwise="the engine's, 10",
        ge=1,
        le=1000,
    )
    heartbeat_tick: int = key(
        "Raft ticks between the leader's heartbeats, as the swarm keeps it. Docker's managers go by 1.",
        "a whole number, 1 to 100",
        default=None,
        example="1",
        otherwise="the engine's, 1",
        ge=1,
        le=100,
    )
    snapshot_interval: int = key(
        "Raft log entries between snapshots.",
        "a whole number, 1 or more",
        default=None,
        example="10000",
        otherwise="the engine's, 10000",
        ge=1,
    )
    keep_old_snapshots: int = key(
        "Old snapshots to keep.",
        "a whole number, 0 or more",
        default=None,
        example="0",
        otherwise="the engine's, 0",
        ge=0,
    )
    task_history: int = key(
        "Finished tasks kept for each replica.",
        "a whole number, 0 or more",
        default=None,
        example="5",
        otherwise="the engine's, 5",
        ge=0,
    )
    certificate_expiry: CertificateExpiry = key(
        "How long a node's certificate is valid; renewed before.",
        f"1h to 3650d: {DURATION}",
        default=None,
        example="90d",
        otherwise="the engine's, 90d",
    )
    dispatcher_heartbeat: Heartbeat = key(
        "How often a node reports; about three missed reports and it is down.",
        f"1s to 1h: {DURATION}",
        default=None,
        example="5s",
        otherwise="the engine's, 5s",
    )
    labels: Labels = key(
        "Labels of the swarm. They are these and no others; without the key they are left as they are.",
        LABELS,
        default=None,
        example="{environment: production}",
        otherwise="left as they are",
    )
    autolock: bool = key(
        "Encrypt the managers' keys at rest: a manager whose engine restarts waits for the unlock key, the secret output "
        "`unlockKey`. No manager comes back by itself after a reboot then.",
        "true or false",
        default=False,
        example="true",
    )
    rotate: Rotate = key(
        "What to rotate, by numbers that go up.",
        "a mapping with worker, manager, ca and unlockKey",
        default=Rotate,
        example="{worker: 2, manager: 2}",
        otherwise="nothing is rotated",
    )
    undeclared: Undeclared = key(
        "What to do about nodes in the swarm that nobody declared: say so, or drain and remove those that a preview has "
        "named.",
        "report or remove",
        default="report",
        example="report",
    )


class Deadlines(Keys):
    """`deadlines`: how long each wait may take before it is an error."""

    boot: Deadline = key(
        "From the machine's start to SSH and Docker answering.",
        f"1s to 1d: {DURATION}",
        default=300,
        example="5m",
        otherwise="5m",
    )
    join: Deadline = key(
        "For a node to be in the swarm and ready.", f"1s to 1d: {DURATION}", default=120, example="2m", otherwise="2m"
    )
    drain: Deadline = key(
        "For a node's tasks to stop and their services to be whole elsewhere.",
        f"1s to 1d: {DURATION}",
        default=600,
        example="10m",
        otherwise="10m",
    )
    role: Deadline = key(
        "For a promotion or demotion to be done.", f"1s to 1d: {DURATION}", default=120, example="2m", otherwise="2m"
    )
    rotation: Deadline = key(
        "For every node to have a certificate of a new CA.",
        f"1s to 1d: {DURATION}",
        default=300,
        example="5m",
        otherwise="5m",
    )


class Rolling(Keys):
    """`rolling`: how rebuilds, power cycles and restarts of engines go from node to node."""

    max_unavailable: int = key(
        "How many workers may be out at the same moment, never more than `proxmox.parallel` of one host. Managers go one by "
        "one whatever is said here.",
        "a whole number, 1 to the number of workers",
        default=1,
        example="2",
        ge=1,
    )


class Guards(Keys):
    """`guards`: words that say a risk is meant."""

    even_managers: bool = key(
        "Allow an even number of managers: it tolerates no more failures than one manager fewer.",
        "true or false",
        default=False,
        example="true",
    )
    fewer_managers: bool = key(
        "Let one plan take a majority of the managers out, by removal or demotion: `up` then does it one at a time, each "
        "only while the others keep a majority. Without it preview refuses such a plan and says the steps.",
        "true or false",
        default=False,
        example="true",
    )
    managers_on_one_host: bool = key(
        "Allow that the loss of one Proxmox VE host loses the quorum, as where there is one host only.",
        "true or false",
        default=False,
        example="true",
    )
    overlapping_address_pool: bool = key(
        "Allow that the swarm's address pool overlaps a network of the nodes, as that of an adopted swarm may: it cannot be "
        "changed any more.",
        "true or false",
        default=False,
        example="true",
    )
