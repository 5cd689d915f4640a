"""Pydantic's errors as problems: the key, the value, what is accepted there, and a hint where there is one."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import cast, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from proxmox_swarm.settings.errors import Path, Problem, did_you_mean, listed, show
from proxmox_swarm.settings.schema_types import Keys

# Keys that have a meaning in this program's settings but that this version does not act upon.
_NOT_YET: Mapping[Path, str] = {
    ("overlays",): "overlay networks are",
    ("stacks",): "stacks are",
    ("nodes", "*", "mayBeOff"): "a node that may be switched off is",
    ("pools", "*", "mayBeOff"): "a node that may be switched off is",
    ("nodes", "*", "address"): "a node that is no machine of Proxmox VE is",
    ("access", "ldap"): "accounts from LDAP are",
}
_WORDS = {
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
_CREDENTIALS = ("token", "password", "username", "secret", "credential", "apikey")


def translate(model: type[Keys], path: Path, error: ValidationError) -> Iterator[Problem]:
    """The problems in one model's validation error; ``path`` is where the model stands in the settings."""
    for detail in error.errors(include_url=False):
        place, keys, info = _locate(model, detail["loc"])
        where = (*path, *place)
        kind = detail["type"]
        value = detail.get("input")
        extra = cast(dict[str, str], info.json_schema_extra) if info is not None else {}
        accepted = extra.get("accepted", "") or f"a mapping with the keys {listed(aliases(keys))}"
        if kind == "extra_forbidden":
            yield unknown_key(where, aliases(keys))
        elif kind == "missing":
            yield Problem(
                where, None, "missing", accepted, f"Example: {extra['example']}" if "example" in extra else ""
            )
        elif kind == "model_type":
            yield Problem(where, show(value), "not a mapping", f"a mapping with the keys {listed(aliases(keys))}")
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
    if kind in _WORDS:
        return _WORDS[kind]
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
    """Pydantic's place of an error as a path, with the innermost model and field that it lies in."""
    path: Path = tuple(segment for segment in location if segment != "[key]")
    keys: type[Keys] = model
    info: FieldInfo | None = None
    rest = path
    while rest:
        found = next((f for f in keys.model_fields.values() if f.alias == rest[0]), None)
        nested = nested_model(found) if found is not None else None
        info = found if found is not None else info
        if found is None or nested is None:
            break
        keys = nested
        # In a mapping of models a name stands between the field and the model's own fields.
        rest = rest[1:] if _is_model(found.annotation) else rest[2:]
    return path, keys, info


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


def alias(model: type[Keys], name: str) -> str:
    """A field's key as people write it."""
    return model.model_fields[name].alias or name


def aliases(model: type[Keys]) -> tuple[str, ...]:
    """All keys of a model as people write them."""
    return tuple(alias(model, name) for name in model.model_fields)


def unknown_key(path: Path, known: tuple[str, ...]) -> Problem:
    """An unknown key. Its value is never shown: it may be a password that was put in the wrong place."""
    name = str(path[-1])
    pattern = (path[0], "*", *path[2:]) if path[0] in ("nodes", "pools") else path
    if pattern in _NOT_YET:
        return Problem(path, None, f"{_NOT_YET[pattern]} not supported by this version", "settings without this key")
    if any(word in name.lower().replace("_", "").replace("-", "") for word in _CREDENTIALS):
        hint = "Credentials of Proxmox VE are read from the environment: PROXMOX_VE_API_TOKEN, PROXMOX_VE_SSH_USERNAME"
    else:
        hint = did_you_mean(name, known)
    return Problem(path, None, "no such key", listed(known), hint)
