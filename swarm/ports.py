"""The ports between a node that is about to join and a manager: tried before the join, which would hang without a word.

2377/tcp is the managers' own, 7946/tcp and udp gossip, 4789/udp (or the declared data path port) the overlay traffic.
On the joining node a short-lived program listens on what dockerd will listen on, and answers; the manager knocks.
In the other direction the managers' own dockerd is what is connected to (UDP cannot be asked of it: it does not answer
strangers).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from proxmox_swarm.host.connection import connect
from proxmox_swarm.host.script import start_script
from proxmox_swarm.host.target import Target

MANAGEMENT = 2377
GOSSIP = 7946
CONNECT_TIMEOUT = 20.0
#: A port counts as closed when nothing has come back for so long; a lost packet is sent again every tenth of it.
PATIENCE = 1.5


@dataclass(frozen=True)
class PortSpec:
    """What the joining node needs: a manager is connected to on 2377 as well.

    ``data_path`` is its address for overlay traffic where that is another one.
    """

    manager: bool
    data_path_port: int
    data_path: str = ""

    @property
    def tcp(self) -> tuple[int, ...]:
        """TCP ports that others connect to on the joining node."""
        return (MANAGEMENT, GOSSIP) if self.manager else (GOSSIP,)

    @property
    def udp(self) -> tuple[int, ...]:
        """UDP ports that others send to on the joining node."""
        return (GOSSIP, self.data_path_port)


def closed(joiner: Target, manager: Target, peers: Sequence[str], spec: PortSpec) -> list[str]:
    """Each closed port as ``2377/tcp docker-app-2 → docker-app-1: reason``; empty when all is open.

    ``peers`` are the addresses of managers in the swarm, all of which the joining node must reach. About 0.2 s when all
    is open, about 2 s when something is closed. Raises HostError.
    """
    here = {
        "tcp": [(joiner.address, port) for port in spec.tcp],
        "udp": [
            (spec.data_path or joiner.address if port == spec.data_path_port else joiner.address, port)
            for port in spec.udp
        ],
    }
    listen = {
        **here,
        "connect": [(address, port) for address in peers for port in (MANAGEMENT, GOSSIP)],
        "patience": PATIENCE,
    }
    knock = {**here, "patience": PATIENCE}
    connection = connect(joiner, CONNECT_TIMEOUT)
    # Both start at the same time; the knocking side tries again while the other's interpreter is still starting.
    with start_script(connection, "ports_listen", listen, what="testing ports", timeout=20) as listener:
        with start_script(
            connect(manager, CONNECT_TIMEOUT), "ports_knock", knock, what="testing ports", timeout=20
        ) as k:
            inward = k.result()
        listener.end_input()
        outward = listener.result()
    return _in_words(joiner, manager, spec, inward, outward)


def _in_words(
    joiner: Target, manager: Target, spec: PortSpec, inward: dict[str, Any], outward: dict[str, Any]
) -> list[str]:
    found = []
    for address, port, reason in outward["closed"]:
        name = manager.node if address == manager.address else address
        found.append(f"{port}/tcp {joiner.node} → {name}: {reason}")
    # A port that something on the joining node holds could not be listened on, hence not tried.
    busy = {(protocol, port): reason for protocol, port, reason in outward["busy"]}
    for (protocol, port), reason in busy.items():
        # The kernel's own VXLAN socket stays for a while after a node has left, and dockerd uses it again.
        if (protocol, port) != ("udp", spec.data_path_port):
            found.append(f"{port}/{protocol} on {joiner.node} itself: {reason}")
    for protocol, port, reason in inward["closed"]:
        if (protocol, port) not in busy:
            at = f" at {spec.data_path}" if spec.data_path and (protocol, port) == ("udp", spec.data_path_port) else ""
            found.append(f"{port}/{protocol} {manager.node} → {joiner.node}{at}: {reason}")
    return found
