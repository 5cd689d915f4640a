"""Settings of the machines, as written: Proxmox VE, networks, pools and nodes."""

from __future__ import annotations

from typing import Literal

from proxmox_swarm.settings.schema_types import (
    DATASTORE,
    LABELS,
    Address4,
    Datastore,
    Disk,
    Endpoint,
    Gib,
    HostKey,
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
    Url,
    key,
)


class Image(Keys):
    """`proxmox.image`: the cloud image that every node's boot disk starts from."""

    url: Url = key(
        "Where every Proxmox VE host downloads the image. Use a dated URL: what is behind `latest` changes.",
        "an http or https URL whose path ends in .qcow2, .raw or .vmdk, or in .img with a `format`",
        example="https://cloud.debian.org/images/cloud/trixie/20260914-2601/debian-13-genericcloud-amd64-20260914-2601.qcow2",
    )
    sha512: Sha512 = key(
        "The image's digest, checked by Proxmox VE after the download.",
        "128 hexadecimal digits, as in the SHA512SUMS file beside the image",
        example="95e110df…",
    )
    format: Literal["qcow2", "raw"] = key(
        "What the file holds, where the end of its name does not tell: Ubuntu's `.img` files are qcow2.",
        "qcow2 or raw",
        default=None,
        example="qcow2",
        otherwise="by the end of the URL's path: `.qcow2`, `.raw` or `.vmdk`",
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
        "Size in GiB of a data disk that outlives the machine; 0 for none. It may come or grow later: at once, or by a power "
        "cycle.",
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
    host_key: HostKey = key(
        "The SSH host key of a machine that exists already: it is adopted as it is, see adoption.md. A higher `generation` "
        "rebuilds it with the same host key.",
        "an ssh-ed25519 public key, as the machine has it in /etc/ssh/ssh_host_ed25519_key.pub",
        default=None,
        example="ssh-ed25519 AAAAC3…",
        otherwise="the machine is made from the image",
    )
    discard: list[Disk] = key(
        "Disks of an adopted machine that may be destroyed when a higher `generation` rebuilds it: its boot disk is, and no "
        "other without being named here.",
        "a list of disks as Proxmox VE calls them, such as scsi1",
        default=list,
        example="[scsi1]",
        otherwise="`[]`, the rebuild is refused while the machine owns such disks",
    )
