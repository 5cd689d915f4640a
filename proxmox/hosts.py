"""Which hosts of the Proxmox VE cluster cannot be worked on now, and why."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Collection

from proxmox_swarm.proxmox.client import Client

OFFLINE = "is offline"
NO_MEMBER = "is no member of the Proxmox VE cluster"


def absent(client: Client, names: Collection[str]) -> dict[str, str]:
    """Those of the hosts that nothing can be asked of, each with the reason in words. Raises ProxmoxError.

    The cluster's own list counts first: for a host it calls offline a request would cost its patience.
    """
    if not names:
        return {}
    members = client.hosts()

    def why(name: str) -> str:
        if name not in members:
            return NO_MEMBER
        if members[name] == "offline":
            return OFFLINE
        reason = client.unreached(name)
        return f"does not answer ({reason})" if reason else ""

    with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        found = dict(zip(names, pool.map(why, names), strict=True))
    return {name: reason for name, reason in sorted(found.items()) if reason}
