"""The floor that `make up` is measured against: the same image, the same machines, all started at once, joined by floor.sh.

Runs as the first process of namespaces of its own, which take everything away again when it ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import asyncssh
import yaml

from proxmox_swarm.lab import image
from proxmox_swarm.lab.machines import Machines, MachineSpec, NicSpec
from proxmox_swarm.lab.network import Network
from proxmox_swarm.settings import load, read_stack_file
from proxmox_swarm.settings.model import Node

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


async def run(work: Path, stack: str) -> dict[str, float]:
    """Start and join every node of a stack's settings. Seconds until all run, and until all are ready and active."""
    settings = load(read_stack_file(ROOT / f"Pulumi.{stack}.yaml", "swarm"), project="swarm", stack=stack, base=ROOT)
    built = image.ensure(lambda _: None)
    key = asyncssh.generate_private_key("ssh-ed25519")
    (work / "key").write_bytes(key.export_private_key())
    (work / "key").chmod(0o600)
    config = work / "ssh_config"
    config.write_text(
        f"Host *\n User root\n IdentityFile {work / 'key'}\n UserKnownHostsFile {work / 'known_hosts'}\n"
        " StrictHostKeyChecking no\n LogLevel ERROR\n ConnectTimeout 2\n"
        f" ControlMaster auto\n ControlPath {work}/%h\n ControlPersist 30\n"
    )
    started = time.monotonic()
    network = Network()
    await network.start()
    machines = Machines(work / "run", network)
    public = key.export_public_key().decode().strip()
    await asyncio.gather(
        *(machines.start(_machine(node, work, built.path, public)) for node in settings.nodes.values())
    )
    running = time.monotonic() - started
    script = await asyncio.create_subprocess_exec(
        str(HERE / "floor.sh"),
        str(config),
        " ".join(node.address for node in settings.managers),
        " ".join(node.address for node in settings.workers),
    )
    if await script.wait() != 0:
        raise SystemExit("the floor's script failed")
    total = time.monotonic() - started
    await machines.close()
    return {"started": running, "total": total}


def _machine(node: Node, work: Path, base: Path, public: str) -> MachineSpec:
    user_data = {
        "hostname": node.name,
        "manage_etc_hosts": "localhost",
        "disable_root": False,
        "ssh_authorized_keys": [public],
    }
    network = {
        "version": 1,
        "config": [
            {
                "type": "physical",
                "name": f"eth{index}",
                "mac_address": nic.mac.lower(),
                "subnets": [
                    {"type": "static", "address": f"{nic.address}/{nic.prefix}"}
                    | ({"gateway": nic.gateway} if nic.gateway else {})
                ],
            }
            for index, nic in enumerate(node.nics)
        ],
    }
    volume = work / node.name
    volume.mkdir()
    return MachineSpec(
        vmid=node.vm_id,
        name=node.name,
        volume=volume,
        image=base,
        nics=tuple(NicSpec(bridge=nic.bridge, vlan=nic.vlan, mac=nic.mac) for nic in node.nics),
        disks=(),
        seed={
            "meta-data": f"instance-id: {node.name}\n",
            "user-data": "#cloud-config\n" + yaml.safe_dump(user_data),
            "network-config": yaml.safe_dump(network),
        },
    )


def measure(work: Path, stack: str, lab: Path) -> dict[str, float]:
    """One run in fresh namespaces, with the settings that the lab in ``lab`` includes."""
    command = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc"]
    done = subprocess.run(
        [*command, sys.executable, "-m", "tests.bench.floor", str(work), stack],
        cwd=ROOT,
        env={**os.environ, "PROXMOX_SWARM_LAB": str(lab)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(Path(sys.argv[1]), sys.argv[2]))))
