"""Day-two settings of one host: daemon.json, name servers, apt's cache, and the way to its Docker socket.

What is observed has the same shape as what is wanted, so that drift shows by field; a file of ours that holds more than
our fields appears under ``extra`` with its actual text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from proxmox_swarm.host import files
from proxmox_swarm.host.connection import Connection
from proxmox_swarm.host.errors import EngineConfigRefused
from proxmox_swarm.host.script import run_script

__all__ = ["HostSpec", "apply", "observe", "wanted"]

#: Keys that dockerd takes over on SIGHUP (docs.docker.com, dockerd, "Configuration reload behavior").
RELOADABLE = (
    "authorization-plugins",
    "debug",
    "default-runtime",
    "features",
    "insecure-registries",
    "labels",
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "registry-mirrors",
    "runtimes",
    "shutdown-timeout",
)
RESTART_TIMEOUT = 90.0
_PATHS = (files.DAEMON, files.RESOLVED, files.RESOLV, files.APT, files.WRAPPER)


@dataclass(frozen=True)
class HostSpec:
    """What a host is set to. Empty name servers leave the host's own; ``apt_cache`` is a proxy URL.

    ``keep`` is for a machine that was there before: keys of daemon.json that are not declared stay as they are, and a
    `docker` command of somebody else's stays in its place.
    """

    daemon: Mapping[str, object]
    dns_servers: tuple[str, ...]
    dns_search: tuple[str, ...]
    apt_cache: str | None
    keep: bool = False


def wanted(spec: HostSpec) -> dict[str, Any]:
    """The declared values in the shape that :func:`observe` returns."""
    return {
        "daemon": dict(spec.daemon),
        "dns_servers": list(spec.dns_servers),
        "dns_search": list(spec.dns_search),
        "apt_cache": spec.apt_cache,
    }


def observe(conn: Connection, spec: HostSpec) -> dict[str, Any]:
    """The actual values, equal to ``wanted(spec)`` when nothing has drifted. Raises HostError."""
    found = run_script(conn, "host_state", {"paths": _PATHS}, what="reading the host's settings", timeout=60)
    return _values(found, spec)


def apply(
    conn: Connection,
    spec: HostSpec,
    *,
    around_restart: Callable[[Callable[[], None]], None] | None = None,
    install: Callable[[], object] | None = None,
    first: bool = False,
) -> dict[str, Any]:
    """Bring the host to ``spec`` and return what is observed afterwards.

    Where there is no Docker, ``install`` is called when everything else is in place: packages then come through the declared
    name servers and apt cache, and dockerd starts with its daemon.json the first time.

    ``first`` says that this machine is seen for the first time: its daemon.json may have come with its first boot.

    dockerd is restarted only where a change of daemon.json needs it. ``around_restart`` is then called with the restart
    as its argument, so that the node can be drained around it; without it dockerd is restarted at once. A configuration
    that dockerd refuses is taken back and raises EngineConfigRefused; otherwise raises HostError.
    """
    if spec.daemon.get("live-restore"):
        raise EngineConfigRefused(
            "setting live-restore",
            where=str(conn.target),
            came_back="dockerd does not start in a swarm with it",
            do_now="Remove live-restore from swarm:docker.daemon.",
        )
    found = _change(conn, spec, may_restart=around_restart is None, first=first)
    if found.get("absent") and install is not None:
        install()
    if found.get("restart_needed") and around_restart is not None:
        after: dict[str, Any] = {}

        def restart() -> None:
            after.update(_change(conn, spec, may_restart=True))

        around_restart(restart)
        found = after or _change(conn, spec, may_restart=True)
    return _values(found, spec)


def adopt(conn: Connection, spec: HostSpec, *, install: Callable[[], object] | None = None) -> dict[str, Any]:
    """As :func:`apply` on a machine that was there before, save that a running dockerd is left as it is.

    Where its daemon.json differs, that shows in what is returned. Raises HostError.
    """
    found = _change(conn, spec, may_restart=False, adopting=True)
    return apply(conn, spec, install=install) if found.get("absent") else _values(found, spec)


def _change(
    conn: Connection, spec: HostSpec, *, may_restart: bool, first: bool = False, adopting: bool = False
) -> dict[str, Any]:
    args = {
        "paths": _PATHS,
        "files": {files.APT: (files.apt_text(spec.apt_cache), 0o644), files.WRAPPER: (files.WRAPPER_TEXT, 0o755)},
        "resolved": files.resolved_text(spec.dns_servers, spec.dns_search),
        "resolv": files.resolv_text(spec.dns_servers, spec.dns_search),
        "daemon": files.daemon_text(spec.daemon),
        "reloadable": RELOADABLE,
        "keep": spec.keep,
        "spare": [files.WRAPPER] if spec.keep else [],
        "adopting": adopting,
        "may_restart": may_restart,
        "first": first,
        "timeout": RESTART_TIMEOUT,
    }
    found: dict[str, Any] = run_script(
        conn, "host_state", args, what="applying the host's settings", timeout=2 * RESTART_TIMEOUT + 60
    )
    if refused := found.get("refused"):
        raise EngineConfigRefused(
            "loading the new daemon.json",
            where=str(conn.target),
            came_back=refused,
            do_now="The old one is in place. Correct swarm:docker.daemon and run again.",
        )
    return found


def _values(found: Mapping[str, Any], spec: HostSpec) -> dict[str, Any]:
    texts: Mapping[str, str | None] = found["files"]
    extra: dict[str, str] = {}
    if found["resolved"]:
        path, read, render = files.RESOLVED, files.read_resolved, files.resolved_text
    else:
        path, read, render = files.RESOLV, files.read_resolv, files.resolv_text
    servers: list[str] = []
    search: list[str] = []
    # A resolv.conf that we were not asked to set is the host's own business.
    if found["resolved"] or spec.dns_servers or spec.dns_search:
        servers, search = read(texts[path])
        if texts[path] != render(servers, search):
            extra[path] = texts[path] or "(absent)"
    apt = files.read_apt(texts[files.APT])
    if texts[files.APT] != files.apt_text(apt):
        extra[files.APT] = texts[files.APT] or "(absent)"
    if texts[files.WRAPPER] != files.WRAPPER_TEXT and not (spec.keep and files.is_foreign(texts[files.WRAPPER])):
        extra[files.WRAPPER] = texts[files.WRAPPER] or "(absent)"
    if found["pending"]:
        extra[files.DAEMON] = "(not loaded yet: dockerd has to restart)"
    daemon = files.read_daemon(texts[files.DAEMON])
    if spec.keep and isinstance(daemon, dict):
        daemon = {key: value for key, value in daemon.items() if key in spec.daemon}
    values = {
        "daemon": daemon,
        "dns_servers": servers,
        "dns_search": search,
        "apt_cache": apt,
    }
    return {**values, "extra": extra} if extra else values
