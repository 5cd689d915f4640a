"""Runs `Machines` as the lab's daemon does, inside namespaces of its own, and does what it is told line by line.

Reads one JSON object a line, ``{"do": method, ...arguments}``; answers ``{"ok": result}`` or ``{"error": text}``.
"""

import asyncio
import json
import sys
from pathlib import Path

from proxmox_swarm.lab.machines import DiskSpec, Machines, MachineSpec, NicSpec
from proxmox_swarm.lab.network import Network


def spec(given: dict) -> MachineSpec:
    return MachineSpec(
        vmid=given["vmid"],
        name=given["name"],
        volume=Path(given["volume"]),
        image=Path(given["image"]),
        nics=tuple(NicSpec(**nic) for nic in given["nics"]),
        disks=tuple(DiskSpec(Path(disk["path"]), disk["serial"], disk["size"]) for disk in given["disks"]),
        seed=given["seed"],
    )


async def main(run: Path) -> None:
    network = Network()
    await network.start()
    exits: list[int] = []
    machines = Machines(run, network, exits.append)
    actions = {
        "start": lambda spec_: machines.start(spec(spec_)),
        "shutdown": machines.shutdown,
        "kill": machines.kill,
        "agent": machines.agent,
        "set_link": machines.set_link,
        "close": machines.close,
    }
    while line := await asyncio.to_thread(sys.stdin.readline):
        request = json.loads(line)
        name = request.pop("do")
        try:
            if name == "exits":
                result: object = exits
            elif name == "pid":
                result = machines.pid(**request)
            else:
                result = await actions[name](**request)
            answer = {"ok": result}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


asyncio.run(main(Path(sys.argv[1])))
