"""The domain's way to the nodes. Tests put a world of their own in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography import x509
from cryptography.x509.oid import NameOID

from proxmox_swarm.host.connection import connect
from proxmox_swarm.host.deadline import SYSTEM_CLOCK, Clock
from proxmox_swarm.host.errors import Failure
from proxmox_swarm.host.facts import HostFacts, read_facts
from proxmox_swarm.host.script import run_script
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm import engine, ports
from proxmox_swarm.swarm.engine import EngineApi
from proxmox_swarm.swarm.local import LocalSwarm, local_swarm

CONNECT_TIMEOUT = 20.0
#: For a stop or a start of dockerd: containers get ten seconds to end, and dockerd takes its time with many of them.
DOCKERD_TIMEOUT = 120.0


class Access(Protocol):
    """Engines, the little that is read from their hosts, and the time."""

    @property
    def clock(self) -> Clock:
        """The clock of all deadlines."""

    def engine(self, target: Target) -> EngineApi:
        """The engine of a host. Does not connect yet."""

    def cluster_on_disk(self, target: Target, root: str) -> str:
        """The id of the swarm that the host's node certificate is for; "" without one. Raises HostError."""

    def role_on_disk(self, target: Target, root: str) -> str:
        """The role that the host's node certificate is for, manager or worker; "" without one. Raises HostError."""

    def host_facts(self, target: Target, mounts: Sequence[str]) -> HostFacts:
        """Room on the host's disks and its node certificate, whether dockerd runs or not. Raises HostError."""

    def closed_ports(self, joiner: Target, manager: Target, peers: Sequence[str], spec: ports.PortSpec) -> list[str]:
        """Each port that does not get through, in words. Raises HostError."""

    def stop_engine(self, target: Target) -> None:
        """Stop dockerd; a timer on the host starts it again should nobody do so. Raises HostError."""

    def start_engine(self, target: Target) -> None:
        """Start dockerd, if it does not run. Raises HostError."""


@dataclass(frozen=True)
class SshAccess:
    """The real thing."""

    clock: Clock = SYSTEM_CLOCK

    def engine(self, target: Target) -> EngineApi:
        """The engine of a host. Does not connect yet."""
        return engine.engine(target)

    def cluster_on_disk(self, target: Target, root: str) -> str:
        """The organisation in the node certificate's subject is the cluster's id (swarmkit ca/certificates.go)."""
        return _subject(target, root, NameOID.ORGANIZATION_NAME)

    def role_on_disk(self, target: Target, root: str) -> str:
        """The organisational unit in it is the role."""
        return _subject(target, root, NameOID.ORGANIZATIONAL_UNIT_NAME).removeprefix("swarm-")

    def host_facts(self, target: Target, mounts: Sequence[str]) -> HostFacts:
        """See :func:`proxmox_swarm.host.facts.read_facts`."""
        with connect(target, CONNECT_TIMEOUT) as connection:
            return read_facts(connection, mounts, timeout=CONNECT_TIMEOUT)

    def closed_ports(self, joiner: Target, manager: Target, peers: Sequence[str], spec: ports.PortSpec) -> list[str]:
        """See :func:`proxmox_swarm.swarm.ports.closed`."""
        return ports.closed(joiner, manager, peers, spec)

    def stop_engine(self, target: Target) -> None:
        """See :mod:`proxmox_swarm.host.remote.swarm_files`."""
        _power(target, "stop")

    def start_engine(self, target: Target) -> None:
        """See :mod:`proxmox_swarm.host.remote.swarm_files`."""
        _power(target, "start")


def _power(target: Target, verb: str) -> None:
    with connect(target, CONNECT_TIMEOUT) as connection:
        args = {verb: True, "timeout": DOCKERD_TIMEOUT}
        run_script(connection, "swarm_files", args, what=f"to {verb} dockerd", timeout=2 * DOCKERD_TIMEOUT)


def _subject(target: Target, root: str, part: x509.ObjectIdentifier) -> str:
    with connect(target, CONNECT_TIMEOUT) as connection:
        data = connection.read_file(f"{root}/swarm/certificates/swarm-node.crt")
    if not data:
        return ""
    names = x509.load_pem_x509_certificate(data).subject.get_attributes_for_oid(part)
    return str(names[0].value) if names else ""


SSH: Access = SshAccess()


def place_of(access: Access, target: Target) -> LocalSwarm | None:
    """What a host's engine says of its own place in a swarm; None when it does not answer."""
    try:
        return local_swarm(access.engine(target).info())
    except Failure:
        return None
