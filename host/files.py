"""The files on a node that are ours: where they are, what is in them, and how to read a hand-edited one back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

DAEMON = "/etc/docker/daemon.json"
RESOLVED = "/etc/systemd/resolved.conf.d/50-proxmox-swarm.conf"
RESOLV = "/etc/resolv.conf"
APT = "/etc/apt/apt.conf.d/50-proxmox-swarm-proxy"
WRAPPER = "/usr/local/bin/docker"

MARK = "Managed by proxmox-swarm"
_HEAD = f"# {MARK}: change the settings, not this file.\n"

#: ``docker context create … host=ssh://user@node`` runs `docker system dial-stdio` there as that user. The socket stays
#: root's alone; this lets the call through sudo, where sudo's log shows it.
WRAPPER_TEXT = (
    "#!/bin/sh\n"
    f"{_HEAD}"
    'if [ "$(id -u)" = 0 ]; then exec /usr/bin/docker "$@"; fi\n'
    'exec sudo -n -- /usr/bin/docker "$@"\n'
)


def is_foreign(text: str | None) -> bool:
    """Whether there is a file, and it is not one of ours."""
    return text is not None and MARK not in text


def daemon_text(daemon: Mapping[str, object]) -> str:
    """daemon.json, in an order that does not depend on how the settings were written."""
    return json.dumps(daemon, indent=2, sort_keys=True) + "\n"


def resolved_text(servers: Sequence[str], search: Sequence[str]) -> str | None:
    """The drop-in for systemd-resolved; None when there is nothing to say.

    ``~.`` sends every name to these servers rather than to those an interface brings along.
    """
    if not servers and not search:
        return None
    domains = [*(["~."] if servers else []), *search]
    return f"{_HEAD}[Resolve]\nDNS={' '.join(servers)}\nDomains={' '.join(domains)}\n"


def resolv_text(servers: Sequence[str], search: Sequence[str]) -> str | None:
    """``/etc/resolv.conf`` for hosts without systemd-resolved; None when there is nothing to say."""
    if not servers and not search:
        return None
    lines = [f"search {' '.join(search)}\n"] if search else []
    return _HEAD + "".join(lines + [f"nameserver {server}\n" for server in servers])


def apt_text(proxy: str | None) -> str | None:
    """apt's proxy for plain HTTP; repositories on HTTPS are fetched directly (caches cannot look into them)."""
    if not proxy:
        return None
    return f'// {_HEAD[2:]}Acquire::http::Proxy "{proxy}";\nAcquire::https::Proxy "DIRECT";\n'


def read_daemon(text: str | None) -> object:
    """daemon.json as an object ({} when absent), or its text when it is not valid JSON."""
    if text is None or not text.strip():
        return {}
    try:
        return json.loads(text)
    except ValueError:
        return text


def read_resolved(text: str | None) -> tuple[list[str], list[str]]:
    """Servers and search domains of the drop-in."""
    servers: list[str] = []
    search: list[str] = []
    for line in (text or "").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "DNS":
            servers = value.split()
        elif key.strip() == "Domains":
            search = [word for word in value.split() if word != "~."]
    return servers, search


def read_resolv(text: str | None) -> tuple[list[str], list[str]]:
    """Servers and search domains of ``/etc/resolv.conf``."""
    servers: list[str] = []
    search: list[str] = []
    for line in (text or "").splitlines():
        words = line.split()
        if words[:1] == ["nameserver"]:
            servers += words[1:2]
        elif words[:1] == ["search"]:
            search = words[1:]
    return servers, search


def read_apt(text: str | None) -> str | None:
    """The proxy in our apt file."""
    for line in (text or "").splitlines():
        if line.strip().startswith("Acquire::http::Proxy"):
            return line.split('"')[1] if line.count('"') >= 2 else line.strip()
    return None
