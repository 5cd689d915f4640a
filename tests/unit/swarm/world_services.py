"""The services of the world: tasks on its nodes, updates that start them anew; and node certificates."""

from __future__ import annotations

import copy
import datetime
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from tests.unit.swarm.world import Node, Swarm

#: How long an update takes.
UPDATE_DELAY = 7.0
SEQUENCE = "rpc error: code = Unknown desc = update out of sequence"


class ServicesOfWorld:
    """What a test does about services. ``update_ends`` is the state that updates come to."""

    update_ends = "completed"

    def add_service(self: Any, swarm: Swarm, name: str, on: Mapping[str, int], **spec: Any) -> dict[str, Any]:
        """A replicated service whose tasks run, so many on each machine; further keys go into its task template."""
        service = {
            "ID": self.new_id("service"),
            "Version": {"Index": 20},
            "Spec": {
                "Name": name,
                "Mode": {"Replicated": {"Replicas": sum(on.values())}},
                "TaskTemplate": {"ContainerSpec": {"Image": "web"}, "ForceUpdate": 0, **spec},
            },
        }
        swarm.services[service["ID"]] = service
        slots = (machine for machine, count in on.items() for _ in range(count))
        for slot, machine in enumerate(slots, 1):
            node = self.node_of(self[machine])
            assert node is not None
            self.add_task(service, node, slot)
        return service

    def add_task(self: Any, service: dict[str, Any], node: Node | None, slot: int, **change: Any) -> dict[str, Any]:
        """A running task, but for what is changed; on no node it goes among the unplaced."""
        task = {
            "ID": self.new_id("task"),
            "ServiceID": service["ID"],
            "NodeID": node.id if node else "",
            "Slot": slot,
            "DesiredState": "running",
            "CreatedAt": f"{self.now:012.2f}",
            "Spec": copy.deepcopy(service["Spec"]["TaskTemplate"]),
            "Status": {"State": "running", "Timestamp": f"{self.now:012.2f}"},
            **change,
        }
        swarm = next(s for s in self.swarms.values() if service["ID"] in s.services)
        (node.tasks if node else swarm.unplaced).append(task)
        return task


class ServicesOfEngine:
    """The requests about services."""

    def services(self: Any) -> list[dict[str, Any]]:
        _, swarm = self._manage("services")
        return copy.deepcopy(list(swarm.services.values()))

    def service(self: Any, service_id: str) -> dict[str, Any]:
        _, swarm = self._manage("service", service_id)
        if service_id not in swarm.services:
            raise self._error(404, f"service {service_id} not found")
        return copy.deepcopy(swarm.services[service_id])

    def service_update(self: Any, service_id: str, version: int, spec: dict[str, Any]) -> None:
        _, swarm = self._manage("service_update", (service_id, copy.deepcopy(spec)))
        with self.world.lock:
            service = swarm.services[service_id]
            if self.world.sequence_errors:
                self.world.sequence_errors -= 1
                service["Version"]["Index"] += 1
            if version != service["Version"]["Index"]:
                raise self._error(500, SEQUENCE)
            service["Version"]["Index"] += 1
            forced = spec["TaskTemplate"]["ForceUpdate"] != service["Spec"]["TaskTemplate"]["ForceUpdate"]
            service["Spec"] = copy.deepcopy(spec)
            if forced:
                service["UpdateStatus"] = {"State": "updating"}
                self.world.events.append((self.world.now + UPDATE_DELAY, lambda: self._spread(swarm, service)))

    def _spread(self: Any, swarm: Swarm, service: dict[str, Any]) -> None:
        """Every task is started anew, each on the node with the fewest of them."""
        able = [n for n in swarm.nodes.values() if self.world.alive(swarm, n) and n.spec["Availability"] == "active"]
        slots = sorted(t["Slot"] for n in swarm.nodes.values() for t in n.tasks if t["ServiceID"] == service["ID"])
        for node in swarm.nodes.values():
            for task in node.tasks:
                if task["ServiceID"] == service["ID"]:
                    task.update(DesiredState="shutdown", Status={"State": "shutdown"})
        mine: dict[str, int] = {node.id: 0 for node in able}
        for slot in slots:
            node = min(able, key=lambda n: mine[n.id])
            mine[node.id] += 1
            self.world.add_task(service, node, slot)
        service["UpdateStatus"] = {"State": self.world.update_ends, "Message": "update paused due to failure"}


@functools.cache
def node_certificate(cluster_id: str, issued: float, expires: float) -> str:
    """A node certificate as swarmkit makes them, as far as anybody reads it: swarm and dates."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster_id)])
    moments = [datetime.datetime.fromtimestamp(moment, datetime.UTC) for moment in (issued, expires)]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(moments[0])
        .not_valid_after(moments[1])
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()
