"""The engine of one node: docker-py over a local socket that SSH carries to ``docker system dial-stdio`` run by sudo.

Request and answer bodies are the engine's own JSON: docker-py's helpers build partial specs and lack ``Availability``.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any, Protocol

import docker
import docker.errors
import requests
from docker.transport.unixconn import UnixHTTPAdapter, UnixHTTPConnectionPool

from proxmox_swarm.host.connection import Connection
from proxmox_swarm.host.errors import Failure, HostError, Unreachable
from proxmox_swarm.host.target import Target
from proxmox_swarm.host.tunnel import Tunnel
from proxmox_swarm.swarm.errors import EngineError

Json = dict[str, Any]

#: The first /info after a lost quorum takes the engine 20 s by itself.
REQUEST_TIMEOUT = 75
#: A wrong key is answered at once, a right one when there is a majority again.
UNLOCK_TIMEOUT = 10
DIAL = ("docker", "system", "dial-stdio")


#: Streams of one engine; more requests wait. Fewer than the tunnel carries, so that the docker CLI gets one beside them.
STREAMS = 3


class _OnePool(UnixHTTPAdapter):
    """docker-py's adapter with one pool of connections. Its own has a pool for each URL, and each would start a stream."""

    def get_connection(self, url: bytes | str, proxies: object = None) -> UnixHTTPConnectionPool:
        """The same pool, whatever the URL; whoever finds it empty waits."""
        pool = super().get_connection("")
        pool.block = True
        return pool


class EngineApi(Protocol):
    """What the domain asks of an engine. Errors: EngineError for an HTTP error, HostError for the way there."""

    @property
    def where(self) -> str:
        """Node and address, for messages."""

    def info(self) -> Json:
        """``GET /info``."""

    def version(self) -> Json:
        """``GET /version``."""

    def ping(self) -> bool:
        """Whether the engine answers."""

    def swarm_inspect(self) -> Json:
        """``GET /swarm`` (managers only)."""

    def swarm_init(self, body: Json) -> str:
        """``POST /swarm/init``; the node's id. Not atomic: after an error read /info again."""

    def swarm_join(self, body: Json) -> None:
        """``POST /swarm/join``. Only the first of RemoteAddrs is used by the engine."""

    def swarm_leave(self, *, force: bool = False) -> None:
        """``POST /swarm/leave``."""

    def swarm_update(self, version: int, spec: Json, **rotate: bool) -> None:
        """``POST /swarm/update`` with the whole spec: what is left out is reset."""

    def swarm_unlock_key(self) -> str:
        """``GET /swarm/unlockkey`` (managers only); "" where managers are not locked."""

    def swarm_unlock(self, key: str) -> None:
        """``POST /swarm/unlock``. Answered when the manager is ready, which takes a majority: no answer is no refusal."""

    def nodes(self) -> list[Json]:
        """``GET /nodes``."""

    def node(self, node_id: str) -> Json:
        """``GET /nodes/{id}``."""

    def node_update(self, node_id: str, version: int, spec: Json) -> None:
        """``POST /nodes/{id}/update`` with the whole spec."""

    def node_remove(self, node_id: str, *, force: bool = False) -> None:
        """``DELETE /nodes/{id}``."""

    def tasks(self, filters: Mapping[str, list[str]]) -> list[Json]:
        """``GET /tasks``; all of them without a filter."""

    def services(self) -> list[Json]:
        """``GET /services``."""

    def service(self, service_id: str) -> Json:
        """``GET /services/{id}``."""

    def service_update(self, service_id: str, version: int, spec: Json) -> None:
        """``POST /services/{id}/update`` with the whole spec; its registry credentials stay as they are."""

    def listing(self, kind: str) -> list[Json]:
        """``GET /services``, ``/networks``, ``/secrets``, ``/configs``: everything of the kind that this engine knows."""


class Engine:
    """:class:`EngineApi` over SSH. Safe for several threads; made once per host by :func:`engine`."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._lock = threading.Lock()
        self._client: docker.APIClient | None = None
        self._tunnel: Tunnel | None = None

    @property
    def where(self) -> str:
        """Node and address, for messages."""
        return str(self.target)

    @property
    def socket(self) -> str:
        """The local socket's address, for the docker CLI's ``DOCKER_HOST``."""
        return f"unix://{self._open_tunnel().path}"

    def info(self) -> Json:  # noqa: D102 - see EngineApi, as for all below
        return self._json("GET", "/info")

    def version(self) -> Json:  # noqa: D102
        return self._json("GET", "/version")

    def ping(self) -> bool:  # noqa: D102
        return self._request("GET", "/_ping").ok

    def swarm_inspect(self) -> Json:  # noqa: D102
        return self._json("GET", "/swarm")

    def swarm_init(self, body: Json) -> str:  # noqa: D102
        return str(self._request("POST", "/swarm/init", body=body).json())

    def swarm_join(self, body: Json) -> None:  # noqa: D102
        self._request("POST", "/swarm/join", body=body)

    def swarm_leave(self, *, force: bool = False) -> None:  # noqa: D102
        self._request("POST", "/swarm/leave", query={"force": _flag(force)})

    def swarm_update(self, version: int, spec: Json, **rotate: bool) -> None:  # noqa: D102
        query = {"version": str(version), **{key: _flag(value) for key, value in rotate.items()}}
        self._request("POST", "/swarm/update", query=query, body=spec)

    def swarm_unlock_key(self) -> str:  # noqa: D102
        return str(self._json("GET", "/swarm/unlockkey").get("UnlockKey") or "")

    def swarm_unlock(self, key: str) -> None:  # noqa: D102
        self._request("POST", "/swarm/unlock", body={"UnlockKey": key}, timeout=UNLOCK_TIMEOUT)

    def nodes(self) -> list[Json]:  # noqa: D102
        return list(self._request("GET", "/nodes").json())

    def node(self, node_id: str) -> Json:  # noqa: D102
        return self._json("GET", f"/nodes/{node_id}")

    def node_update(self, node_id: str, version: int, spec: Json) -> None:  # noqa: D102
        self._request("POST", f"/nodes/{node_id}/update", query={"version": str(version)}, body=spec)

    def node_remove(self, node_id: str, *, force: bool = False) -> None:  # noqa: D102
        self._request("DELETE", f"/nodes/{node_id}", query={"force": _flag(force)})

    def tasks(self, filters: Mapping[str, list[str]]) -> list[Json]:  # noqa: D102
        return list(self._request("GET", "/tasks", query={"filters": json.dumps(dict(filters))}).json())

    def services(self) -> list[Json]:  # noqa: D102
        return list(self._request("GET", "/services").json())

    def service(self, service_id: str) -> Json:  # noqa: D102
        return self._json("GET", f"/services/{service_id}")

    def service_update(self, service_id: str, version: int, spec: Json) -> None:  # noqa: D102
        query = {"version": str(version), "registryAuthFrom": "spec"}
        self._request("POST", f"/services/{service_id}/update", query=query, body=spec)

    def listing(self, kind: str) -> list[Json]:  # noqa: D102
        return list(self._request("GET", f"/{kind}").json())

    def _open_tunnel(self) -> Tunnel:
        with self._lock:
            if self._tunnel is None:
                self._tunnel = Tunnel(self.target, Connection(self.target).command(DIAL, sudo=True))
            return self._tunnel

    def _connect(self) -> docker.APIClient:
        tunnel = self._open_tunnel()
        with self._lock:
            if self._client is None:
                # A stated version keeps docker-py from asking at once. Our paths carry none: the engine then speaks its own.
                client = docker.APIClient(f"unix://{tunnel.path}", version="1.41", timeout=REQUEST_TIMEOUT)
                client.mount(
                    client.base_url, _OnePool(str(tunnel.path), timeout=REQUEST_TIMEOUT, max_pool_size=STREAMS)
                )
                self._client = client
            return self._client

    def _json(self, method: str, path: str) -> Json:
        return dict(self._request(method, path).json())

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        timeout: float = REQUEST_TIMEOUT,
    ) -> requests.Response:
        what = f"{method} {path.split('?')[0]}"
        # A kept stream may have been closed by a restart of dockerd: reading again is harmless, writing is not.
        for attempts_left in (1, 0) if method == "GET" else (0,):
            try:
                client = self._connect()
                response = client.request(
                    method,
                    f"{client.base_url}{path}",
                    params=query,
                    json=body,
                    timeout=timeout,
                )
                break
            except requests.exceptions.Timeout as error:
                raise Unreachable(
                    what,
                    where=self.where,
                    came_back=f"no answer in {timeout:.0f} s",
                    do_now="Look at dockerd there.",
                ) from error
            except (requests.exceptions.RequestException, docker.errors.DockerException) as error:
                # Where there is no way to the host there is none a moment later.
                if not attempts_left or isinstance(self._why(), HostError):
                    raise self._broken(what, error) from error
        if not response.ok:
            raise EngineError(response.status_code, _message(response), where=self.where, what=what)
        return response

    def _why(self) -> Failure | str | None:
        return self._tunnel.why if self._tunnel is not None else None

    def _broken(self, what: str, error: Exception) -> HostError:
        why = self._why()
        if isinstance(why, HostError):
            return type(why)(why.what, where=why.where, came_back=why.came_back, do_now=why.do_now)
        came_back = why.came_back if isinstance(why, Failure) else why
        return Unreachable(
            what,
            where=self.where,
            came_back=came_back or str(error),
            do_now="Check `systemctl status docker` there, and that the user may run docker by sudo.",
        )


_engines: dict[Target, Engine] = {}
_engines_lock = threading.Lock()


def engine(target: Target) -> Engine:
    """The engine of a host; nothing is opened before its first request."""
    with _engines_lock:
        return _engines.setdefault(target, Engine(target))


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _message(response: requests.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text.strip() or response.reason
