"""Docker on a host that has none. A host that has it keeps what it has: upgrades are a rolling matter, not this one's."""

from __future__ import annotations

from proxmox_swarm.host.connection import Connection
from proxmox_swarm.host.script import run_script

#: Docker's signing key for its apt repositories (docs.docker.com, "Install Docker Engine on Debian").
FINGERPRINT = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
KEY_URL = "https://download.docker.com/linux/{distribution}/gpg"
REPOSITORY = "https://download.docker.com/linux/{distribution}"


def install(conn: Connection, version: str | None, *, timeout: float) -> str:
    """Install Docker's own packages, hold them, and wait until dockerd answers; returns the engine's version.

    ``version`` is the engine's, such as ``29.8.2`` (None: the newest). Waits for cloud-init and for other package managers,
    ``timeout`` seconds in all. To be called where there is none (:func:`proxmox_swarm.host.state.apply` knows); gone through
    again after a kill, it goes on where it was. Raises HostError.
    """
    args = {
        "version": version,
        "key_url": KEY_URL,
        "repository": REPOSITORY,
        "fingerprint": FINGERPRINT,
        "timeout": timeout,
    }
    result = run_script(conn, "docker_install", args, what="installing Docker", timeout=timeout + 10)
    return str(result["version"])
