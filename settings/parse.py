"""From the stack's raw settings to checked pieces, each key and each node by itself: one mistake hides no other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from proxmox_swarm.settings import schema
from proxmox_swarm.settings.errors import Path, Problem, did_you_mean, listed, show
from proxmox_swarm.settings.schema_types import HostName, Keys, Name
from proxmox_swarm.settings.translate import alias, translate, unknown_key

SECTIONS: Mapping[str, str] = {
    "proxmox": "object",
    "networks": "object",
    "pools": "object",
    "nodes": "object",
    "access": "object",
    "os": "object",
    "docker": "object",
    "cluster": "object",
    "deadlines": "object",
    "rolling": "object",
    "guards": "object",
    "include": "array",
    "secrets": "object",
}
"""The top-level keys, with the type that Pulumi's config schema gives each."""

_REQUIRED = ("proxmox", "networks", "nodes", "access")

Model = TypeVar("Model", bound=Keys)


@dataclass(frozen=True)
class NodeDraft:
    """A node with its pool's settings under its own. ``known`` is false where its pool is unusable: its role is open."""

    name: str
    spec: schema.Node
    paths: Mapping[str, Path]
    known: bool

    def path(self, name: str) -> Path:
        """Where the value of a field was written: at the node, at its pool, or nowhere (then the node's own key)."""
        return self.paths.get(name, ("nodes", self.name, alias(schema.Node, name)))


@dataclass
class Draft:
    """What could be read, and what was wrong with the rest."""

    problems: list[Problem] = field(default_factory=list)
    proxmox: schema.Proxmox | None = None
    networks: dict[str, schema.Network] = field(default_factory=dict)
    network_names: frozenset[str] = frozenset()
    nodes: dict[str, NodeDraft] = field(default_factory=dict)
    all_nodes: bool = False
    access: schema.Access | None = None
    os: schema.Os | None = None
    docker: schema.Docker | None = None
    cluster: schema.Cluster | None = None
    deadlines: schema.Deadlines | None = None
    rolling: schema.Rolling | None = None
    guards: schema.Guards | None = None


def parse(config: Mapping[str, object]) -> Draft:
    """Read every top-level key. Nothing is raised: what is wrong is in ``problems``, and the piece is missing."""
    draft = Draft()
    problems = draft.problems
    for name, value in config.items():
        if name not in SECTIONS:
            problems.append(unknown_key((str(name),), tuple(SECTIONS)))
        elif name == "secrets" and value not in ({}, None):
            problems.append(Problem(("secrets",), None, "secrets are not supported by this version", "nothing, or {}"))
    for name in _REQUIRED:
        if name not in config:
            problems.append(Problem((name,), None, "missing", _accepted_section(name)))

    draft.proxmox = _section(schema.Proxmox, config, "proxmox", problems)
    draft.access = _section(schema.Access, config, "access", problems)
    draft.os = _section(schema.Os, config, "os", problems)
    draft.docker = _section(schema.Docker, config, "docker", problems)
    draft.cluster = _section(schema.Cluster, config, "cluster", problems)
    draft.deadlines = _section(schema.Deadlines, config, "deadlines", problems)
    draft.rolling = _section(schema.Rolling, config, "rolling", problems)
    draft.guards = _section(schema.Guards, config, "guards", problems)

    raw_networks = _mapping(config, "networks", problems)
    draft.network_names = frozenset(raw_networks)
    for name, value in raw_networks.items():
        network = _entry(schema.Network, Name, ("networks", name), value, problems)
        if network is not None:
            draft.networks[name] = network

    pools: dict[str, schema.Pool | None] = {"default": schema.Pool.model_construct(_fields_set=set())}
    for name, value in _mapping(config, "pools", problems).items():
        pools[name] = _entry(schema.Pool, Name, ("pools", name), value, problems)

    raw_nodes = _mapping(config, "nodes", problems)
    for name, value in raw_nodes.items():
        node = _entry(schema.Node, HostName, ("nodes", name), value, problems)
        if node is not None:
            draft.nodes[name] = _with_pool(name, node, pools, problems)
    draft.all_nodes = bool(raw_nodes) and all(n in draft.nodes and draft.nodes[n].known for n in raw_nodes)
    return draft


def _with_pool(
    name: str, node: schema.Node, pools: Mapping[str, schema.Pool | None], problems: list[Problem]
) -> NodeDraft:
    if node.pool not in pools:
        problems.append(
            Problem(
                ("nodes", name, "pool"),
                show(node.pool),
                "no such pool",
                f"a key of pools: {listed(pools)}",
                did_you_mean(node.pool, pools),
            )
        )
    values: dict[str, Any] = {}
    paths: dict[str, Path] = {}
    layers: list[tuple[Path, schema.Pool | None]] = [(("pools", "default"), pools["default"])]
    if node.pool != "default":
        layers.append((("pools", node.pool), pools.get(node.pool)))
    layers.append((("nodes", name), node))
    for path, layer in layers:
        for key in layer.model_fields_set if layer is not None else ():
            value = getattr(layer, key)
            values[key] = {**values.get(key, {}), **value} if key == "labels" else value
            paths[key] = (*path, alias(schema.Node, key))
    spec = schema.Node.model_construct(_fields_set=set(values), **values)
    return NodeDraft(name, spec, paths, known=all(layer is not None for _, layer in layers))


def _section(model: type[Model], config: Mapping[str, object], name: str, problems: list[Problem]) -> Model | None:
    """One top-level key; an optional one that is not written counts as empty, a missing required one is reported already."""
    if name not in config and name in _REQUIRED:
        return None
    return _validate(model, (name,), config.get(name, {}), problems)


def _mapping(config: Mapping[str, object], name: str, problems: list[Problem]) -> dict[str, object]:
    value = config.get(name, {})
    if not isinstance(value, Mapping):
        problems.append(Problem((name,), show(value), "not a mapping", _accepted_section(name)))
        return {}
    if not value and name in config and name in _REQUIRED:
        problems.append(Problem((name,), show(value), "empty", _accepted_section(name)))
    wrong = [key for key in value if not isinstance(key, str)]
    for key in wrong:
        problems.append(Problem((name, str(key)), None, f"the key {show(key)} is not text", "names in quotes", ""))
    return {key: item for key, item in value.items() if isinstance(key, str)}


def _entry(model: type[Model], key_type: Any, path: Path, value: object, problems: list[Problem]) -> Model | None:
    name = str(path[-1])
    try:
        TypeAdapter(key_type).validate_python(name, strict=True)
    except ValidationError as error:
        why = str(error.errors()[0].get("ctx", {}).get("why", "not a usable name"))
        problems.append(Problem(path, show(name), why, _accepted_name(path)))
        return None
    return _validate(model, path, value, problems)


def _validate(model: type[Model], path: Path, value: object, problems: list[Problem]) -> Model | None:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems.extend(translate(model, path, error))
        return None


def _accepted_section(name: str) -> str:
    texts = {
        "proxmox": "a mapping with endpoints, hosts and image",
        "networks": "a mapping of names to networks, at least one, such as {main: {vlan: 4, subnet: 192.168.4.0/24}}",
        "pools": "a mapping of names to what their nodes have in common",
        "nodes": "a mapping of host names to nodes, at least one, such as {app-1: {host: pve01, id: 4100, ip: 30}}",
        "access": "a mapping with keys, such as {keys: ['ssh-ed25519 AAAA… me']}",
    }
    return texts[name]


def _accepted_name(path: Path) -> str:
    if path[0] == "nodes":
        return "a host name: lower-case letters, digits and hyphens, 1 to 63 characters, a letter or digit at both ends"
    return "a name: letters, digits, hyphens and underscores, up to 63 characters, a letter or digit first"
