"""The named formats of Proxmox VE's schema (``pve-node``, ``mac-addr``, …) and the property strings built from formats.

The schema names most formats without describing them; the expressions here follow PVE::JSONSchema and PVE::QemuServer as
the API reference documents them. A format that is not listed accepts every string.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

#: A check returns the complaint, or ``None`` for a good value.
Check = Callable[[str], str | None]

NOT_DEFINED = "property is not defined in schema and the schema does not allow additional properties"

_CONFIG_ID = r"[a-z][a-z0-9_-]+"
_DNS_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DNS_NAME = rf"(?:{_DNS_LABEL}\.)*{_DNS_LABEL}"
_STORAGE = r"[a-zA-Z][a-zA-Z0-9\-_.]*[a-zA-Z0-9]"
_VOLUME = rf"{_STORAGE}:[^\s,]+"
_TAG = r"[a-zA-Z0-9_][a-zA-Z0-9_\-+.]*"


def _matching(expression: str, what: str) -> Check:
    compiled = re.compile(rf"(?:{expression})\Z", re.ASCII)
    return lambda value: None if compiled.match(value) else f"value does not look like a valid {what}"


def _address(value: str) -> str | None:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        if not re.match(rf"{_DNS_NAME}\Z", value):
            return "value does not look like a valid address"
    return None


def _ip(version: int) -> Check:
    def check(value: str) -> str | None:
        try:
            good = ipaddress.ip_address(value).version == version
        except ValueError:
            good = False
        return None if good else f"value does not look like a valid IPv{version} address"

    return check


def _interface(version: int) -> Check:
    def check(value: str) -> str | None:
        try:
            good = "/" in value and ipaddress.ip_interface(value).version == version
        except ValueError:
            good = False
        return None if good else f"value does not look like a valid IPv{version} CIDR"

    return check


def _mac(value: str) -> str | None:
    if not re.match(r"[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}\Z", value):
        return "value does not look like a valid MAC address"
    if int(value[:2], 16) & 1:
        return "value does not look like a valid unicast MAC address"
    return None


def _boot(value: str) -> str | None:
    if re.match(r"[acdn]{1,4}\Z", value) or re.match(r"legacy=[acdn]{1,4}\Z", value):
        return None
    device = r"(?:(?:ide|scsi|virtio|sata|net|usb|hostpci)\d+)"
    return None if re.match(rf"order=(?:{device}(?:;{device})*)?\Z", value) else "invalid boot order"


def _ipconfig(value: str) -> str | None:
    checks: Mapping[str, Check] = {
        "ip": lambda v: None if v == "dhcp" else _interface(4)(v),
        "gw": _ip(4),
        "ip6": lambda v: None if v in {"dhcp", "auto"} else _interface(6)(v),
        "gw6": _ip(6),
    }
    return _keyed(value, checks, {"gw": "ip", "gw6": "ip6"})


def _cicustom(value: str) -> str | None:
    volume = _matching(_VOLUME, "volume ID")
    return _keyed(value, dict.fromkeys(("user", "network", "meta", "vendor"), volume), {})


def _startup(value: str) -> str | None:
    number = _matching(r"\d+", "number")
    return _keyed(value, dict.fromkeys(("order", "up", "down"), number), {})


def _keyed(value: str, checks: Mapping[str, Check], requires: Mapping[str, str]) -> str | None:
    seen = set()
    for part in filter(None, value.split(",")):
        key, sign, text = part.partition("=")
        if key.isdigit() and not sign:
            continue  # startup=<order> without a key
        if key not in checks:
            return f"format error\n{key}: {NOT_DEFINED}"
        if complaint := checks[key](text):
            return f"format error\n{key}: invalid format - {complaint}"
        seen.add(key)
    for key, other in requires.items():
        if key in seen and other not in seen:
            return f"format error\n{key}: missing property - '{key}' requires this property"
    return None


#: Every named format the lab checks.
FORMATS: dict[str, Check] = {
    "pve-node": _matching(_DNS_LABEL, "node name"),
    "pve-vmid": _matching(r"[1-9][0-9]{2,8}", "VM ID"),
    "pve-storage-id": _matching(_STORAGE, "storage ID"),
    "pve-configid": _matching(rf"(?i:{_CONFIG_ID})", "configuration ID"),
    "pve-poolid": _matching(r"[A-Za-z0-9.\-_]+(?:/[A-Za-z0-9.\-_]+){0,2}", "pool name"),
    "pve-bridge-id": _matching(r"[a-zA-Z][a-zA-Z0-9_.-]{0,19}", "bridge"),
    "pve-volume-id": _matching(_VOLUME, "volume ID"),
    "pve-volume-id-or-qm-path": _matching(rf"none|cdrom|/\S+|{_STORAGE}:[^\s,]+", "volume ID or path"),
    "pve-volume-id-or-absolute-path": _matching(rf"/\S+|{_VOLUME}", "volume ID or path"),
    "pve-tag": _matching(_TAG, "tag"),
    "pve-qm-boot": _boot,
    "pve-qm-ipconfig": _ipconfig,
    "pve-qm-cicustom": _cicustom,
    "pve-startup-order": _startup,
    "pve-hotplug-features": _matching(
        r"0|1|(?:network|disk|cpu|memory|usb|cloudinit)(?:,(?:network|disk|cpu|memory|usb|cloudinit))*", "hotplug list"
    ),
    "pve-cpuset": _matching(r"\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*", "CPU set"),
    "pve-ha-resource-id": _matching(r"(?:vm|ct):\d+", "HA resource ID"),
    "pve-ha-resource-or-vm-id": _matching(r"(?:(?:vm|ct):)?\d+", "HA resource ID or VM ID"),
    "pve-ha-node": _matching(rf"{_DNS_LABEL}(?::\d+)?", "HA node"),
    "dns-name": _matching(_DNS_NAME, "DNS name"),
    "address": _address,
    "ip": lambda v: None if _ip(4)(v) is None or _ip(6)(v) is None else "value does not look like a valid IP address",
    "ipv4": _ip(4),
    "ipv6": _ip(6),
    "CIDRv4": _interface(4),
    "CIDRv6": _interface(6),
    "mac-addr": _mac,
    "disk-size": _matching(r"\d+(?:\.\d+)?[KMGT]?", "disk size"),
    "urlencoded": _matching(r"[-%a-zA-Z0-9_.!~*'()]*", "urlencoded string"),
    "pve-storage-content": _matching(r"images|rootdir|vztmpl|iso|backup|snippets|import|none", "content type"),
}


def check_named(name: str, value: str) -> str | None:
    """Check ``value`` against the format called ``name``; ``-list``, ``-alist`` and ``-opt`` are derived as in Proxmox VE."""
    if check := FORMATS.get(name):
        return check(value)
    if name.endswith("-opt"):
        return None if value == "" else check_named(name.removesuffix("-opt"), value)
    for suffix in ("-list", "-alist"):
        if name.endswith(suffix):
            base = name.removesuffix(suffix)
            for item in filter(None, re.split(r"[,;\s\0]+", value)):
                if complaint := check_named(base, item):
                    return complaint
    return None


@lru_cache(maxsize=512)
def perl_expression(pattern: str) -> re.Pattern[str]:
    """A Perl pattern of the schema as a Python one; Proxmox VE anchors patterns on both sides."""
    translated = re.sub(r"\(\?\^([a-z]*):", r"(?\1:", pattern)
    return re.compile(rf"(?:{translated})\Z")


class PropertyStringError(ValueError):
    """A property string that cannot be split into the keys of its format."""


def parse_property_string(text: str, form: Mapping[str, Any]) -> dict[str, str]:
    """Split ``a,key=b,…`` by ``form`` (a format of the schema): default key, aliases and key aliases resolved.

    Empty parts are dropped, as Perl's ``split`` does: clients send a trailing comma.
    """
    default = next((key for key, spec in form.items() if spec.get("default_key")), None)
    found: dict[str, str] = {}
    for part in text.split(","):
        if not part.strip():
            continue
        key, sign, value = part.partition("=")
        if not sign:
            if default is None or default in found:
                raise PropertyStringError(f"value without key, but schema does not define a default key: {part}")
            key, value = default, part
        spec = form.get(key)
        if spec is None:
            raise PropertyStringError(f"{key}: {NOT_DEFINED}")
        if key_alias := spec.get("keyAlias"):
            found[key_alias] = key
        name = spec.get("alias", key)
        if name in found:
            raise PropertyStringError(f"duplicate key in comma-separated list property: {name}")
        found[name] = value
    return found
