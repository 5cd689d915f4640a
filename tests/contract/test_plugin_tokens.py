"""The plugin that will be run accepts every token and every argument that the Python SDK can send.

The plugin built from Go modules prints what it accepts; the official one is asked for its schema.
"""

from __future__ import annotations

import collections.abc
import json
import subprocess
import types
import typing
from pathlib import Path
from typing import Any

import pulumi_proxmoxve as proxmoxve
import pytest
from pulumi import _types as sdk_types

from proxmox_swarm import toolchain
from proxmox_swarm.toolchain.proxmoxve_plugin import ProxmoxvePlugin

IN_USE = {
    "proxmoxve:index/vmLegacy:VmLegacy": (proxmoxve.VmLegacy, proxmoxve.VmLegacyArgs),
    "proxmoxve:index/fileLegacy:FileLegacy": (proxmoxve.FileLegacy, proxmoxve.FileLegacyArgs),
    "proxmoxve:index/poolLegacy:PoolLegacy": (proxmoxve.PoolLegacy, proxmoxve.PoolLegacyArgs),
    "proxmoxve:index/haresource:Haresource": (proxmoxve.Haresource, proxmoxve.HaresourceArgs),
    "proxmoxve:index/harule:Harule": (proxmoxve.Harule, proxmoxve.HaruleArgs),
    "proxmoxve:download/file:File": (proxmoxve.download.File, proxmoxve.download.FileArgs),
    "proxmoxve:pool/membership:Membership": (proxmoxve.pool.Membership, proxmoxve.pool.MembershipArgs),
    "pulumi:providers:proxmoxve": (proxmoxve.Provider, proxmoxve.ProviderArgs),
}

Shape = dict[str, Any]
"""``{"type": …}`` with ``item`` for an array or map and ``properties`` for an object."""

SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}


def sdk_shape(annotation: Any) -> Shape:
    """The shape of a value the SDK sends for an argument of this type."""
    if annotation in SCALARS:
        return {"type": SCALARS[annotation]}
    if sdk_types.is_input_type(annotation):
        fields = sdk_types.input_type_types(annotation)
        return {"type": "object", "properties": {name: sdk_shape(field) for name, field in fields.items()}}
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):  # pulumi.Input[T] is T or something that will give one
        return sdk_shape(arguments[0])
    if origin is collections.abc.Sequence:
        return {"type": "array", "item": sdk_shape(arguments[0])}
    if origin is collections.abc.Mapping:
        return {"type": "map", "item": sdk_shape(arguments[1])}
    raise AssertionError(f"the SDK uses a type this test does not know: {annotation}")


def schema_shape(schema: Shape, spec: Shape) -> Shape:
    """The same for a type of a Pulumi package schema."""
    if "$ref" in spec:
        target = schema["types"][spec["$ref"].removeprefix("#/types/")]
        properties = {name: schema_shape(schema, field) for name, field in target["properties"].items()}
        return {"type": "object", "properties": properties}
    if spec["type"] == "array":
        return {"type": "array", "item": schema_shape(schema, spec["items"])}
    if spec["type"] == "object":
        return {"type": "map", "item": schema_shape(schema, spec["additionalProperties"])}
    return {"type": spec["type"]}


def inputs_of_schema(schema: Shape) -> dict[str, Shape]:
    resources = {**schema["resources"], "pulumi:providers:proxmoxve": schema["provider"]}
    return {
        token: {
            "type": "object",
            "properties": {name: schema_shape(schema, spec) for name, spec in resource["inputProperties"].items()},
        }
        for token, resource in resources.items()
        if token in IN_USE
    }


def refused(sent: Shape, accepted: Shape, path: str) -> list[str]:
    """Where the plugin would not accept what the SDK sends: one line a place."""
    if sent["type"] != accepted["type"]:
        return [f"{path}: the SDK sends {sent['type']}, the plugin accepts {accepted['type']}"]
    if sent["type"] in ("array", "map"):
        return refused(sent["item"], accepted["item"], f"{path}[]")
    places = []
    for name, field in sent.get("properties", {}).items():
        if name not in accepted["properties"]:
            places.append(f"{path}.{name}: the plugin has no such input")
        else:
            places += refused(field, accepted["properties"][name], f"{path}.{name}")
    return places


@pytest.fixture(scope="module")
def accepted() -> dict[str, Shape]:
    tools = toolchain.ensure(print)
    program = tools.pulumi_home_plugins / ProxmoxvePlugin().program
    described = subprocess.run([program, "-describe-inputs"], capture_output=True, text=True, timeout=60, check=False)
    if described.returncode == 0:
        return json.loads(described.stdout)
    schema = subprocess.run(
        [tools.bin / "pulumi", "package", "get-schema", program],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return inputs_of_schema(json.loads(schema.stdout))


@pytest.mark.parametrize("token", IN_USE)
def test_the_sdk_class_sends_this_token(token: str) -> None:
    resource, _ = IN_USE[token]
    sent = getattr(resource, "pulumi_type", None)
    assert sent == token


@pytest.mark.parametrize("token", IN_USE)
def test_the_plugin_accepts_every_argument_of(token: str, accepted: dict[str, Shape]) -> None:
    _, arguments = IN_USE[token]
    assert token in accepted, f"the plugin has no {token}; it has {sorted(accepted)}"
    assert refused(sdk_shape(arguments), accepted[token], token) == []


def test_arguments_are_compared_in_depth(accepted: dict[str, Shape]) -> None:
    sent = sdk_shape(proxmoxve.VmLegacyArgs)
    address = sent["properties"]["initialization"]["properties"]["ipConfigs"]["item"]["properties"]["ipv4"]
    assert "address" in address["properties"]
    address["properties"]["adress"] = {"type": "string"}
    sent["properties"]["cpu"]["type"] = "array"
    assert refused(sent, accepted["proxmoxve:index/vmLegacy:VmLegacy"], "vm") == [
        "vm.cpu: the SDK sends array, the plugin accepts object",
        "vm.initialization.ipConfigs[].ipv4.adress: the plugin has no such input",
    ]


def test_a_package_schema_is_read_the_same_way() -> None:
    schema = {
        "types": {"p:a:B": {"properties": {"ids": {"type": "array", "items": {"type": "integer"}}}}},
        "resources": {
            "proxmoxve:index/harule:Harule": {
                "inputProperties": {
                    "b": {"$ref": "#/types/p:a:B"},
                    "nodes": {"type": "object", "additionalProperties": {"type": "integer"}},
                }
            }
        },
        "provider": {"inputProperties": {"endpoint": {"type": "string"}}},
    }
    assert inputs_of_schema(schema) == {
        "proxmoxve:index/harule:Harule": {
            "type": "object",
            "properties": {
                "b": {
                    "type": "object",
                    "properties": {"ids": {"type": "array", "item": {"type": "integer"}}},
                },
                "nodes": {"type": "map", "item": {"type": "integer"}},
            },
        },
        "pulumi:providers:proxmoxve": {"type": "object", "properties": {"endpoint": {"type": "string"}}},
    }


def test_the_version_in_use_is_the_sdks() -> None:
    plugin = json.loads((Path(proxmoxve.__file__).parent / "pulumi-plugin.json").read_text())
    assert plugin["version"] == ProxmoxvePlugin().version
