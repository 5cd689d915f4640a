"""Stack files with many nodes."""

from __future__ import annotations

from typing import Any

from tests.lab.support import SEVEN

HOSTS = ("pve01", "pve02", "pve03")
POOL = "mgmt"


def workers(count: int) -> dict[str, dict[str, Any]]:
    """So many workers more than the lab's stack file has, evenly on its hosts."""
    return {
        f"docker-more-{i}": {"pool": POOL, "host": HOSTS[i % len(HOSTS)], "id": 4400 + i, "ip": 100 + i}
        for i in range(1, count + 1)
    }


def address(name: str) -> str:
    """Where one of these workers is."""
    return f"192.168.4.{workers(99)[name]['ip']}"


def thirty() -> dict[str, Any]:
    """What makes a stack of thirty nodes of the lab's seven."""
    return workers(30 - len(SEVEN))
