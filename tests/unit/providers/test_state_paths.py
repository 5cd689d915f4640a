"""What Pulumi's state holds of us by name. A change here orphans what people have running: move nothing without an alias."""

from __future__ import annotations

import base64
import importlib
import os
import pickletools
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from pulumi.dynamic import Resource
from pulumi.dynamic.dynamic import serialize_provider

import proxmox_swarm.providers
from proxmox_swarm.providers.base import Provider
from tests.unit.components.graph import DYNAMIC, bring_up, rolling

PINNED = {
    "Autolock": "proxmox_swarm.providers.autolock.AutolockProvider",
    "CaRotation": "proxmox_swarm.providers.ca_rotation.CaRotationProvider",
    "Claim": "proxmox_swarm.providers.claim.ClaimProvider",
    "Cluster": "proxmox_swarm.providers.cluster.ClusterProvider",
    "ClusterSettings": "proxmox_swarm.providers.cluster_settings.ClusterSettingsProvider",
    "FirstBoot": "proxmox_swarm.providers.first_boot.FirstBootProvider",
    "HostState": "proxmox_swarm.providers.host_state.HostStateProvider",
    "Member": "proxmox_swarm.providers.member.MemberProvider",
    "Undeclared": "proxmox_swarm.providers.undeclared.UndeclaredProvider",
    "TokenRotation": "proxmox_swarm.providers.token_rotation.TokenRotationProvider",
}
URNS = Path(__file__).with_name("urns_of_prod.txt")


def pickled() -> dict[str, str]:
    """The ``__provider`` input that each kind of resource is registered with."""
    found: dict[str, set[str]] = {}
    for resource in bring_up().resources.values():
        if resource.request.type.startswith(DYNAMIC):
            found.setdefault(resource.kind, set()).add(str(resource.inputs["__provider"]))
    assert all(len(texts) == 1 for texts in found.values()), "instances of one kind must not differ"
    return {kind: texts.pop() for kind, texts in found.items()}


def globals_in(data: bytes) -> list[str]:
    """The dotted names a pickle refers to, and nothing but names: protocol 4 has module and name as two strings."""
    words: list[str] = []
    found: list[str] = []
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name == "SHORT_BINUNICODE":
            words.append(str(argument))
        elif opcode.name == "STACK_GLOBAL":
            found.append(".".join(words[-2:]))
    return found


def test_type_tokens() -> None:
    types = {resource.request.type for resource in bring_up().resources.values()}
    assert {kind for kind in types if kind.startswith("pulumi-python")} == {
        f"pulumi-python:dynamic/swarm:{name}" for name in PINNED
    }


def test_every_kind_of_resource_we_have_is_pinned_here() -> None:
    found: set[str] = set()
    for module in pkgutil.iter_modules(proxmox_swarm.providers.__path__, "proxmox_swarm.providers."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, type) and issubclass(value, Resource) and value is not Resource:
                found.add(name)
    assert found == set(PINNED)


@pytest.mark.parametrize("kind", sorted(PINNED))
def test_a_provider_is_pickled_by_reference_to_this_path(kind: str) -> None:
    data = base64.b64decode(pickled()[kind])
    assert globals_in(data) == [PINNED[kind]]
    assert len(data) < 120, "more than a reference: instances must carry nothing"


@pytest.mark.parametrize("kind", sorted(PINNED))
def test_state_made_today_can_be_read_by_this_code(kind: str) -> None:
    import dill

    provider = dill.loads(base64.b64decode(pickled()[kind]))
    assert isinstance(provider, Provider)
    assert f"{type(provider).__module__}.{type(provider).__qualname__}" == PINNED[kind]
    assert vars(provider) == {}


SHOW = """
import importlib
from pulumi.dynamic.dynamic import serialize_provider
for path in {paths!r}:
    module, _, name = path.rpartition(".")
    print(serialize_provider(getattr(importlib.import_module(module), name)()))
"""


def test_the_pickle_does_not_depend_on_the_process() -> None:
    """A different pickle would preview as a change of every resource."""
    paths = sorted(PINNED.values())
    here = []
    for path in paths:
        module, _, name = path.rpartition(".")
        here.append(serialize_provider(getattr(importlib.import_module(module), name)()))
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SHOW.format(paths=paths)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("0", "1", "4294967295")
    ]
    assert [process.communicate(timeout=60)[0].split() for process in running] == [here] * 3


def test_providers_are_not_secret() -> None:
    """Encrypting each one costs time, and nothing in them is worth it."""
    assert all(type(text) is str for text in pickled().values())


@pytest.mark.parametrize("graph", [bring_up, rolling])
def test_urns_of_the_production_stack(graph: object) -> None:
    expected = URNS.read_text().splitlines()
    assert graph().urns() == expected  # type: ignore[operator]
