"""Docker on a host that has none. A host that has it keeps what it has: upgrades are a rolling matter, not this one's."""

from __future__ import annotations

from typing import Literal

from proxmox_swarm.host.connection import Connection
from proxmox_swarm.host.script import run_script

#: Docker's signing key for its apt repositories (docs.docker.com, "Install Docker Engine on Debian").
FINGERPRINT = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
KEY_URL = "https://download.docker.com/linux/{distribution}/gpg"
REPOSITORY = "https://download.docker.com/linux/{distribution}"


def ensure_docker(
    conn: Connection,
    version: str | None,
    *,
    timeout: float,
    source: Literal["docker-ce", "debian"] = "docker-ce",
) -> str | None:
    """Install Docker if it is absent and wait until dockerd answers; returns the version installed, None if it was there.

    ``version`` is a prefix such as ``29.8.2`` (None: the newest). ``source`` is Docker's own repository, or the
    distribution's ``docker.io``. Waits for cloud-init and for other package managers. Raises HostError.
    """
    # Where it is installed it may still be starting; whoever needs it waits for it.
    if conn.run(["sh", "-c", "command -v dockerd"], sudo=True, timeout=30).code == 0:
        return None
    args = {
        "version": version,
        "source": source,
        "key_url": KEY_URL,
        "repository": REPOSITORY,
        "fingerprint": FINGERPRINT,
        "timeout": timeout,
    }
    result = run_script(conn, "docker_install", args, what="installing Docker", timeout=timeout + 10)
    return str(result["version"])
