"""Endpoints of high availability: resources and rules are kept and returned; the lab does not act on them."""

from __future__ import annotations

import hashlib
from typing import Any

from proxmox_swarm.lab.pve.core import Call, Pve, route, split_list
from proxmox_swarm.lab.pve.errors import PveError

_HA = "/cluster/ha"


def _sid(text: str) -> str:
    return text if ":" in text else f"vm:{text}"


def _digest(entries: dict[str, dict[str, Any]]) -> str:
    return hashlib.sha1(repr(sorted(entries.items())).encode(), usedforsecurity=False).hexdigest()


@route("GET", f"{_HA}/resources")
async def ha_resources(pve: Pve, call: Call) -> list[dict[str, Any]]:
    """All resources under HA."""
    wanted = call.get("type")
    return [dict(r) for r in pve.state.ha_resources.values() if wanted in (None, r["type"])]


@route("POST", f"{_HA}/resources")
async def create_ha_resource(pve: Pve, call: Call) -> None:
    """Put a VM under HA."""
    sid = _sid(call["sid"])
    if sid in pve.state.ha_resources:
        raise PveError(f"create ha resource failed: resource ID '{sid}' already defined")
    if int(sid.partition(":")[2]) not in pve.state.vms:
        raise PveError(f"create ha resource failed: unable to find '{sid}'")
    options = {k: v for k, v in call.parameters.items() if k in _RESOURCE_OPTIONS}
    pve.state.ha_resources[sid] = {"state": "started", **options, "sid": sid, "type": sid.partition(":")[0]}
    pve.state.save()


_RESOURCE_OPTIONS = {"state", "comment", "max_restart", "max_relocate", "failback", "group", "auto-rebalance"}


@route("GET", f"{_HA}/resources/{{sid}}")
async def ha_resource(pve: Pve, call: Call) -> dict[str, Any]:
    """One resource."""
    return {**_ha_resource(pve, call), "digest": _digest(pve.state.ha_resources)}


def _ha_resource(pve: Pve, call: Call) -> dict[str, Any]:
    sid = _sid(call["sid"])
    if sid not in pve.state.ha_resources:
        raise PveError(f"no such resource '{sid}'")
    return pve.state.ha_resources[sid]


@route("PUT", f"{_HA}/resources/{{sid}}")
async def update_ha_resource(pve: Pve, call: Call) -> None:
    """Change a resource."""
    entry = _ha_resource(pve, call)
    for key in split_list(call.get("delete")):
        entry.pop(key, None)
    entry |= {k: v for k, v in call.parameters.items() if k in _RESOURCE_OPTIONS}
    pve.state.save()


@route("DELETE", f"{_HA}/resources/{{sid}}")
async def delete_ha_resource(pve: Pve, call: Call) -> None:
    """Take a VM out of HA."""
    del pve.state.ha_resources[_ha_resource(pve, call)["sid"]]
    pve.state.save()


_RULE_OPTIONS = {"type", "resources", "nodes", "strict", "affinity", "comment", "disable"}


@route("GET", f"{_HA}/rules")
async def ha_rules(pve: Pve, call: Call) -> list[dict[str, Any]]:
    """All rules."""
    wanted = call.get("type")
    return [dict(r) for r in pve.state.ha_rules.values() if wanted in (None, r["type"])]


@route("POST", f"{_HA}/rules")
async def create_ha_rule(pve: Pve, call: Call) -> None:
    """Make a rule."""
    name = call["rule"]
    if name in pve.state.ha_rules:
        raise PveError(f"create ha rule failed: HA rule '{name}' already defined")
    pve.state.ha_rules[name] = {"rule": name, **{k: v for k, v in call.parameters.items() if k in _RULE_OPTIONS}}
    pve.state.save()


def _ha_rule(pve: Pve, call: Call) -> dict[str, Any]:
    if call["rule"] not in pve.state.ha_rules:
        raise PveError(f"no such ha rule '{call['rule']}'")
    return pve.state.ha_rules[call["rule"]]


@route("GET", f"{_HA}/rules/{{rule}}")
async def ha_rule(pve: Pve, call: Call) -> dict[str, Any]:
    """One rule."""
    return {**_ha_rule(pve, call), "digest": _digest(pve.state.ha_rules)}


@route("PUT", f"{_HA}/rules/{{rule}}")
async def update_ha_rule(pve: Pve, call: Call) -> None:
    """Change a rule."""
    entry = _ha_rule(pve, call)
    for key in split_list(call.get("delete")):
        entry.pop(key, None)
    entry |= {k: v for k, v in call.parameters.items() if k in _RULE_OPTIONS}
    pve.state.save()


@route("DELETE", f"{_HA}/rules/{{rule}}")
async def delete_ha_rule(pve: Pve, call: Call) -> None:
    """Remove a rule."""
    del pve.state.ha_rules[_ha_rule(pve, call)["rule"]]
    pve.state.save()
