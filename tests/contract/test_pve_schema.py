"""The lab's API, the requests of the real Proxmox VE provider, and the official schema agree with each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proxmox_swarm.lab.pve import server  # noqa: F401 - registers the endpoints
from proxmox_swarm.lab.pve.core import ROUTES
from proxmox_swarm.lab.pve.schema import Schema

SCHEMA = Schema()
#: What provider 0.111.1 sent for: image, snippet, VMs with an attached disk, pool, HA; then changes and destroy. Recorded.
RECORDED: list[dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "provider_requests.json").read_text())


@pytest.mark.parametrize(("method", "path"), sorted(ROUTES), ids=" ".join)
def test_every_endpoint_served_is_in_the_schema(method: str, path: str) -> None:
    segments = tuple(path.strip("/").split("/"))
    matched = SCHEMA.match(segments)
    assert matched is not None and matched[0] == path
    assert SCHEMA.operation(method, path) is not None


@pytest.mark.parametrize("request_", RECORDED, ids=lambda r: f"{r['method']} {r['path']}")
def test_what_the_provider_sends_is_served_and_fits(request_: dict[str, Any]) -> None:
    key = (request_["method"], request_["path"])
    assert key in ROUTES
    operation = SCHEMA.operation(*key)
    assert operation is not None
    clean, errors = operation.verify(request_["parameters"])
    assert errors == {}
    assert set(clean) == set(request_["parameters"])


@pytest.mark.parametrize("release", ["9.1.11", "9.2"])
def test_the_requests_fit_the_releases_before_too(release: str) -> None:
    schema = Schema(release)
    for request_ in RECORDED:
        operation = schema.operation(request_["method"], request_["path"])
        assert operation is not None, request_
        assert operation.verify(request_["parameters"])[1] == {}, request_
