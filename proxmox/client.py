"""A small Proxmox VE API client: only what the program asks besides what the Pulumi provider does.

Credentials come from the environment (the names bpg's provider uses, so that one set serves both) and from nowhere else.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from proxmoxer import ProxmoxAPI
from proxmoxer.core import AuthenticationError, ResourceException

CONNECT_TIMEOUT = 5.0
TASK_POLL = 0.3
#: What Proxmox VE answers for a host that it cannot reach itself (AnyEvent::HTTP's own codes).
UNREACHED = range(595, 600)


class ProxmoxError(Exception):
    """Talking to Proxmox VE failed. The text says what was tried, where, what came back and what to do."""


@dataclass(frozen=True)
class Guest:
    """A VM or container as ``cluster/resources`` lists it."""

    vm_id: int
    name: str
    host: str
    kind: str
    status: str
    tags: tuple[str, ...]

    def __str__(self) -> str:
        kind = "VM" if self.kind == "qemu" else "container"
        # Proxmox VE forgets the names of guests whose host is off.
        name = f" '{self.name}'" if self.name else ""
        return f"{kind} {self.vm_id}{name} on {self.host}"


class Client:
    """A connection to the first endpoint that answers."""

    def __init__(self, endpoints: Sequence[str], *, insecure: bool = False) -> None:
        tried: list[str] = []
        for endpoint in endpoints:
            try:
                self._api = _login(endpoint, insecure)
                self.version = str(self._api.version.get()["version"])
            except (requests.RequestException, ResourceException, AuthenticationError) as error:
                tried.append(f"{endpoint}: {_reason(error)}")
                continue
            self.endpoint = endpoint
            return
        raise ProxmoxError(
            "no Proxmox VE endpoint answered: "
            + "; ".join(tried)
            + ". Check swarm:proxmox.endpoints, the API token in "
            "PROXMOX_VE_API_TOKEN, and that this machine trusts the certificate (SSL_CERT_FILE, REQUESTS_CA_BUNDLE)."
        )

    def guests(self) -> tuple[Guest, ...]:
        """Every VM and container of the Proxmox VE cluster."""
        return tuple(
            Guest(
                vm_id=int(entry["vmid"]),
                name=str(entry.get("name", "")),
                host=str(entry["node"]),
                kind=str(entry["type"]),
                status=str(entry.get("status", "unknown")),
                tags=tuple(t for t in str(entry.get("tags", "")).split(";") if t),
            )
            for entry in self._call("list the guests", lambda: self._api.cluster.resources.get(type="vm"))
        )

    def hosts(self) -> Mapping[str, str]:
        """The members of the Proxmox VE cluster, each ``online``, ``offline`` or ``unknown`` by the cluster's own word."""
        listed = self._call("list the hosts", self._api.nodes.get)
        return {str(entry["node"]): str(entry.get("status", "unknown")) for entry in listed}

    def unreached(self, host: str) -> str | None:
        """Why requests for a host do not reach it through this endpoint; None when they do."""
        try:
            self._api.nodes(host).version.get()
        except ResourceException as error:
            # The library puts words of its own behind these: a dead host is all it means.
            return f"status {error.status_code}" if error.status_code in UNREACHED else None
        except requests.RequestException as error:
            return _reason(error)
        return None

    def require_sight_of_all(self) -> None:
        """Make sure that guests of others are listed too. Raises ProxmoxError: unseen ones would look like free addresses."""
        granted = self._call("read our rights", lambda: self._api.access.permissions.get(path="/vms"))
        if not granted.get("/vms", {}).get("VM.Audit"):
            raise ProxmoxError(
                f"the credentials for {self.endpoint} lack the right VM.Audit on /vms (propagated), so guests of others "
                "would not be seen and their ids and addresses would look free. Grant it: docs/first-cluster-on-proxmox.md"
            )

    def config(self, guest: Guest) -> Mapping[str, Any]:
        """The configuration of a guest, as Proxmox VE stores it."""
        node = self._api.nodes(guest.host)
        section = node.qemu if guest.kind == "qemu" else node.lxc
        result: Mapping[str, Any] = self._call(f"read {guest}", lambda: section(guest.vm_id).config.get())
        return result

    def status(self, guest: Guest) -> Mapping[str, Any]:
        """The power state of a VM and, while an operation holds it, its ``lock``."""
        result: Mapping[str, Any] = self._call(
            f"read the state of {guest}", lambda: self._api.nodes(guest.host).qemu(guest.vm_id).status.current.get()
        )
        return result

    def set_notes(self, guest: Guest, *, description: str, tags: Sequence[str]) -> None:
        """Write a VM's description and tags, which a running machine does not notice."""
        section = self._api.nodes(guest.host).qemu(guest.vm_id).config
        values = {"description": description, "tags": ";".join(sorted(tags))}
        self._call(f"write the notes of {guest}", lambda: section.put(**values))

    def addresses(self, guest: Guest) -> dict[str, set[str]] | None:
        """The IPv4 addresses of each network interface, by MAC address in upper case, as the guest agent tells them.

        None where no agent answers.
        """
        agent = self._api.nodes(guest.host).qemu(guest.vm_id).agent("network-get-interfaces")
        try:
            answer = self._call(f"ask the guest agent of {guest}", agent.get)
        except ProxmoxError:
            return None
        return {
            str(entry.get("hardware-address", "")).upper(): {
                str(a["ip-address"]) for a in entry.get("ip-addresses") or () if a.get("ip-address-type") == "ipv4"
            }
            for entry in (answer or {}).get("result") or ()
        }

    def power(self, guest: Guest, action: str, *, timeout: float, parameters: Mapping[str, int] | None = None) -> None:
        """``start``, ``stop`` or ``shutdown`` a VM (``parameters`` as the API names them) and wait until the task ended."""
        section = self._api.nodes(guest.host).qemu(guest.vm_id).status(action)
        self._task(guest, action, self._call(f"{action} {guest}", lambda: section.post(**(parameters or {}))), timeout)

    def power_cycle(self, guest: Guest, *, timeout: float) -> None:
        """Shut a VM down, by force after half of ``timeout`` seconds, and start it: a reboot from inside applies nothing."""
        if self.status(guest)["status"] == "running":
            self.power(guest, "shutdown", timeout=timeout, parameters={"forceStop": 1, "timeout": int(timeout / 2)})
        self.power(guest, "start", timeout=timeout)

    def destroy(self, guest: Guest, *, timeout: float) -> None:
        """Stop a VM and remove it with the disks it owns. Disks that belong to another VM are left alone."""
        if self.status(guest)["status"] == "running":
            self.power(guest, "stop", timeout=timeout)
        section = self._api.nodes(guest.host).qemu(guest.vm_id)
        upid = self._call(f"remove {guest}", lambda: section.delete(purge=1, **{"destroy-unreferenced-disks": 1}))
        self._task(guest, "remove", upid, timeout)

    def wait_unlocked(self, guest: Guest, *, timeout: float) -> None:
        """Wait until no task holds the VM's lock, such as the import of its disk."""
        deadline = time.monotonic() + timeout
        while lock := self.config(guest).get("lock"):
            if time.monotonic() > deadline:
                raise ProxmoxError(
                    f"{guest} is still locked ({lock}) after {timeout:.0f} s. Look at its tasks on {guest.host}; "
                    f"`qm unlock {guest.vm_id}` there once none runs."
                )
            time.sleep(TASK_POLL)

    def wait_for_tasks(self, hosts: Collection[str], vm_ids: Collection[int], *, timeout: float) -> None:
        """Wait until no task of ours is at work on these VMs, on these hosts: one goes on when its client is gone.

        Raises ProxmoxError when ``timeout`` seconds have passed.
        """
        deadline = time.monotonic() + timeout
        ids = {str(vm_id) for vm_id in vm_ids}
        for host in sorted(hosts):
            while active := [task for task in self._active_tasks(host) if str(task.get("id")) in ids]:
                if time.monotonic() > deadline:
                    told = ", ".join(f"{task['type']} of VM {task['id']}" for task in active)
                    raise ProxmoxError(
                        f"{told} on {host}, begun by an earlier run, has not ended after {timeout:.0f} s. Look at its "
                        "tasks there; stop those that hang, then run again."
                    )
                time.sleep(TASK_POLL)

    def _active_tasks(self, host: str) -> list[Mapping[str, Any]]:
        listed = self._call(f"list the tasks of {host}", lambda: self._api.nodes(host).tasks.get(source="active"))
        return [task for task in listed if "endtime" not in task]

    def _task(self, guest: Guest, action: str, upid: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        section = self._api.nodes(guest.host).tasks(upid)
        while True:
            try:
                status = self._call(f"follow the task '{action}' of {guest}", section.status.get)
            except ProxmoxError:  # the task goes on, whatever one answer was like
                if time.monotonic() > deadline:
                    raise
                time.sleep(TASK_POLL)
                continue
            if status["status"] != "running":
                break
            if time.monotonic() > deadline:
                raise ProxmoxError(f"{action} of {guest}: task {upid} still runs after {timeout:.0f} s")
            time.sleep(TASK_POLL)
        outcome = str(status.get("exitstatus", ""))
        if outcome != "OK" and not outcome.startswith("WARNINGS"):
            raise ProxmoxError(f"{action} of {guest} failed: {outcome} (task {upid} on {guest.host})")

    def _call(self, what: str, call: Any) -> Any:
        try:
            return call()
        except (requests.RequestException, ResourceException, AuthenticationError) as error:
            raise ProxmoxError(f"could not {what} at {self.endpoint}: {_reason(error)}") from error


def _login(endpoint: str, insecure: bool) -> ProxmoxAPI:
    parts = urlsplit(endpoint)
    common: dict[str, Any] = {
        "port": parts.port or 8006,
        "timeout": CONNECT_TIMEOUT,
        "verify_ssl": False if insecure else os.environ.get("SSL_CERT_FILE", True),
    }
    token = os.environ.get("PROXMOX_VE_API_TOKEN")
    if token:
        user, _, rest = token.partition("!")
        name, _, secret = rest.partition("=")
        return ProxmoxAPI(parts.hostname, user=user, token_name=name, token_value=secret, **common)
    user = os.environ.get("PROXMOX_VE_USERNAME", "")
    password = os.environ.get("PROXMOX_VE_PASSWORD", "")
    if not (user and password):
        raise ProxmoxError(
            "no credentials for Proxmox VE: set PROXMOX_VE_API_TOKEN (user@realm!name=secret), "
            "or PROXMOX_VE_USERNAME and PROXMOX_VE_PASSWORD"
        )
    return ProxmoxAPI(parts.hostname, user=user, password=password, **common)


def _reason(error: Exception) -> str:
    inner = error.args[0] if error.args else None
    cause = getattr(inner, "reason", None) or error  # urllib3 wraps what happened into "max retries exceeded"
    text = re.sub(r"^HTTPS?Connection(Pool)?\([^)]*\): ", "", " ".join(str(cause).split()))
    return text.rstrip(" :") or type(error).__name__
