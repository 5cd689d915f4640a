"""What goes around an endpoint that was recorded and is gone."""

from __future__ import annotations

import socket

from proxmox_swarm.cli.pulumi import around_lost_endpoint


def state(endpoint: str) -> dict[str, object]:
    provider = {"type": "pulumi:providers:proxmoxve", "custom": True, "inputs": {"endpoint": endpoint}}
    return {"resources": [{"type": "swarm:index:SwarmCluster", "custom": False}, provider]}


def test_the_program_runs_only_where_the_recorded_endpoint_is_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"https://127.0.0.1:{server.getsockname()[1]}"
        assert around_lost_endpoint(state(endpoint)) == []
    assert around_lost_endpoint(state(endpoint)) == ["--run-program"]
    assert around_lost_endpoint({}) == []
