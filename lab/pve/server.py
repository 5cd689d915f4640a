"""The HTTPS side of the API: authentication, routing on raw paths, verification, answers in Proxmox VE's shape."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import ssl
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from proxmox_swarm.lab.pve import (  # noqa: F401 - importing them registers their endpoints
    cluster_api,
    ha_api,
    nodes_api,
    pools_api,
    storage_api,
    vm_config,
    vm_power,
)
from proxmox_swarm.lab.pve.core import ROUTES, Call, Pve
from proxmox_swarm.lab.pve.errors import PveError, parameter_error
from proxmox_swarm.lab.pve.record import without_secrets
from proxmox_swarm.lab.pve.schema import Operation, Schema
from proxmox_swarm.lab.pve.state import HOSTS

PORT = 8006
_PREFIX = "/api2/json"
_MAX_BODY = 64 << 20
log = logging.getLogger(__name__)


class Server:
    """One process answers for all hosts, each on its own address."""

    def __init__(self, pve: Pve, schema: Schema, token_id: str, token_secret: str) -> None:
        self._pve = pve
        self._schema = schema
        self._token_id = token_id
        self._token_secret = token_secret
        self._hosts = {address: host for host, address in pve.addresses.items()}
        self._runner: web.AppRunner | None = None

    async def start(self, tls: ssl.SSLContext, port: int = PORT) -> None:
        """Listen on every host's address."""
        self._runner = web.AppRunner(self.app(), access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        for address in self._pve.addresses.values():
            await web.TCPSite(self._runner, address, port, ssl_context=tls).start()

    def app(self) -> web.Application:
        """The application by itself, for any listener."""
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        return app

    async def close(self) -> None:
        """Stop listening and end the connections."""
        if self._runner:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        started = time.monotonic()
        host = self._host(request)
        if self._pve.faults.is_down(host) and request.transport is not None:
            request.transport.abort()
        raw_path = request.raw_path.partition("?")[0]
        given: dict[str, Any] = {}
        try:
            status, data, error = 200, await self._answer(request, raw_path, host, given), None
        except PveError as failure:
            status, data, error = failure.status, None, failure
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as failure:
            log.exception("%s %s", request.method, raw_path)
            status, data, error = 500, None, PveError(f"{type(failure).__name__}: {failure}")
        self._note(request, raw_path, host, given, status, error, started)
        return _response(status, data, error)

    def _host(self, request: web.Request) -> str:
        name = request.transport.get_extra_info("sockname") if request.transport else None
        return self._hosts.get(name[0], HOSTS[0]) if name else HOSTS[0]

    async def _answer(self, request: web.Request, raw_path: str, host: str, given: dict[str, Any]) -> Any:
        if not raw_path.startswith(_PREFIX + "/"):
            raise PveError(f"no such file '{raw_path}'", 404)
        user = self._authenticate(request)
        segments = tuple(urllib.parse.unquote(s) for s in raw_path[len(_PREFIX) :].split("/") if s)
        match = self._schema.match(segments)
        if match is None:
            raise PveError(f"Path '/{'/'.join(segments)}' does not exist", 501)
        path, in_path = match
        operation = self._schema.operation(request.method, path)
        if operation is None:
            raise PveError(f"Method '{request.method} /{'/'.join(segments)}' not implemented", 501)
        given.update(await _parameters(request, operation))
        clean, errors = operation.verify({**given, **in_path})
        if errors:
            raise parameter_error(errors)
        handler = ROUTES.get((request.method, path))
        if handler is None:
            self._pve.record.counts["unserved"] += 1
            log.warning("not served: %s %s", request.method, path)
            raise PveError(f"the lab does not serve {request.method} {path}", 501)
        self._check_node(clean)
        data = await handler(self._pve, Call(clean, user, host))
        if complaints := operation.complaints(data):
            log.error("answer breaks the schema: %s %s: %s", request.method, path, complaints)
            self._pve.record.violation(f"{request.method} {path}", complaints)
        return data

    def _check_node(self, parameters: Mapping[str, Any]) -> None:
        node = parameters.get("node")
        if node is None:
            return
        if node not in HOSTS or self._pve.faults.is_lost(node):
            raise PveError(
                f"hostname lookup '{node}' failed - failed to get address info for: {node}: Name or service not known"
            )
        if self._pve.faults.is_down(node):
            raise PveError("No route to host", 595)

    def _authenticate(self, request: web.Request) -> str:
        scheme, _, token = request.headers.get("Authorization", "").partition("=")
        if scheme != "PVEAPIToken":
            raise PveError("No ticket", 401)
        identity, _, secret = token.rpartition("=")
        known = hmac.compare_digest(identity.encode(), self._token_id.encode())
        if not (known and hmac.compare_digest(secret.encode(), self._token_secret.encode())):
            raise PveError("invalid token value!", 401)
        return identity

    def _note(
        self, request: web.Request, path: str, host: str, given: Mapping[str, Any], status: int,
        error: PveError | None, started: float,
    ) -> None:  # fmt: skip
        counts = self._pve.record.counts
        counts["requests"] += 1
        counts["rejected"] += status == 400
        extra = {"error": error.message, "errors": error.errors} if error else {}
        self._pve.record.write(
            "request", host=host, method=request.method, path=urllib.parse.unquote(path),
            params=without_secrets(path, given), status=status, duration=round(time.monotonic() - started, 4), **extra,
        )  # fmt: skip


async def _parameters(request: web.Request, operation: Operation) -> dict[str, Any]:
    pairs = urllib.parse.parse_qsl(request.raw_path.partition("?")[2], keep_blank_values=True)
    if request.method in ("POST", "PUT") and request.can_read_body:
        body = await request.text()
        if request.content_type == "application/json":
            return {**dict(pairs), **json.loads(body)}
        if request.content_type == "application/x-www-form-urlencoded":
            pairs += urllib.parse.parse_qsl(body, keep_blank_values=True)
        else:
            raise PveError(f"upload of type '{request.content_type}' is not served by the lab", 501)
    arrays = operation.array_parameters()
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in arrays:
            found.setdefault(name, []).append(value)
        else:
            found[name] = value
    return found


def _response(status: int, data: Any, error: PveError | None) -> web.Response:
    if error is None:
        return web.json_response({"data": data})
    body: dict[str, Any] = {"data": None, "message": f"{error.message}\n"}
    if error.errors:
        body["errors"] = error.errors
    reason = " ".join(error.message.split()) or "Error"
    return web.json_response(body, status=status, reason=reason)
