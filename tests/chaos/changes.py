"""What a person changes in a declaration, or by hand in the swarm: drawn from a random source, and nothing else.

Each kind is a function from that source and a declaration to a :class:`Change`, or None where it does not apply.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from tests.chaos.declaration import Declaration, Node
from tests.chaos.moments import Step

#: Never more of them off duty: services need a place.
MAX_OFF_DUTY = 2
SPARE = Node("default", "pve02", 4400, 60, "worker", cpu=2, memory=1, labels={"spare": "yes"})
SPARES = {"spare-1": SPARE, "spare-2": replace(SPARE, host="pve03", id=4401, ip=61)}
#: Data disks go with a removed node, and the probe's data is on those.
REMOVABLE = (*SPARES, "swarmpit-mgmt")


@dataclass(frozen=True)
class Change:
    """``what`` in words, the declaration after it, the nodes it works on, and steps of the ``up`` that are its own.

    ``by_hand`` are shell scripts, each with the node whose root runs it, before ``up``. ``rejoins`` are the nodes that are
    another member of the swarm afterwards.
    """

    what: str
    declared: Declaration
    nodes: tuple[str, ...]
    steps: tuple[Step, ...]
    by_hand: tuple[tuple[str, str], ...] = ()
    rejoins: tuple[str, ...] = ()


Kind = Callable[[Random, Declaration], Change | None]


def _updates(*nodes: str, kind: str = "swarm:Member") -> tuple[Step, ...]:
    return tuple(Step(kind, name, "updating") for name in nodes)


def label(rng: Random, now: Declaration) -> Change:
    """Labels of one or two nodes: set, changed, or taken away."""
    after, words = now, []
    names = rng.sample(sorted(now.nodes), rng.choice((1, 2)))
    for name in names:
        labels = dict(now.nodes[name].labels)
        if "tier" in labels and rng.random() < 0.4:
            del labels["tier"]
        else:
            labels["tier"] = rng.choice([tier for tier in ("a", "b", "c", "d") if tier != labels.get("tier")])
        after = after.node(name, labels=labels)
        words.append(f"{name} tier={labels.get('tier', '(none)')}")
    return Change(f"label {', '.join(words)}", after, tuple(names), _updates(*names))


def availability(rng: Random, now: Declaration) -> Change:
    """A node drained, paused, or given back to work."""
    off = sorted(name for name, node in now.nodes.items() if node.availability != "active")
    names = off if len(off) >= MAX_OFF_DUTY else sorted(now.nodes)
    name = rng.choice(names)
    value = "active" if name in off else rng.choice(("drain", "pause"))
    return Change(f"{value} {name}", now.node(name, availability=value), (name,), _updates(name))


def roles(rng: Random, now: Declaration) -> Change | None:
    """Two more managers, two fewer, or one up and one down."""
    ups, downs = sorted(set(now.workers) - set(SPARES)), sorted(now.managers)
    kinds: list[tuple[int, int]] = [(1, 1), (2, 0) if len(downs) < 5 else (0, 2)]
    many_up, many_down = rng.choice(kinds)
    choices = []
    for up, down in itertools.product(itertools.combinations(ups, many_up), itertools.combinations(downs, many_down)):
        after = now
        for name in up:
            after = after.node(name, role="manager")
        for name in down:
            after = after.node(name, role="worker")
        if after.spread():
            choices.append((up, down, after))
    if not choices:
        return None
    up, down, after = rng.choice(choices)
    words = [*(f"promote {name}" for name in up), *(f"demote {name}" for name in down)]
    return Change(", ".join(words), after, up + down, _updates(*up, *down))


def rebuild(rng: Random, now: Declaration) -> Change:
    """One or two machines rebuilt: their generation is raised."""
    names = rng.sample(sorted(now.nodes), rng.choice((1, 1, 2)))
    after = now
    for name in names:
        after = after.node(name, generation=now.nodes[name].generation + 1)
    steps = tuple(
        Step(kind, name, doing)
        for name in names
        for kind, doing in (
            ("swarm:Member", "deleting"),
            ("vmLegacy:VmLegacy", "deleting"),
            ("vmLegacy:VmLegacy", "creating"),
            ("swarm:HostState", "creating"),
            ("swarm:Member", "creating"),
        )
    )
    return Change(f"rebuild {', '.join(names)}", after, tuple(names), steps, rejoins=tuple(names))


def hardware(rng: Random, now: Declaration) -> Change:
    """CPU or memory of a node: a power cycle."""
    name = rng.choice(sorted(now.nodes))
    node = now.nodes[name]
    change: dict[str, Any] = rng.choice(({"cpu": 6 - node.cpu}, {"memory": 1.25 if node.memory == 1 else 1}))
    words = ", ".join(f"{key} {value}" for key, value in change.items())
    steps = (*_updates(name), Step("vmLegacy:VmLegacy", name, "updating"))
    return Change(f"{words} for {name}", now.node(name, **change), (name,), steps)


def daemon(rng: Random, now: Declaration) -> Change:
    """A key of daemon.json, one that dockerd takes over as it runs, or one that it restarts for."""
    key, values = rng.choice((("default-shm-size", ("96M", "128M")), ("max-concurrent-downloads", (4, 5))))
    value = values[0] if now.daemon.get(key) != values[0] else values[1]
    after = replace(now, daemon={**now.daemon, key: value})
    names = sorted(now.nodes)
    steps = tuple(Step("swarm:HostState", name, "updating") for name in names)
    return Change(f"daemon.json {key}={value}", after, tuple(names), steps)


def members(rng: Random, now: Declaration) -> Change | None:
    """A worker more, or one fewer."""
    absent = sorted(name for name in SPARES if name not in now.nodes)
    present = sorted(name for name in REMOVABLE if name in now.workers)
    if absent and (not present or rng.random() < 0.5):
        name = rng.choice(absent)
        after = replace(now, nodes={**now.nodes, name: SPARES[name]})
        creating = ("swarm:Claim", "vmLegacy:VmLegacy", "swarm:HostState", "swarm:Member")
        steps = tuple(Step(kind, name, "creating") for kind in creating)
        return Change(f"add {name}", after, (name,), steps, rejoins=(name,))
    if not present:
        return None
    name = rng.choice(present)
    steps = tuple(Step(kind, name, "deleting") for kind in ("swarm:Member", "vmLegacy:VmLegacy"))
    return Change(f"remove {name}", now.without(name), (name,), steps)


def cluster(rng: Random, now: Declaration) -> Change:
    """A setting of the swarm as a whole."""
    key, values = rng.choice(
        (
            ("taskHistory", (3, 4)),
            ("snapshotInterval", (5000, 6000)),
            ("certificateExpiry", ("60d", "70d")),
            ("labels", ({"site": "one"}, {"site": "two"})),
        )
    )
    value = values[0] if now.cluster.get(key) != values[0] else values[1]
    after = replace(now, cluster={**now.cluster, key: value})
    return Change(f"cluster {key}={value}", after, (), (Step("swarm:ClusterSettings", "managers", "updating"),))


def by_hand(rng: Random, now: Declaration) -> Change:
    """Something done by hand that the next ``up`` has to put back."""
    name = rng.choice(sorted(now.nodes))
    manager = rng.choice(sorted(now.managers))
    worker = rng.choice(sorted(set(now.workers) - set(SPARES)))
    leave = "docker swarm leave --force" if now.nodes[name].role == "manager" else "docker swarm leave"
    available = "pause" if now.nodes[name].availability == "active" else "active"
    edits: tuple[tuple[str, tuple[tuple[str, str], ...], tuple[str, ...], tuple[Step, ...], tuple[str, ...]], ...] = (
        ("labels edited", ((manager, f"docker node update --label-add tier=hand {name}"),), (name,), _updates(name), ()),
        (f"set to {available}", ((manager, f"docker node update --availability {available} {name}"),), (name,),
         _updates(name), ()),
        ("promoted", ((manager, f"docker node promote {worker}"),), (worker,), _updates(worker), ()),
        ("made to leave", ((name, leave),), (name,), _updates(name), (name,)),
        ("removed from the list", ((manager, f"docker node rm --force {worker}"),), (worker,), _updates(worker),
         (worker,)),
        ("daemon.json edited", ((name, "echo '{}' > /etc/docker/daemon.json"),), (name,),
         _updates(name, kind="swarm:HostState"), ()),
    )  # fmt: skip
    what, scripts, names, steps, rejoins = rng.choice(edits)
    return Change(f"by hand: {names[0]} {what}", now, names, steps, scripts, rejoins)


KINDS: tuple[Kind, ...] = (
    label, availability, roles, rebuild, hardware, daemon, members, cluster, by_hand,
)  # fmt: skip
#: How often each is drawn: what moves machines and managers around is where things break.
WEIGHTS = (2, 2, 4, 4, 2, 2, 3, 1, 3)


def draw(rng: Random, now: Declaration) -> Change:
    """One change of any kind; sometimes two at once."""
    first = _one(rng, now)
    if rng.random() < 0.25:
        second = _one(rng, first.declared)
        # Edits by hand come before `up`, when nothing of another change is there yet.
        if not set(first.nodes) & set(second.nodes) and not second.by_hand:
            return Change(
                f"{first.what} + {second.what}",
                second.declared,
                first.nodes + second.nodes,
                first.steps + second.steps,
                first.by_hand,
                first.rejoins + second.rejoins,
            )
    return first


def _one(rng: Random, now: Declaration) -> Change:
    while True:
        change = rng.choices(KINDS, WEIGHTS)[0](rng, now)
        if change is not None:
            return change


def as_json(change: Change) -> str:
    """All of a change as text, to tell two of them apart."""
    return json.dumps([change.what, change.declared.settings(), change.by_hand], sort_keys=True)
