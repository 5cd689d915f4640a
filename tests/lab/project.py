"""A project folder of a test's own: its stack file is edited as a person edits it, and `make up` does the rest."""

from __future__ import annotations

import json
import subprocess
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proxmox_swarm.lab import Lab
from tests.lab.support import ROOT, SEVEN, Site, stack_file, until

STACK_FILE = "Pulumi.lab.yaml"
MANAGERS = SEVEN[:3]
ADDRESS = dict(zip(SEVEN, [f"192.168.4.{last}" for last in (30, 31, 32, 40, 41, 42, 50)], strict=True))
VM_ID = dict(zip(SEVEN, (4100, 4101, 4102, 4200, 4201, 4202, 4300), strict=True))
OF_THE_SWARM = ("Cluster", "ClusterSettings", "Autolock", "TokenRotation", "CaRotation", "Member", "Undeclared")


class Project(Site):
    """The project's own files, by links, beside a stack file that the test writes; and ways to look at its swarm."""

    def __init__(self, lab: Path, project: Path) -> None:
        Site(lab).make("venv")  # the links would not do for making it
        super().__init__(lab, project)
        self._lab = Lab(lab)
        self._inside: dict[str, str] | None = None
        self.faults = self._lab.faults
        project.mkdir()
        for entry in ROOT.iterdir():
            if entry.name not in (STACK_FILE, ".lab", ".git"):
                (project / entry.name).symlink_to(entry)
        self.declare()

    def exec(self, *argv: str, check: bool = True, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """A command inside the lab's network, without the ``lab`` command in front: this is asked for hundreds of times."""
        return self.run(*self._lab.command(argv), check=check, timeout=timeout, environment=self._environment())

    def _environment(self) -> dict[str, str]:
        if self._inside is None:
            told = super().exec("env", "-0").stdout
            self._inside = dict(entry.split("=", 1) for entry in told.split("\0") if entry)
        return self._inside

    def open(self, *argv: str, terminal: int | None = None) -> subprocess.Popen[str]:
        """A command inside the lab's network that goes on meanwhile; what it writes is read as it comes.

        ``terminal`` is the descriptor of one for all that it reads and writes.
        """
        return subprocess.Popen(
            self._lab.command(argv),
            cwd=self.project,
            env=self._environment(),
            stdin=subprocess.DEVNULL if terminal is None else terminal,
            stdout=subprocess.PIPE if terminal is None else terminal,
            stderr=subprocess.DEVNULL if terminal is None else terminal,
            text=True,
        )

    def state(self, stack: str = "lab") -> dict[str, Any]:
        """The stack's state as it is in its file."""
        file = self.folder / "state" / ".pulumi" / "stacks" / "swarm" / f"{stack}.json"
        found: dict[str, Any] = json.loads(file.read_text())["checkpoint"]["latest"]
        return found

    def declare(self, **change: Any) -> None:
        """Write the stack file: the lab's, with these top-level keys changed (deep-merged; None takes a key out)."""
        stack_file(change, self.project / STACK_FILE)

    def up(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Plain ``pulumi up``."""
        return self.pulumi("up", "--yes", "--skip-preview", "--stack", "lab", *words, check=check)

    def refresh(self) -> str:
        """Plain ``pulumi refresh``, which must not fail; what it said."""
        return self.pulumi("refresh", "--yes", "--skip-preview", "--stack", "lab").stdout

    def refused(self, *words: str) -> str:
        """What a ``pulumi up`` that must fail gives as its reason: the first line of its error."""
        done = self.up(*words, check=False)
        assert done.returncode != 0, done.stdout
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
        errors = [line for line in lines if line.startswith("error:") and line != "error: update failed"]
        assert errors, done.stdout + done.stderr
        return errors[0]

    def members(self) -> dict[str, dict[str, Any]]:
        """What state holds of each member, by name."""
        resources = self.state()["resources"]
        return {r["outputs"]["node"]: r["outputs"] for r in resources if r["type"].endswith("swarm:Member")}

    def verdicts(self) -> dict[str, str]:
        """The members whose recorded verdict is not ok."""
        return {name: found["verdict"] for name, found in self.members().items() if found["verdict"] != "ok"}

    def forget_swarm(self) -> None:
        """Take the swarm and its members out of state, as ``pulumi state delete`` does one by one."""
        self._forget(lambda kind, _: kind in OF_THE_SWARM)

    def forget(self, kind: str, names: Iterable[str]) -> None:
        """Take resources of one type out of state."""
        listed = set(names)
        self._forget(lambda found, name: found == kind and name in listed)

    def forget_node(self, name: str) -> None:
        """Take all that belongs to one node out of state; its machine runs on."""
        self._forget(lambda _, found: found in (name, f"{name}-data"))

    def _forget(self, wanted: Callable[[str, str], bool]) -> None:
        def change(deployment: dict[str, Any]) -> None:
            gone = {
                r["urn"]
                for r in deployment["resources"]
                if wanted(r["type"].rpartition(":")[2], r["urn"].rpartition("::")[2])
            }
            kept = [r for r in deployment["resources"] if r["urn"] not in gone]
            for resource in kept:
                resource["dependencies"] = [urn for urn in resource.get("dependencies", []) if urn not in gone]
                for key, urns in (resource.get("propertyDependencies") or {}).items():
                    resource["propertyDependencies"][key] = [urn for urn in urns or [] if urn not in gone]
            deployment["resources"] = kept

        self._edit_state(change)

    def _edit_state(self, change: Callable[[dict[str, Any]], None]) -> None:
        exported = json.loads(self.pulumi("stack", "export", "--stack", "lab").stdout)
        change(exported["deployment"])
        file = self.folder / "edited.json"
        file.write_text(json.dumps(exported))
        self.pulumi("stack", "import", "--stack", "lab", "--file", str(file))
        file.unlink()

    def engine(self, address: str) -> dict[str, Any]:
        """What an engine says about its own place in a swarm."""
        found: dict[str, Any] = json.loads(self.ssh(address, "docker info --format '{{json .Swarm}}'"))
        return found

    def sharing(self) -> dict[str, list[str]]:
        """Machines that hold a certificate of the same node, by the node's id: docs/runbooks/two-engines-one-node.md."""
        script = (
            "openssl x509 -noout -subject -in /var/lib/docker/swarm/certificates/swarm-node.crt 2>/dev/null || true"
        )
        held: dict[str, list[str]] = {}

        def read(address: str) -> None:
            node_id = self.ssh(address, script, check=False).rpartition("CN")[2].strip(" =\n")
            held.setdefault(node_id, []).append(address)

        self.everywhere(read)
        return {node_id: sorted(those) for node_id, those in held.items() if node_id and len(those) > 1}

    def mend(self) -> bool:
        """Do what the runbook says where engines have made one node of two. Around a change of leader that may happen."""
        held = self.sharing()
        if held:
            warnings.warn(f"docs/runbooks/two-engines-one-node.md was followed: {held}", stacklevel=2)
            self.make("up")
        return bool(held)

    def machines(self) -> dict[str, str]:
        """The machines that Proxmox VE has, by name: running or stopped."""
        return {machine["name"]: machine["status"] for machine in self._lab.status()["machines"]}

    def power_on(self, vm_id: int) -> None:
        """Start a machine by hand, as on Proxmox VE's own console."""
        machine = next(m for m in self._lab.status()["machines"] if m["vmid"] == vm_id)
        self._api("POST", f"nodes/{machine['host']}/qemu/{vm_id}/status/start")

    def destroy_machine(self, vm_id: int) -> None:
        """Remove a machine for good, behind the program's back."""
        machine = next(m for m in self._lab.status()["machines"] if m["vmid"] == vm_id)
        at = f"nodes/{machine['host']}/qemu/{vm_id}"
        if machine["status"] == "running":
            self._api("POST", f"{at}/status/stop")
            until(lambda: self.machines()[machine["name"]] == "stopped", 30, "stopped")
        self._api("DELETE", at)
        until(lambda: machine["name"] not in self.machines(), 30, "gone")

    def resources(self) -> list[dict[str, Any]]:
        """The machines as Proxmox VE lists them, with the sizes that are in force."""
        found: list[dict[str, Any]] = json.loads(self._api("GET", "cluster/resources?type=vm"))["data"]
        return found

    def _api(self, method: str, path: str) -> str:
        return self.exec(
            "sh",
            "-c",
            f'curl -fsS --cacert "$SSL_CERT_FILE" -H "Authorization: PVEAPIToken=$PROXMOX_VE_API_TOKEN" -X {method} '
            f"'https://192.168.2.11:8006/api2/json/{path}'",
        ).stdout

    def restart_engines(self, *names: str) -> None:
        """dockerd alone, by hand, on these nodes; the leader's as docs/runbooks/two-engines-one-node.md says.

        systemd refuses a fourth start within a minute; a test is no loop that has to be stopped.
        """
        leader = next((row[0] for row in self.summary(self._manager_beside(names)) if row[3] == "Leader"), "")
        script = "systemctl reset-failed docker; systemctl restart docker"
        self.everywhere(lambda address: self.ssh(address, script), [ADDRESS[name] for name in names if name != leader])
        if leader in names:
            self.ssh(ADDRESS[leader], "systemctl stop docker.socket docker")
            other = next(name for name in MANAGERS if name != leader)
            until(lambda: self._leads(other, leader), 60, f"another leader than {leader}")
            self.ssh(ADDRESS[leader], "systemctl reset-failed docker; systemctl start docker.socket docker")

    def _manager_beside(self, names: Iterable[str]) -> str:
        return ADDRESS[next((name for name in MANAGERS if name not in names), MANAGERS[0])]

    def _leads(self, asked: str, former: str) -> bool:
        listed = self.ssh(ADDRESS[asked], "docker node ls --format '{{.Hostname}} {{.ManagerStatus}}'", check=False)
        return any(line.endswith(" Leader") and not line.startswith(former) for line in listed.splitlines())

    def add_image(self, addresses: Iterable[str] = ADDRESS.values()) -> None:
        """Image ``sleeper`` on these nodes, out of the node's own files: there is no registry to pull from."""
        script = (
            "tar -C / -ch usr/bin/sleep lib64/ld-linux-x86-64.so.2 lib/x86_64-linux-gnu/libc.so.6"
            ' | docker import --change \'CMD ["/usr/bin/sleep", "infinity"]\' - sleeper'
        )
        self.everywhere(lambda address: self.ssh(address, script), addresses)

    @contextmanager
    def rules(self, rules: dict[str, list[str]]) -> Iterator[None]:
        """Packet filter rules inside machines, by address."""
        for address, lines in rules.items():
            self.ssh(address, " && ".join(f"iptables -I {line}" for line in lines))
        try:
            yield
        finally:
            for address, lines in rules.items():
                self.ssh(address, " && ".join(f"iptables -D {line}" for line in lines))

    def everywhere(self, action: Callable[[str], object], addresses: Iterable[str] = ADDRESS.values()) -> None:
        """Do something to each of the seven nodes, or of others, given its address, at the same time."""
        with ThreadPoolExecutor(len(SEVEN)) as threads:
            list(threads.map(action, addresses))

    def tasks(self, service: str, address: str) -> dict[str, str]:
        """The running tasks of a service: node by task id."""
        form = "{{.ID}} {{.Node}} {{.CurrentState}}"
        listed = self.ssh(address, f"docker service ps --no-trunc --format '{form}' {service}").splitlines()
        rows = [line.split() for line in listed]
        return {row[0]: row[1] for row in rows if row[2] == "Running"}

    def placed(self, service: str, address: str) -> set[str]:
        """The nodes that have ever had a task of a service, whatever became of it: the swarm remembers five a node."""
        return set(self.ssh(address, f"docker service ps --format '{{{{.Node}}}}' {service}").split())
