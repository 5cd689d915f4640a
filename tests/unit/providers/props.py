"""Resource properties as they come over the wire: numbers are floats, what is None is left out."""

from __future__ import annotations

from typing import Any

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAKYnp5dx6trJn0rTM0UWOuFSqsr5+X12QS2CeTCtPs6"
DEADLINES = {"boot": 300.0, "join": 120.0, "drain": 600.0, "role": 60.0}


def manager(number: int) -> dict[str, Any]:
    return {"node": f"app-{number}", "address": f"10.0.4.{number}", "user": "ops", "host_key": KEY}


MANAGERS = [manager(1), manager(2), manager(3)]


def member(**changes: Any) -> dict[str, Any]:
    """A member's inputs."""
    return {
        **manager(2),
        "managers": MANAGERS,
        "cluster_id": "c1",
        "role": "manager",
        "availability": "active",
        "labels": {"zone": "a"},
        "machine": "4101",
        "hardware": {"cpu": 4.0, "memory": 8.0, "boot": 30.0, "gateways": ["10.0.4.254", ""], "mtus": [0.0, 0.0]},
        "data_path_port": 4789.0,
        "data_path": "",
        "deadlines": DEADLINES,
        "proxmox": {"endpoints": ["https://pve01:8006"], "insecure": False, "vm_id": 4101.0},
        "verdict": "ok",
        "__provider": "pickled",
        **changes,
    }


def host(**changes: Any) -> dict[str, Any]:
    """A host state's inputs."""
    return {
        **manager(2),
        "managers": MANAGERS,
        "machine": "4101",
        "wanted": {
            "daemon": {
                "log-opts": {"max-file": "3"},
                "default-address-pools": [{"base": "172.20.0.0/16", "size": 24.0}],
            },
            "dns_servers": ["192.168.2.4"],
            "dns_search": [],
        },
        "deadlines": DEADLINES,
        "proxmox": {"endpoints": ["https://pve01:8006"], "insecure": False, "vm_id": 4101.0},
        "__provider": "pickled",
        **changes,
    }


def claim(**changes: Any) -> dict[str, Any]:
    """A claim's inputs."""
    return {
        "project": "swarm",
        "stack": "prod",
        "node": "app-2",
        "vm_ids": [4101.0, 4601.0],
        "addresses": ["10.0.4.2", "10.0.12.2"],
        "endpoints": ["https://pve01:8006"],
        "insecure": False,
        "owner": "ours",
        "__provider": "pickled",
        **changes,
    }


def cluster(**changes: Any) -> dict[str, Any]:
    """A cluster's inputs."""
    return {
        "managers": MANAGERS,
        "init": {
            "address_pool": ["10.201.0.0/16"],
            "subnet_size": 24.0,
            "data_path_port": 4789.0,
            "data_path": {"app-1": "10.0.9.1"},
        },
        "join_timeout": 120.0,
        "verdict": "ok",
        "__provider": "pickled",
        **changes,
    }


def settings(**changes: Any) -> dict[str, Any]:
    """A cluster settings' inputs."""
    return {
        "managers": MANAGERS,
        "cluster_id": "c1",
        "fields": {"task_history": 5.0, "labels": {}},
        "init": {"address_pool": ["10.201.0.0/16"], "subnet_size": 24.0, "data_path_port": 4789.0, "data_path": "main"},
        "guards": {"fewer_managers": False},
        "__provider": "pickled",
        **changes,
    }


def token(**changes: Any) -> dict[str, Any]:
    """A token rotation's inputs."""
    return {
        "managers": MANAGERS,
        "cluster_id": "c1",
        "role": "worker",
        "generation": 1.0,
        "__provider": "pickled",
        **changes,
    }


def ca(**changes: Any) -> dict[str, Any]:
    """A CA rotation's inputs."""
    return {
        "managers": MANAGERS,
        "cluster_id": "c1",
        "generation": 1.0,
        "timeout": 300.0,
        "__provider": "pickled",
        **changes,
    }


def lock(**changes: Any) -> dict[str, Any]:
    """A lock's inputs."""
    return {
        "managers": MANAGERS,
        "cluster_id": "c1",
        "enabled": False,
        "generation": 1.0,
        "timeout": 120.0,
        "verdict": "ok",
        "__provider": "pickled",
        **changes,
    }


def boot(**changes: Any) -> dict[str, Any]:
    """A first boot's inputs."""
    return {
        "node": "app-2",
        "user": "ops",
        "keys": ["ssh-ed25519 AAAA someone"],
        "generation": 1.0,
        "daemon": {"log-driver": "json-file"},
        "__provider": "pickled",
        **changes,
    }
