"""A replicated service that is written to all the time: what it acknowledged must be there at the end."""

from __future__ import annotations

import itertools
import sys
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.lab.project import ADDRESS, MANAGERS, Project
from tests.lab.stream import Stream

HERE = Path(__file__).parent
REGISTRY = "192.168.2.20:5000"
IMAGE = f"{REGISTRY}/probe:1"
SERVICE = "probe"
PORT = 7007
#: The nodes with a data disk; each holds at most one replica.
DISKS = ("docker-infra-1", "docker-infra-2", "docker-infra-3")
FOLDER = "/var/lib/data/probe"
WRITTEN_EVERY = 0.2
PATIENCE = 90


@dataclass(frozen=True)
class Write:
    """A write that a replica acknowledged."""

    number: int
    node: str
    at: float


class Probe:
    """A service with a replica on each node that has a data disk, and a client that writes to it from ``with`` to its end.

    A replica appends the number it is given to a file on the node's data disk, brings that to the disk and answers.
    The client takes whichever replica answers; a write is acknowledged or it is tried again, elsewhere.
    """

    def __init__(self, swarm: Project, disks: Iterable[str] = DISKS, manager: str = MANAGERS[0]) -> None:
        self._swarm = swarm
        self._manager = ADDRESS[manager]
        self._disks = tuple(disks)
        self._writes: deque[Write] = deque()
        self._client: Stream | None = None
        self._begun = 0.0
        self._ended = 0.0

    def __enter__(self) -> Self:
        self.deploy()
        self._start_client()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def deploy(self) -> None:
        """The image into the lab's registry, folders on the disks, the service onto the swarm, unless they are there."""
        for node in self._disks:
            self._swarm.ssh(ADDRESS[node], f"mkdir -p {FOLDER}")
        first = self._manager
        self._swarm.ssh(first, _IMAGE_SCRIPT)
        if SERVICE not in self._swarm.ssh(first, "docker service ls --format '{{.Name}}'").split():
            server = (HERE / "probe_server.py").read_text().replace("'", "'\\''")
            self._swarm.ssh(first, _service(len(self._disks)) + f" {IMAGE} /usr/bin/python3 -S -u -c '{server}' {PORT}")

    def _start_client(self) -> None:
        addresses = [f"{node}={ADDRESS[node]}" for node in self._disks]
        command = (sys.executable, "-S", "-u", str(HERE / "probe_client.py"), str(PORT), str(WRITTEN_EVERY), *addresses)
        self._client = Stream(lambda: self._swarm.open(*command, str(self._next())), self._take, pause=0.1)
        self.await_all()
        self._begun = time.time()

    def await_all(self) -> None:
        """Return once every replica has acknowledged a write from now on."""
        begun = len(self._writes)
        limit = time.monotonic() + PATIENCE
        while {write.node for write in list(self._writes)[begun:]} != set(self._disks):
            if time.monotonic() > limit:
                self.stop()
                tasks = self._swarm.ssh(self._manager, f"docker service ps --no-trunc {SERVICE}", check=False)
                raise AssertionError(f"not every replica of the probe answers:\n{tasks}")
            time.sleep(0.1)

    def _next(self) -> int:
        return self._writes[-1].number + 1 if self._writes else 1

    def _take(self, line: str) -> None:
        with suppress(ValueError):
            number, node, at = line.split()
            self._writes.append(Write(int(number), node, float(at)))

    def stop(self) -> None:
        """End the client; the service stays."""
        if self._client is not None:
            self._client.stop()
            self._client = None
            self._ended = time.time()

    def remove(self) -> None:
        """Take the service away too, and what it wrote."""
        self.stop()
        self._swarm.ssh(self._manager, f"docker service rm {SERVICE}", check=False)
        for node in self._disks:
            self._swarm.ssh(ADDRESS[node], f"rm -rf {FOLDER}", check=False)

    def acknowledged(self, since: float = 0.0) -> list[Write]:
        """Every acknowledged write from a time on."""
        return [write for write in tuple(self._writes) if write.at >= since]

    def lost(self) -> list[Write]:
        """Acknowledged writes that are not on the disk of the node that acknowledged them. Every node must be there."""
        acknowledged = self.acknowledged()  # before the disks are read: the client goes on
        on_disk = {
            node: {int(line) for line in self._swarm.ssh(ADDRESS[node], f"cat {FOLDER}/writes").split()}
            for node in self._disks
        }
        return [write for write in acknowledged if write.number not in on_disk[write.node]]

    def gaps(self, since: float = 0.0, until: float | None = None) -> float:
        """The longest time, in seconds, in which no replica acknowledged a write."""
        since = max(since, self._begun)
        until = until or self._ended or time.time()
        times = [since, *(w.at for w in tuple(self._writes) if since <= w.at <= until), until]
        return max(later - earlier for earlier, later in itertools.pairwise(times))

    def told(self, since: float = 0.0) -> str:
        """All of it in a line, for messages."""
        by_node = {node: sum(w.node == node for w in self.acknowledged(since)) for node in self._disks}
        return f"{sum(by_node.values())} writes acknowledged {by_node}, longest time without {self.gaps(since):.1f} s"


#: An image with nothing in it but the links to the node's own /usr, which is bound in: nothing to build, 10 KB to fetch.
_IMAGE_SCRIPT = f"""
set -e
! docker manifest inspect --insecure {IMAGE} >/dev/null 2>&1 || exit 0
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
mkdir usr data etc proc sys dev tmp
for name in lib lib64 bin; do ln -s usr/$name $name; done
tar -c . | docker import - {IMAGE} >/dev/null
docker push --quiet {IMAGE} >/dev/null
"""


def _service(replicas: int) -> str:
    options: dict[str, Any] = {
        "name": SERVICE,
        "replicas": replicas,
        "replicas-max-per-node": 1,
        "constraint": "node.labels.storage==ssd",
        "endpoint-mode": "dnsrr",
        "publish": f"mode=host,target={PORT},published={PORT}",
        "restart-delay": "500ms",
        "stop-grace-period": "3s",
    }
    mounts = (
        "type=bind,source=/usr,target=/usr,readonly",
        f"type=volume,source={SERVICE},target=/data,volume-driver=local,volume-opt=type=none,volume-opt=o=bind,"
        f"volume-opt=device={FOLDER}",
    )
    words = [f"--{key}={value}" for key, value in options.items()] + [f"--mount={mount}" for mount in mounts]
    return " ".join(["docker service create --quiet --detach --no-resolve-image", *words])
