"""What an engine says about its own place in a swarm, out of ``GET /info``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LocalSwarm:
    """``state`` is inactive, pending, active, error or locked (moby daemon/cluster/noderunner.go).

    ``control`` says that the engine has a manager's control client, not that there is a quorum: for that, ``error`` must
    be empty too. ``cluster_id`` is known to managers only.
    """

    state: str
    node_id: str
    node_address: str
    control: bool
    cluster_id: str
    error: str
    managers: tuple[str, ...]
    hostname: str
    engine_id: str
    root: str

    @property
    def expired(self) -> bool:
        """Whether the engine says that its certificate is over (swarmkit ca/certificates.go): it never comes back then."""
        return self.state == "error" and "not valid after" in self.error


def local_swarm(info: dict[str, Any]) -> LocalSwarm:
    """Read the part of ``GET /info`` that matters here.

    An engine that has had to start its swarm part again, such as a manager to be that dialled one demoted a moment ago, calls
    itself "error" until dockerd is restarted: State() in noderunner.go looks at a timer that nobody clears. It is not in
    error where it has a node id, which it has not while it waits, and tells no error, which it does until it is ready.
    """
    swarm = info.get("Swarm") or {}
    state = swarm.get("LocalNodeState") or "inactive"
    if state == "error" and swarm.get("NodeID") and not swarm.get("Error"):
        state = "active"
    return LocalSwarm(
        state=state,
        node_id=swarm.get("NodeID") or "",
        node_address=swarm.get("NodeAddr") or "",
        control=bool(swarm.get("ControlAvailable")),
        cluster_id=(swarm.get("Cluster") or {}).get("ID") or "",
        error=swarm.get("Error") or "",
        managers=tuple(host_of(m.get("Addr", "")) for m in swarm.get("RemoteManagers") or ()),
        hostname=info.get("Name") or "",
        engine_id=info.get("ID") or "",
        root=info.get("DockerRootDir") or "/var/lib/docker",
    )


def host_of(address: str) -> str:
    """The host part of ``host:port`` or ``[v6]:port``."""
    return address.rpartition(":")[0].strip("[]") if ":" in address else address


def with_port(address: str, port: int) -> str:
    """``host:port``, brackets around IPv6."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
