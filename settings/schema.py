"""The stack's settings as people write them: one model a top-level key.

These models hold what is written and nothing else: no defaults from other keys, no names looked up. Descriptions,
accepted values and examples here are what errors quote and what docs/settings.md is made from.
"""

from __future__ import annotations

from typing import Any, Literal

from proxmox_swarm.settings.schema_types import (
    Address,
    Address4,
    Datastore,
    Domain,
    Duration,
    Endpoint,
    Gib,
    HostPart,
    Interface,
    Keys,
    Labels,
    Mac,
    Mount,
    Name,
    NodeSubnet,
    ResourcePool,
    Sha512,
    SshAddress,
    SshKey,
    Subnets,
    Url,
    User,
    Version,
    key,
)

LABELS = (
    "a mapping of label to text; a label is letters, digits, `.`, `_`, `-` and does not begin with com.docker., io.docker., "
    "org.dockerproject. or proxmox-swarm.; its value is text, in quotes where YAML would read something else"
)
DATASTORE = "the name of a Proxmox VE storage, 2 characters or more, a letter first"
DURATION = "a whole number with a unit, `90s`, `5m`, `2h`, `90d`, or several, `1h30m`"


class Image(Keys):
    """`proxmox.image`: the cloud image that every node's boot disk starts from."""

    url: Url = key(
        "Where every Proxmox VE host downloads the image. Use a dated URL: what is behind `latest` changes.",
        "an http or https URL",
        example="https://cloud.debian.org/images/cloud/trixie/20260914-2601/debian-13-genericcloud-amd64-20260914-2601.qcow2",
    )
    sha512: Sha512 = key(
        "The image's digest, checked by Proxmox VE after the download.",
        "128 hexadecimal digits, as in the SHA512SUMS file beside the image",
        example="95e110df…",
    )
    size: int = key(
        "The image's virtual size in GiB, rounded up (`qemu-img info`). No boot disk may be smaller.",
        "a whole number of GiB, 1 to 1024",
        example="3",
        ge=1,
        le=1024,
    )


class ProxmoxHost(Keys):
    """`proxmox.hosts.<host>`: one Proxmox VE host; the key is its node name in Proxmox VE."""

    datastore: Datastore = key("Where the disks of this host's machines are kept.", DATASTORE, example="tank")
    datastores: list[Datastore] = key(
        "Other datastores of this host that nodes may name.",
        "a list of Proxmox VE storages",
        default=list,
        example="[local-lvm]",
    )
    images: Datastore = key(
        "Where the cloud image is downloaded to; its content types include `import`.",
        DATASTORE,
        default="local",
        example="local",
    )
    snippets: Datastore = key(
        "Where first-boot files are put; its content types include `snippets`.",
        DATASTORE,
        default="local",
        example="local",
    )
    ssh: SshAddress = key(
        "Where the host answers SSH: snippets are copied that way (the API has no upload for them).",
        "a host name or IPv4 address, with `:port` where it is not 22",
        default=None,
        example="192.168.2.11",
        otherwise="the address that Proxmox VE reports for the host",
    )


class Proxmox(Keys):
    """`proxmox`: the Proxmox VE cluster. Credentials are never here: they are read from the environment (`PROXMOX_VE_*`)."""

    endpoints: list[Endpoint] = key(
        "The API's addresses; the first that answers is used, so that one host down stops nothing.",
        "a list of https URLs without a path, each once",
        example="['https://pve01:8006', 'https://pve02:8006']",
        min_length=1,
    )
    hosts: dict[Name, ProxmoxHost] = key(
        "The Proxmox VE hosts that nodes may be put on.",
        "a mapping of host name (as Proxmox VE names its node) to its settings, at least one",
        example="{pve01: {datastore: tank}}",
        min_length=1,
    )
    image: Image = key(
        "The cloud image.", "a mapping with url, sha512 and size", example="{url: …, sha512: …, size: 3}"
    )
    parallel: int = key(
        "How many machines of one host are made at once: Proxmox VE answers too many tasks with lock timeouts.",
        "a whole number, 1 to 16",
        default=2,
        example="2",
        ge=1,
        le=16,
    )
    resource_pool: ResourcePool = key(
        "The Proxmox VE resource pool that the machines are put into; it must exist.",
        "the name of a Proxmox VE resource pool",
        default=None,
        example="swarm",
        otherwise="no pool",
    )
    insecure: bool = key(
        "Do not verify the API's certificate. Better: give the CA by `SSL_CERT_FILE`.",
        "true or false",
        default=False,
        example="false",
    )
    protect: bool = key(
        "Refuse to delete machines and data disks except where a rolling replacement does it.",
        "true or false",
        default=True,
        example="true",
    )


class Network(Keys):
    """`networks.<network>`: one network; the key is how pools and nodes call it."""

    subnet: NodeSubnet = key(
        "The network's addresses.", "an IPv4 subnet /8 to /30, such as 192.168.4.0/24", example="192.168.4.0/24"
    )
    vlan: int = key(
        "The VLAN tag of the nodes' interfaces; the bridge must be VLAN-aware.",
        "a whole number, 1 to 4094",
        default=None,
        example="4",
        otherwise="untagged",
        ge=1,
        le=4094,
    )
    gateway: Address4 = key(
        "The nodes' default route. A node may be on one network with a gateway only.",
        "an IPv4 address inside the subnet",
        default=None,
        example="192.168.4.1",
        otherwise="no route",
    )
    bridge: Interface = key(
        "The Proxmox VE bridge.",
        "the name of a network interface, up to 15 characters",
        default="vmbr0",
        example="vmbr0",
    )
    mtu: int = key(
        "The interfaces' MTU where it is not the bridge's own.",
        "a whole number, 576 to 65520",
        default=None,
        example="9000",
        otherwise="the bridge's",
        ge=576,
        le=65520,
    )


class Pool(Keys):
    """`pools.<pool>`: what a group of nodes has in common. Every pool starts from `default`; a node may override any key."""

    role: Literal["manager", "worker"] = key(
        "The nodes' role in the swarm.", "manager or worker", default="worker", example="manager"
    )
    availability: Literal["active", "pause", "drain"] = key(
        "Whether the scheduler gives the nodes tasks.", "active, pause or drain", default="active", example="drain"
    )
    cpu: int = key("Virtual CPUs.", "a whole number, 1 to 512", default=2, example="4", ge=1, le=512)
    memory: Gib = key("Memory in GiB.", "a number of GiB, 0.25 to 4096, in whole MiB", default=4, example="8")
    boot: int = key(
        "Size of the boot disk in GiB; not below `proxmox.image.size`.",
        "a whole number of GiB, 1 to 65536",
        default=20,
        example="50",
        ge=1,
        le=65536,
    )
    networks: list[Name] = key(
        "The networks the nodes are on, in order. The first carries SSH and the swarm: its address is the one advertised.",
        "a list of keys of `networks`, at least one, each once",
        default=None,
        example="[main, storage]",
        otherwise="the only network, where there is one",
        min_length=1,
    )
    labels: Labels = key(
        "Node labels for placement. Those of `default`, the pool and the node are added up; the nearer one wins.",
        LABELS,
        default=dict,
        example='{storage: ssd, portainer.data: "true"}',
    )
    datastore: Datastore = key(
        "Where the machine's disks are kept.",
        "a datastore that the node's host declares",
        default=None,
        example="tank",
        otherwise="the host's `datastore`",
    )
    data: int = key(
        "Size in GiB of a data disk that outlives the machine; 0 for none.",
        "a whole number of GiB, 0 to 65536",
        default=0,
        example="100",
        otherwise="0, no data disk",
        ge=0,
        le=65536,
    )
    data_mount: Mount = key(
        "Where the data disk is mounted.",
        "an absolute path that hides nothing of the system",
        default="/var/lib/data",
        example="/var/lib/data",
    )
    data_datastore: Datastore = key(
        "Where the data disk is kept.",
        "a datastore that the node's host declares",
        default=None,
        example="tank",
        otherwise="the datastore of the boot disk",
    )


class Node(Pool):
    """`nodes.<node>`: one node; the key is its host name and its name in Proxmox VE and in the swarm."""

    pool: Name = key("The pool whose settings the node takes.", "a key of `pools`", default="default", example="app")
    host: Name = key("The Proxmox VE host the machine is on.", "a key of `proxmox.hosts`", example="pve01")
    id: int = key(
        "The machine's id in Proxmox VE. An id that somebody else uses is refused, never taken.",
        "a whole number, 100 to 999999999, used once",
        example="4100",
        ge=100,
        le=999_999_999,
    )
    ip: HostPart = key(
        "The last octet of the node's address on each of its networks; or an address (or octet) for each of them.",
        "0 to 255 for all networks, or a mapping of each of the node's networks to one",
        example="30",
    )
    data_id: int = key(
        "The id of the machine that owns the data disk: it is never started, and stays when the node is rebuilt.",
        "a whole number, 100 to 999999999, used once",
        default=None,
        example="4700",
        otherwise="`id` + 500",
        ge=100,
        le=999_999_999,
    )
    macs: dict[Name, Mac] = key(
        "MAC addresses by network, where they have to be certain ones.",
        "a mapping of the node's networks to unicast MAC addresses such as BC:24:11:00:41:00, in quotes",
        default=dict,
        example="{main: 'BC:24:11:00:41:00'}",
        otherwise="made from `id` and the VLAN",
    )
    generation: int = key(
        "A higher number rebuilds the machine, from the image as it is declared then. The data disk stays.",
        "a whole number, 1 or more",
        default=1,
        example="2",
        ge=1,
    )


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
    version: Version = key(
        "The package version to install where the image has no Docker.",
        'a Debian package version as text, in quotes, such as "5:29.8.2-1~debian.13~trixie"',
        default=None,
        example='"26.1.5+dfsg1-9"',
        otherwise="the newest the package source has",
    )


class Cluster(Keys):
    """`cluster`: settings of the swarm itself. The first three are fixed when the swarm is made."""

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
    election_tick: int = key(
        "Raft ticks (of a second) without a leader before an election.",
        "a whole number above heartbeatTick, up to 1000",
        default=None,
        example="10",
        otherwise="the engine's, 10",
        ge=1,
        le=1000,
    )
    heartbeat_tick: int = key(
        "Raft ticks between the leader's heartbeats.",
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
    certificate_expiry: Duration = key(
        "How long a node's certificate is valid; renewed before.",
        f"1h or more: {DURATION}",
        default=None,
        example="90d",
        otherwise="the engine's, 90d",
        ge=3600,
    )
    dispatcher_heartbeat: Duration = key(
        "How often a node reports; about three missed reports and it is down.",
        DURATION,
        default=None,
        example="5s",
        otherwise="the engine's, 5s",
        le=3600,
    )
    labels: Labels = key("Labels of the swarm.", LABELS, default=dict, example="{environment: production}")
    undeclared: Literal["report", "remove"] = key(
        "What to do about nodes in the swarm that nobody declared.",
        "report or remove",
        default="report",
        example="report",
    )


class Deadlines(Keys):
    """`deadlines`: how long each wait may take before it is an error."""

    boot: Duration = key(
        "From the machine's start to SSH and Docker answering.",
        DURATION,
        default=300,
        example="5m",
        otherwise="5m",
        le=86400,
    )
    join: Duration = key(
        "For a node to be in the swarm and ready.", DURATION, default=120, example="2m", otherwise="2m", le=86400
    )
    drain: Duration = key(
        "For a node's tasks to stop and their services to be whole elsewhere.",
        DURATION,
        default=600,
        example="10m",
        otherwise="10m",
        le=86400,
    )
    role: Duration = key(
        "For a promotion or demotion to be done.", DURATION, default=120, example="2m", otherwise="2m", le=86400
    )


class Guards(Keys):
    """`guards`: words that say a risk is meant."""

    even_managers: bool = key(
        "Allow an even number of managers: it tolerates no more failures than one manager fewer.",
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
