"""Who of raft's members is there: the leader's word, held against what the managers' own engines say.

The leader calls a manager reachable until a message to it has failed, some seconds after the machine died, and swarmkit lets
the next one go meanwhile. A ghost passes for reachable for good, because the new machine answers at its address (moby#34722).
"""

from __future__ import annotations

from collections.abc import Sequence

from proxmox_swarm.host.deadline import Deadline
from proxmox_swarm.host.target import Target
from proxmox_swarm.swarm import nodes
from proxmox_swarm.swarm.access import Access, place_of
from proxmox_swarm.swarm.engine import EngineApi, Json
from proxmox_swarm.swarm.local import LocalSwarm
from proxmox_swarm.swarm.parallel import answers_within

#: A message of raft fails after 2 s and one is sent every second (swarmkit); a busy machine is late. Whom the leader still
#: reaches after so long is there, whatever keeps us from asking it.
NOTICED = 15.0
ANSWER = 5.0


def everyone(
    access: Access, engine: EngineApi, known: Sequence[Target], deadline: Deadline, besides: str = ""
) -> list[Json]:
    """All node objects, those of managers that are not there called unreachable.

    Every manager of ``known`` that the leader says it reaches is asked, but for node ``besides``. For one that does not say
    it is well, the leader gets the time to notice. Raises EngineError, NoManager.
    """
    noticed = Deadline.after(min(NOTICED, deadline.left), access.clock)
    targets = {target.address: target for target in known}
    while True:
        found = nodes.everyone(engine, deadline)
        asked = [n for n in found if nodes.reachable(n) and n["ID"] != besides and nodes.address_of(n) in targets]
        places = answers_within(lambda node: place_of(access, targets[nodes.address_of(node)]), asked, ANSWER)
        told = list(zip(asked, places, strict=True))
        if noticed.over or not any(_in_doubt(node, place) for node, place in told):
            ghosts = [node["ID"] for node, place in told if _another(node, place)]
            return [_unreachable(node) if node["ID"] in ghosts else node for node in found]
        access.clock.sleep(0.5)


def _another(node: Json, place: LocalSwarm | None) -> bool:
    """Whether the engine at this manager's address is surely not this manager."""
    return place is not None and (place.state == "inactive" or (bool(place.node_id) and place.node_id != node["ID"]))


def _in_doubt(node: Json, place: LocalSwarm | None) -> bool:
    if place is None:
        return True
    return not _another(node, place) and (not place.control or bool(place.error))


def _unreachable(node: Json) -> Json:
    return {**node, "ManagerStatus": {**node["ManagerStatus"], "Reachability": "unreachable"}}
