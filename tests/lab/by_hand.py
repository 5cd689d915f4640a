"""A cluster as people built them before: machines by plain API calls, the swarm by commands over SSH.

``python -m tests.lab.by_hand <JSON>`` runs inside the lab and makes the machines; the rest is typed by the tests.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from proxmoxer import ProxmoxAPI

NOTES = "made by hand in 2023\nask Thorsten before touching it"
IMAGE = "debian-by-hand.raw"


@dataclass(frozen=True)
class Machine:
    """One machine as somebody clicked it together."""

    name: str
    host: str
    vm_id: int
    address: str
    cores: int = 2
    memory: int = 1024
    datastore: str = "local-lvm"
    more: dict[str, Any] = field(default_factory=dict)


def create(project: Any, machines: list[Machine]) -> None:
    """Make and start machines from inside the lab, by the API alone; log in to each once, as people do."""
    words = json.dumps([asdict(machine) for machine in machines])
    project.exec("python", "-m", "tests.lab.by_hand", words)
    with ThreadPoolExecutor(len(machines)) as threads:
        list(threads.map(lambda machine: _first_login(project, machine.address), machines))


def _first_login(project: Any, address: str) -> None:
    limit = time.monotonic() + 120
    trusting = ("ssh", "-o", "StrictHostKeyChecking=accept-new", f"debian@{address}")
    # The account that Ansible uses, as a first playbook makes it.
    script = (
        "sudo useradd -m -s /bin/bash ansible && sudo cp -r .ssh /home/ansible/ && sudo chown -R ansible: /home/ansible"
        " && echo 'ansible ALL=(ALL) NOPASSWD:ALL' | sudo tee /etc/sudoers.d/ansible >/dev/null"
    )
    while project.exec(*trusting, script, check=False).returncode != 0:
        assert time.monotonic() < limit, f"{address} does not let us in"
        time.sleep(0.5)


def main() -> None:
    """Make the machines that the first argument describes, side by side."""
    machines = [Machine(**entry) for entry in json.loads(sys.argv[1])]
    written = yaml.safe_load((Path(os.environ["PROXMOX_SWARM_LAB"]) / "settings.yaml").read_text())
    user, _, rest = os.environ["PROXMOX_VE_API_TOKEN"].partition("!")
    name, _, secret = rest.partition("=")
    api = ProxmoxAPI(
        "192.168.2.11", user=user, token_name=name, token_value=secret, verify_ssl=os.environ["SSL_CERT_FILE"]
    )
    image = written["proxmox"]["image"]
    for host in {machine.host for machine in machines}:
        node = api.nodes(host)
        _wait(
            node,
            node.storage("local")("download-url").post(
                content="import",
                filename=IMAGE,
                url=image["url"],
                checksum=image["sha512"],
                **{"checksum-algorithm": "sha512"},
            ),
        )
    with ThreadPoolExecutor(len(machines)) as threads:
        list(threads.map(lambda machine: _make(api, machine, written["access"]["keys"][0]), machines))


def _make(api: Any, machine: Machine, key: str) -> None:
    node = api.nodes(machine.host)
    last = machine.address.rpartition(".")[2]
    values: dict[str, Any] = {
        "vmid": machine.vm_id,
        "name": machine.name,
        "description": NOTES,
        "tags": "prod;terraform",
        "cores": machine.cores,
        "memory": machine.memory,
        "cpu": "host",
        "onboot": 1,
        "agent": "1",
        "scsihw": "virtio-scsi-single",
        "ostype": "l26",
        "boot": "order=scsi0",
        "scsi0": f"{machine.datastore}:0,import-from=local:import/{IMAGE}",
        "ide2": f"{machine.datastore}:cloudinit",
        "net0": "virtio,bridge=vmbr0,tag=4,firewall=1",
        "net1": "virtio,bridge=vmbr0,tag=12",
        "ipconfig0": f"ip=192.168.4.{last}/24,gw=192.168.4.1",
        "ipconfig1": f"ip=192.168.12.{last}/24",
        "ciuser": "debian",
        "ciupgrade": 0,
        "sshkeys": urllib.parse.quote(key, safe=""),
        **machine.more,
    }
    _wait(node, node.qemu.post(**values))
    _wait(node, node.qemu(machine.vm_id).status.start.post())


def _wait(node: Any, upid: str) -> None:
    while (status := node.tasks(upid).status.get())["status"] == "running":
        time.sleep(0.2)
    assert status["exitstatus"] == "OK", (upid, status)


if __name__ == "__main__":
    main()
