"""Build the cluster's graph without an engine, and look at what was registered.

Pulumi's own mocks do not hand resource options on, so the monitor underneath records whole registration requests.
"""

from __future__ import annotations

import asyncio
import json
import runpy
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pulumi
import pulumi.runtime
from google.protobuf.json_format import MessageToDict
from pulumi.runtime import mocks
from pulumi.runtime import settings as runtime
from pulumi.runtime.stack import run_in_stack

from proxmox_swarm.components.swarm_cluster import SwarmCluster
from proxmox_swarm.settings import Settings, load, read_stack_file

ROOT = Path(__file__).parents[3]
PROJECT = "swarm"
STACK = "prod"
DYNAMIC = "pulumi-python:dynamic/swarm:"
#: What the mocks give as a host key's private half, wherever it goes.
PRIVATE = "the private half"
UNLOCK = "the key that unlocks"
#: How a secret travels in a registration request (sdk/go/common/resource/sig).
SECRET = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270"}
#: How a value that is not known yet travels (pulumi.runtime.rpc.UNKNOWN).
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


def stack_config() -> dict[str, str]:
    """The production stack's configuration as Pulumi hands it to the program."""
    raw = read_stack_file(ROOT / "Pulumi.prod.yaml", PROJECT)
    return {f"{PROJECT}:{key}": value if isinstance(value, str) else json.dumps(value) for key, value in raw.items()}


def prod(**changes: Callable[[Any], Any]) -> Settings:
    """The production stack's settings; each change is given what is under its key and returns what shall be there."""
    raw = dict(read_stack_file(ROOT / "Pulumi.prod.yaml", PROJECT))
    for key, change in changes.items():
        raw[key] = change(raw.get(key))
    return load(raw, project=PROJECT, stack=STACK, base=ROOT)


@dataclass(frozen=True)
class Registered:
    """One resource as the engine would have got it."""

    urn: str
    request: Any
    inputs: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """The last word of the type."""
        return str(self.request.type).rpartition(":")[2]

    @property
    def name(self) -> str:
        return str(self.request.name)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class Graph:
    """All resources of one run, addressed as ``"Member docker-app-1"``, and the stack's outputs."""

    def __init__(self) -> None:
        self.resources: dict[str, Registered] = {}
        self.outputs: dict[str, Any] = {}
        self.calls: list[tuple[str, Any]] = []
        self._by_urn: dict[str, str] = {}

    def add(self, resource: Registered) -> None:
        assert str(resource) not in self.resources, f"{resource} is there twice"
        self.resources[str(resource)] = resource
        self._by_urn[resource.urn] = str(resource)

    def __getitem__(self, key: str) -> Registered:
        return self.resources[key]

    def of(self, kind: str) -> list[Registered]:
        return [resource for resource in self.resources.values() if resource.kind == kind]

    def urns(self) -> list[str]:
        return sorted(self._by_urn)

    def key_of(self, urn: str) -> str:
        return self._by_urn[urn]

    def direct(self, key: str) -> set[str]:
        """What a resource depends on, explicitly or through its inputs."""
        return {self._by_urn[urn] for urn in self[key].request.dependencies}

    def behind(self, key: str) -> set[str]:
        """Everything that must be done before a resource, however long the way."""
        found: set[str] = set()
        todo = [key]
        while todo:
            for name in self.direct(todo.pop()) - found:
                found.add(name)
                todo.append(name)
        return found


class _Answers(mocks.Mocks):
    """Answers as the providers would in ``up``; in a preview only inputs are known, as from a real engine."""

    def __init__(self, graph: Graph, last_outputs: Mapping[str, Any], preview: bool) -> None:
        self._graph = graph
        self._last_outputs = last_outputs
        self._preview = preview

    def call(self, args: mocks.MockCallArgs) -> Any:
        self._graph.calls.append((args.token, args.args))
        return {"name": args.args["name"], "outputs": dict(self._last_outputs)}

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        outputs = dict(args.inputs)
        name, kind = args.name, args.typ.rpartition(":")[2]
        if self._preview:
            if kind == "VmLegacy":
                unknown = {"pathInDatastore": UNKNOWN, "fileFormat": UNKNOWN}
                outputs["disks"] = [{**disk, **unknown} for disk in outputs.get("disks", [])]
            return "", outputs
        if kind == "FirstBoot":
            outputs["host_public_key"] = f"ssh-ed25519 {name}"
            outputs["host_private_key"] = {**SECRET, "value": PRIVATE}
            outputs["user_data"] = {**SECRET, "value": f"#cloud-config {PRIVATE}"}
            outputs["digest"] = f"digest of {name}"
        elif kind == "Claim":
            outputs |= {"claim": f"claim of {name}", "marker": f"marker of {name}"}
        elif kind == "Cluster":
            outputs |= {"cluster_id": "the cluster's id"}
        elif kind == "Autolock":
            outputs |= {"key": {**SECRET, "value": UNLOCK}, "previous_key": {**SECRET, "value": UNLOCK}}
        elif kind == "CaRotation":
            outputs |= {"ca_digest": "the CA's digest"}
        elif kind == "Member":
            outputs |= {"node_id": f"node id of {name}", "detail": ""}
        elif kind == "Undeclared":
            outputs["nodes"] = []
        elif kind == "VmLegacy":
            outputs["disks"] = [
                {**disk, "pathInDatastore": f"vm-{int(outputs['vmId'])}-disk-{i}", "fileFormat": "raw"}
                for i, disk in enumerate(outputs.get("disks", []))
            ]
        return f"id of {name}", outputs


class _Recorder(mocks.MockMonitor):
    def __init__(self, answers: _Answers, graph: Graph) -> None:
        super().__init__(answers)
        self._graph = graph

    def make_urn(self, parent: str, type_: str, name: str) -> str:
        """As the engine does it; the mocks' own leaves grandparents out."""
        above = parent.split("::")[2] if parent else ""
        kind = f"{above}${type_}" if above not in ("", "pulumi:pulumi:Stack") else type_
        return f"urn:pulumi:{STACK}::{PROJECT}::{kind}::{name}"

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the name of the call
        answer = super().RegisterResource(request)
        if request.type != "pulumi:pulumi:Stack":
            self._graph.add(Registered(answer.urn, request, MessageToDict(request.object)))
        return answer

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802
        if "::pulumi:pulumi:Stack::" in request.urn:
            self._graph.outputs = MessageToDict(request.outputs)
        return super().RegisterResourceOutputs(request)


def run(program: Callable[[], object], last_outputs: Mapping[str, Any] | None = None, preview: bool = False) -> Graph:
    """Run a Pulumi program and return what it registered."""
    graph = Graph()
    answers = _Answers(graph, last_outputs or {}, preview)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    runtime.set_root_resource(object())  # type: ignore[arg-type]  # else set_mocks makes a stack besides run_in_stack's
    mocks.set_mocks(
        answers,
        project=PROJECT,
        stack=STACK,
        preview=preview,
        organization="organization",
        monitor=_Recorder(answers, graph),
    )
    runtime.set_root_resource(None)  # type: ignore[arg-type]

    def once() -> None:
        program()

    try:
        loop.run_until_complete(run_in_stack(once))
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
        asyncio.set_event_loop(None)
    return graph


def build(
    settings: Settings,
    *,
    established: bool,
    there: Container[str] | None = None,
    first: Sequence[str] = (),
    preview: bool = False,
) -> Graph:
    """The graph of a cluster."""
    endpoint = settings.proxmox.endpoints[0]
    return run(
        lambda: SwarmCluster(
            settings.stack, settings, endpoint=endpoint, established=established, there=there, first=first
        ),
        preview=preview,
    )


def run_main(config: Mapping[str, str], last_outputs: Mapping[str, Any] | None = None) -> Graph:
    """The whole program, as ``pulumi up`` runs it."""
    pulumi.runtime.set_all_config(dict(config))
    try:
        return run(lambda: runpy.run_path(str(ROOT / "__main__.py")), last_outputs)
    finally:
        pulumi.runtime.set_all_config({})


@cache
def bring_up() -> Graph:
    """Production as it is built from nothing."""
    return build(prod(), established=False)


@cache
def rolling() -> Graph:
    """Production in every later run."""
    return build(prod(), established=True)
