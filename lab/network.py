"""The lab's network: one Linux bridge a VLAN inside the current network namespace.

A bridge of its own for every VLAN stands in for a VLAN-aware bridge with tagged ports: the kernel needs no 8021q, and
what a machine sees is the same. The host end of machine 4100's card 0 is called ``tap4100i0``, as on Proxmox VE.
"""

import asyncio
from pathlib import Path

from proxmox_swarm.lab.machines.command import run
from proxmox_swarm.lab.machines.spec import NicSpec

MAIN_VLAN = 4
MANAGEMENT_VLAN = 2
STORAGE_VLAN = 12

# A card without a VLAN tag is on the bridge's own network, where the Proxmox hosts are.
UNTAGGED = MANAGEMENT_VLAN

PREFIX = 24
GATEWAY = "192.168.4.1"
DNS_SERVERS = ("192.168.2.4", "192.168.4.5", "192.168.4.6")
HOSTS = {"pve01": "192.168.2.11", "pve02": "192.168.2.12", "pve03": "192.168.2.13"}
NFS_SERVER = "192.168.2.3"
REGISTRY = "192.168.2.20"

# The addresses the lab's own services have, by VLAN; the first is the gateway.
ADDRESSES: dict[int, tuple[str, ...]] = {
    MANAGEMENT_VLAN: ("192.168.2.1", NFS_SERVER, DNS_SERVERS[0], *HOSTS.values(), REGISTRY),
    MAIN_VLAN: (GATEWAY, *DNS_SERVERS[1:]),
    STORAGE_VLAN: (),
}


class Network:
    """Bridges and the machines' cards on them. All of it ends with the network namespace."""

    def __init__(self) -> None:
        self._bridges: set[int] = set()
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Loopback up, routing on, the three networks of `ADDRESSES`."""
        await run("ip", "link", "set", "lo", "up")
        _set_kernel()
        for vlan in ADDRESSES:
            await self.bridge(vlan)

    async def bridge(self, vlan: int | None) -> str:
        """The name of the VLAN's bridge, made when missing."""
        vlan = UNTAGGED if vlan is None else vlan
        name = f"vlan{vlan}"
        async with self._lock:
            if vlan not in self._bridges:
                lines = [f"link add {name} type bridge forward_delay 0 stp_state 0 mcast_snooping 0"]
                lines += [f"address add {address}/{PREFIX} dev {name}" for address in ADDRESSES.get(vlan, ())]
                lines += [f"link set {name} up"]
                await _ip(lines)
                self._bridges.add(vlan)
        return name

    async def attach(self, vmid: int, index: int, nic: NicSpec, namespace: Path) -> None:
        """Puts card ``index`` of a machine on its bridge: ``eth{index}`` in the namespace at ``namespace``."""
        bridge = await self.bridge(nic.vlan)
        port = self.port(vmid, index)
        await _ip(
            [
                f"link add {port} type veth peer name eth{index} address {nic.mac} netns {namespace}",
                f"link set {port} master {bridge} up",
            ]
        )

    async def detach(self, vmid: int, index: int) -> None:
        """Removes a card, both ends; harmless when it is gone."""
        await run(
            "sh",
            "-c",
            'ip link delete "$1" 2>/dev/null || ! ip link show "$1" 2>/dev/null',
            "sh",
            self.port(vmid, index),
        )

    async def set_link(self, vmid: int, index: int, up: bool) -> None:
        """Plugs the cable of a card in or out; the machine sees its carrier come or go."""
        await _ip([f"link set {self.port(vmid, index)} {'up' if up else 'down'}"])

    @staticmethod
    def port(vmid: int, index: int) -> str:
        """The name of a card's end on the bridge, for captures and counters."""
        return f"tap{vmid}i{index}"


async def _ip(lines: list[str]) -> None:
    await run("ip", "-batch", "-", stdin="\n".join(lines) + "\n")


def _set_kernel() -> None:
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    # One kernel plays all servers on all VLANs: an address answers on its own VLAN only, as with separate machines.
    Path("/proc/sys/net/ipv4/conf/all/arp_ignore").write_text("1")
    # Docker on the same kernel may have loaded br_netfilter: frames between machines must not meet iptables here.
    for name in ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables"):
        setting = Path("/proc/sys/net/bridge") / name
        if setting.exists():
            setting.write_text("0")
