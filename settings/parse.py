"""From the stack's raw settings to checked pieces, each key and each node by itself: one mistake hides no other."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from proxmox_swarm.settings import schema
from proxmox_swarm.settings.errors import Path, Problem, did_you_mean, listed, show
from proxmox_swarm.settings.schema_types import HostName, Keys, Name

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
    "guards": "object",
    "include": "array",
    "secrets": "object",
}
"""The top-level keys, with the type that Pulumi's config schema gives each."""

_REQUIRED = ("proxmox", "networks", "nodes", "access")

# Keys that have a meaning in this program's settings but that this version does not act upon.
_NOT_YET: Mapping[Path, str] = {
    ("overlays",): "overlay networks",
    ("stacks",): "stacks",
    ("cluster", "rotate"): "token rotation",
    ("cluster", "autolock"): "locking of managers",
    ("nodes", "*", "mayBeOff"): "nodes that may be switched off",
    ("nodes", "*", "address"): "nodes that are not machines of Proxmox VE",
    ("nodes", "*", "hostKey"): "nodes that are not machines of Proxmox VE",
    ("pools", "*", "mayBeOff"): "nodes that may be switched off",
    ("access", "ldap"): "accounts from LDAP",
}
_CREDENTIALS = ("token", "password", "username", "secret", "credential", "apikey")
_KEY_HINTS = {"name": "HostName", "image": "Image"}

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
        return self.paths.get(name, ("nodes", self.name, _alias(schema.Node, name)))


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
    guards: schema.Guards | None = None


def parse(config: Mapping[str, object]) -> Draft:
    """Read every top-level key. Nothing is raised: what is wrong is in ``problems``, and the piece is missing."""
    draft = Draft()
    problems = draft.problems
    for name, value in config.items():
        if name not in SECTIONS:
            problems.append(_unknown((str(name),), tuple(SECTIONS)))
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
            paths[key] = (*path, _alias(schema.Node, key))
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
        problems.extend(_translate(model, path, error))
        return None


def _translate(model: type[Keys], path: Path, error: ValidationError) -> Iterator[Problem]:
    for detail in error.errors(include_url=False):
        place, keys, info = _locate(model, detail["loc"])
        where = (*path, *place)
        kind = detail["type"]
        value = detail.get("input")
        extra = cast(dict[str, str], info.json_schema_extra) if info is not None else {}
        accepted = extra.get("accepted", "") or f"a mapping with the keys {listed(_aliases(keys))}"
        if kind == "extra_forbidden":
            yield _unknown(where, _aliases(keys))
        elif kind == "missing":
            yield Problem(
                where, None, "missing", accepted, f"Example: {extra['example']}" if "example" in extra else ""
            )
        elif kind == "model_type":
            yield Problem(where, show(value), "not a mapping", f"a mapping with the keys {listed(_aliases(keys))}")
        else:
            shown = _shown_key(value) if where[:2] == ("access", "keys") else show(value)
            yield Problem(where, shown, _why(detail), accepted, _hint(kind, value))


def _why(detail: ErrorDetails) -> str:
    kind = detail["type"]
    context = detail.get("ctx", {})
    if kind == "refused":
        return str(context["why"])
    if detail.get("input") is None:
        return "nothing is written behind the key"
    words = {
        "string_type": "not text",
        "int_type": "not a whole number",
        "int_from_float": "not a whole number",
        "float_type": "not a number",
        "finite_number": "not a number",
        "bool_type": "not true or false",
        "list_type": "not a list",
        "dict_type": "not a mapping",
        "literal_error": "none of the words that are accepted",
        "too_short": "too few",
        "too_long": "too many",
    }
    if kind in words:
        return words[kind]
    for name, text in (("ge", "below"), ("le", "above"), ("gt", "not above"), ("lt", "not below")):
        if name in context:
            return f"{text} {context[name]}"
    return "not accepted"


def _hint(kind: str, value: object) -> str:
    if kind == "string_type":
        if isinstance(value, bool):
            return f'YAML reads this word as true or false: write "{str(value).lower()}" in quotes'
        if isinstance(value, float):
            return f'YAML reads this as a number, to which 29.10 and 29.1 are the same: write it in quotes, such as "{value}"'
        if isinstance(value, int):
            return f'YAML reads this as a number, with a leading 0 as octal (010 is 8): write it in quotes, such as "{value}"'
        if type(value).__name__ in ("date", "datetime"):
            return f'YAML reads this as a date: write "{value}" in quotes'
    if kind in ("int_type", "float_type") and isinstance(value, str):
        return "Write the number without quotes" if value.replace(".", "", 1).isdecimal() else ""
    if kind == "bool_type" and isinstance(value, str) and value.lower() in ("true", "false", "yes", "no", "on", "off"):
        return "Write true or false, without quotes"
    return ""


def _shown_key(value: object) -> str:
    """Of what was given as a public key only its first word, where that is a type: the rest may be anything."""
    if not isinstance(value, str):
        return show(value) if not isinstance(value, (list, dict)) else "(not shown)"
    words = value.split(maxsplit=1)
    known = bool(words) and words[0].startswith(("ssh-", "ecdsa-", "sk-")) and len(words[0]) < 40
    return f'"{words[0]} …" ({len(value)} characters)' if known else f"({len(value)} characters, not shown)"


def _locate(model: type[Keys], location: tuple[int | str, ...]) -> tuple[Path, type[Keys], FieldInfo | None]:
    """Pydantic's place of an error as a path, with the model and the field that it lies in."""
    place: list[int | str] = []
    keys: type[Keys] = model
    info: FieldInfo | None = None
    inside = True
    for segment in location:
        if segment == "[key]":
            continue
        place.append(segment)
        if inside and isinstance(segment, str):
            found = next((f for f in keys.model_fields.values() if f.alias == segment), None)
            if found is None:
                break
            info = found
            nested = _nested(found.annotation)
            if nested is not None and location[-1] != segment:
                keys = nested
                # A mapping of models has one more segment, the key, before the model's own fields.
                inside = _is_model(found.annotation)
                continue
            inside = False
        elif not inside and nested_model(info) is not None:
            inside = True
    return tuple(place), keys, info


def nested_model(info: FieldInfo | None) -> type[Keys] | None:
    """The model of settings that a field holds, directly or as the values of a mapping."""
    return _nested(info.annotation) if info is not None else None


def _nested(annotation: object) -> type[Keys] | None:
    if _is_model(annotation):
        return cast(type[Keys], annotation)
    for argument in get_args(annotation):
        found = _nested(argument)
        if found is not None:
            return found
    return None


def _is_model(annotation: object) -> bool:
    return (
        isinstance(annotation, type)
        and not isinstance(annotation, types.GenericAlias)
        and issubclass(annotation, BaseModel)
    )


def _alias(model: type[Keys], name: str) -> str:
    return model.model_fields[name].alias or name


def _aliases(model: type[Keys]) -> tuple[str, ...]:
    return tuple(_alias(model, name) for name in model.model_fields)


def _unknown(path: Path, known: tuple[str, ...]) -> Problem:
    """An unknown key. Its value is never shown: it may be a password that was put in the wrong place."""
    name = str(path[-1])
    pattern = (path[0], "*", *path[2:]) if path[0] in ("nodes", "pools") else path
    if pattern in _NOT_YET:
        return Problem(
            path,
            None,
            f"{_NOT_YET[pattern]} are not supported by this version".replace("rotation are", "rotation is"),
            "settings without this key",
        )
    if any(word in name.lower().replace("_", "").replace("-", "") for word in _CREDENTIALS):
        hint = "Credentials of Proxmox VE are read from the environment: PROXMOX_VE_API_TOKEN, PROXMOX_VE_SSH_USERNAME"
    else:
        hint = did_you_mean(name, known)
    return Problem(path, None, "no such key", listed(known), hint)


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
