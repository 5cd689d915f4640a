"""A lab as Python code uses it; the ``lab`` command is a thin layer over this."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from proxmox_swarm.lab import namespace
from proxmox_swarm.lab.control import Client, ControlError, NotRunningError
from proxmox_swarm.lab.paths import Paths, default_directory
from proxmox_swarm.lab.pve.faults import Kind

Report = Callable[[str], None]
#: What ``lab down --purge`` removes: machines, disks and every stack's state. Credentials and the registry stay.
_PURGED = ("pve", "storage", "images", "state", "run", "log", "home", "known_hosts", "pulumi-home")


def _silent(_: str) -> None:
    pass


class Faults:
    """Faults on request, for tests. Every method acts at once and returns when the fault is in force."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def add(self, kind: Kind, task: str = "*", host: str = "*", count: int = 1, **more: Any) -> None:
        """Put a rule in force: ``lock-timeout``, ``fail`` (``message``), ``slow`` (``seconds``) or ``api-down``.

        Or what a ``host`` meets: ``host-down`` (no power), ``host-lost`` (nor a member of the Proxmox VE cluster any more).

        ``task`` is a task type of Proxmox VE (``qmcreate``, ``qmstart``, ``resize``, …); see ``lab.pve.faults``.
        """
        self._client.ask("fault", kind=kind, task=task, host=host, count=count, timeout=60.0, **more)

    def host_up(self, host: str) -> None:
        """A host has power again and answers; its machines with ``onboot`` start. One that was lost comes back empty."""
        self._client.ask("host-up", host=host, timeout=60.0)

    def crash(self, vmid: int) -> None:
        """A machine loses its power."""
        self._client.ask("crash", vmid=vmid, timeout=30.0)

    def cut(self, vmid: int, nic: int | None = None) -> None:
        """A machine's network cable is pulled: one NIC, or all."""
        self._client.ask("link", vmid=vmid, nic=nic, up=False)

    def mend(self, vmid: int, nic: int | None = None) -> None:
        """The cable is plugged in again."""
        self._client.ask("link", vmid=vmid, nic=nic, up=True)

    def clear(self) -> None:
        """All rules end, hosts come back, all cables are in. Crashed machines stay off."""
        self._client.ask("clear", timeout=60.0)


class Lab:
    """One lab, identified by its directory (default: ``$PROXMOX_SWARM_LAB``, else ``.lab`` in the project)."""

    def __init__(self, directory: Path | None = None) -> None:
        self.paths = Paths((directory or default_directory()).absolute())
        self._client = Client(self.paths.control)
        self.faults = Faults(self._client)

    def up(self, report: Report = _silent) -> None:
        """Start it, if it does not run. Raises ``LabError``, ``ImageError`` or ``PrerequisiteError``."""
        from proxmox_swarm.lab import image, prerequisites
        from proxmox_swarm.lab.credentials import Credentials
        from proxmox_swarm.lab.image_links import link_image
        from proxmox_swarm.lab.network import DNS_SERVERS, HOSTS
        from proxmox_swarm.lab.services import image_url
        from proxmox_swarm.lab.workspace import declares, prepare

        started = time.monotonic()
        if os.geteuid() != 0:
            raise namespace.LabError("the lab makes machines and networks: it needs root (sudo)")
        if prerequisites.missing():
            prerequisites.install(report)
        source = image.ensure(report)
        self.paths.make()
        with namespace.locked(self.paths):
            credentials = Credentials(self.paths, HOSTS)
            credentials.ensure()
            path = link_image(self.paths, source)
            url = image_url(DNS_SERVERS[0], path)
            runs = self.running()
            changed = not declares(self.paths, url, source)
            if runs:
                self._client.ask("ready", timeout=60.0)
                if changed:
                    self._offer(path, source.sha512)
            else:
                namespace.end(self.paths)  # what a daemon that was killed left behind
                namespace.start(self.paths)
            # Last: the settings name no image that the lab does not serve.
            prepare(self.paths, credentials, url, source)
        if runs:
            report(
                "lab       runs already" + ("; new machine image: `up` rebuilds the nodes from it" if changed else "")
            )
            return
        report(f"lab       {'pve01-03, VLAN 4+12, DNS, registry':<50} {time.monotonic() - started:3.0f} s")

    def _offer(self, path: Path, sha512: str) -> None:
        """Make an image known that came about while the daemon runs, which else serves the one it started with."""
        try:
            self._client.ask("image", path=str(path), sha512=sha512)
        except ControlError as error:
            raise namespace.LabError(
                f"the running lab does not take the new machine image: `lab down`, then `lab up` ({error})"
            ) from error

    def down(self, purge: bool = False) -> bool:
        """End it; returns whether it ran. With ``purge`` its machines, disks and stacks' state are deleted too."""
        if not self.paths.root.exists():
            return False
        self.paths.run.mkdir(exist_ok=True, mode=0o700)
        with namespace.locked(self.paths):
            ran = namespace.end(self.paths)
            if purge:
                for name in _PURGED:
                    path = self.paths.root / name
                    if path.is_dir():
                        shutil.rmtree(path)
                    else:
                        path.unlink(missing_ok=True)
        return ran

    def running(self) -> bool:
        """Whether its daemon lives."""
        try:
            self._client.pid()
        except NotRunningError:
            return False
        return True

    def entered(self) -> bool:
        """Whether this process runs in the lab's network. Raises ``NotRunningError``."""
        return namespace.entered(self.paths)

    def status(self) -> dict[str, Any]:
        """Hosts, machines, faults and counters. Raises ``NotRunningError``."""
        answer: dict[str, Any] = self._client.ask("status")
        return answer

    def stats(self) -> dict[str, Any]:
        """Counters of the API; ``schema_violations`` must be 0: answers that do not fit the official schema."""
        answer: dict[str, Any] = self._client.ask("stats")
        return answer

    def command(self, command: Sequence[str]) -> list[str]:
        """The command line that runs ``command`` inside; to be started with ``environment()``."""
        return namespace.inside(self.paths, command)

    def environment(self) -> dict[str, str]:
        """The environment for programs inside."""
        from proxmox_swarm.lab.workspace import environment

        return environment(self.paths)

    def exec(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        check: bool = True,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside and return its output as text; ``options`` go to ``subprocess.run``.

        ``environment`` is added to the lab's. Raises ``subprocess.CalledProcessError`` when ``check`` is set.
        """
        options = {"capture_output": True, "text": True, **options}
        result: subprocess.CompletedProcess[str] = subprocess.run(
            self.command(command), env={**self.environment(), **(environment or {})}, check=check, **options
        )
        return result

    def record(self) -> list[dict[str, Any]]:
        """The lab's own record: requests, task starts and ends, as far as written."""
        if not self.paths.record.exists():
            return []
        return [json.loads(line) for line in self.paths.record.read_text().splitlines()]


__all__ = ["ControlError", "Faults", "Lab", "NotRunningError"]
