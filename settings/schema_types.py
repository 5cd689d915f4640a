"""The types that settings are made of: each says what it accepts and refuses everything else with a reason."""

from __future__ import annotations

import base64
import binascii
import re
import struct
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_interface
from typing import Annotated, Any, NoReturn
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError, PydanticUndefined

from proxmox_swarm.settings.errors import holds_secret

RESERVED_LABELS = ("com.docker.", "io.docker.", "org.dockerproject.", "proxmox-swarm.")
"""Label namespaces that Docker keeps for itself (docs.docker.com, "Docker object labels"), and ours."""

_HOST_NAME = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
_DOMAIN = re.compile(r"^(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$", re.I)
_KEY = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")
_DATASTORE = re.compile(r"^[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]$")
_INTERFACE = re.compile(r"^[A-Za-z][A-Za-z0-9_.-]{0,14}$")
_USER = re.compile(r"^[a-z_][a-z0-9_-]{0,31}$")
_RESOURCE_POOL = re.compile(r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+){0,2}$")
_LABEL_KEY = re.compile(r"^[A-Za-z0-9_.-]+$")
_MIDNIGHT = re.compile(r"^\d{4}-\d\d-\d\dT00:00:00Z$")
_MAC = re.compile(r"^[0-9A-F]{2}(:[0-9A-F]{2}){5}$")
_DURATION = re.compile(r"^(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$")
_VERSION = re.compile(r"^(\d+:)?\d[A-Za-z0-9.+~-]*$")
_MOUNT = re.compile(r"^(/[A-Za-z0-9][A-Za-z0-9._-]*)+$")
_SYSTEM_TREE = re.compile(r"^/(bin|boot|dev|etc|lib|lib64|proc|root|run|sbin|sys|tmp|usr)(/|$)")
_SHARED_PARENT = re.compile(r"^/(home|media|mnt|opt|srv|var|var/(lib|log|cache|tmp))$")
_DOCKER_ROOT = re.compile(r"^/var/lib/docker(/|$)")


class Keys(BaseModel):
    """A mapping of settings: camelCase keys, exact types, no unknown keys."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, alias_generator=to_camel)


def key(
    doc: str,
    accepted: str,
    *,
    default: Any = PydanticUndefined,
    example: str,
    otherwise: str = "",
    **limits: int,
) -> Any:
    """Declare one key.

    ``doc`` says what it does, ``accepted`` what may stand there (used in errors and in the reference), ``example`` is
    YAML, ``otherwise`` describes the default where the value alone would not tell, ``limits`` are pydantic's (ge, le,
    min_length, max_length). A default of None means "not written": writing ``null`` is refused like any wrong type.
    """
    extra = {"accepted": accepted, "example": example, "otherwise": otherwise}
    if callable(default):
        return Field(default_factory=default, description=doc, json_schema_extra=extra, **limits)  # type: ignore[call-overload]
    return Field(default, description=doc, json_schema_extra=extra, **limits)  # type: ignore[call-overload]


def refuse(why: str) -> NoReturn:
    """Refuse the value that is being validated, with the reason."""
    raise PydanticCustomError("refused", "{why}", {"why": why})


def _host_name(value: str) -> str:
    if not _HOST_NAME.match(value):
        if _HOST_NAME.match(value.lower()):
            refuse(f"host names are compared without case: write {value.lower()}")
        refuse("not a host name (RFC 1123)")
    return value


def _map_key(value: str) -> str:
    if not _KEY.match(value):
        refuse("not a usable name")
    return value


def _pattern(pattern: re.Pattern[str], why: str) -> AfterValidator:
    def check(value: str) -> str:
        if not pattern.match(value):
            refuse(why)
        return value

    return AfterValidator(check)


def _subnet(value: str) -> IPv4Network:
    try:
        interface = ip_interface(value)
    except ValueError:
        refuse("not an address with a prefix length")
    network = interface.network
    if not isinstance(network, IPv4Network) or "/" not in value:
        refuse("not an IPv4 subnet with a prefix length")
    if str(network) != value:
        refuse(f"has bits set behind the prefix: the subnet is {network}")
    return network


def _subnets(value: object) -> list[IPv4Network]:
    if isinstance(value, list) and value:
        return [_subnet(_text(item)) for item in value]
    return [_subnet(_text(value))]


def _node_subnet(value: str) -> IPv4Network:
    network = _subnet(value)
    if not 8 <= network.prefixlen <= 30:
        refuse(f"a /{network.prefixlen} does not hold a network of nodes")
    if network.is_loopback or network.is_multicast or network.is_link_local or network.is_unspecified:
        refuse("loopback, multicast and link-local ranges carry no node traffic")
    return network


def _ipv4(value: str) -> IPv4Address:
    try:
        address = ip_address(value)
    except ValueError:
        refuse("not an IP address")
    if not isinstance(address, IPv4Address):
        refuse("not an IPv4 address")
    return address


def _ip(value: str) -> str:
    try:
        return str(ip_address(value))
    except ValueError:
        refuse("not an IP address")


def _host_part(value: object) -> int | dict[str, int | IPv4Address]:
    """``30``, or ``{main: 30, storage: 192.168.12.77}``."""
    if isinstance(value, dict) and value:
        return {_map_name(name): _one_host_part(item) for name, item in value.items()}
    if isinstance(value, str) and _looks_like_address(value):
        refuse("an address belongs to one network: write the last octet alone, or an address for each network")
    part = _one_host_part(value)
    if not isinstance(part, int):
        refuse("neither a last octet nor a mapping")
    return part


def _map_name(value: object) -> str:
    return value if isinstance(value, str) else refuse("names of networks are text")


def _one_host_part(value: object) -> int | IPv4Address:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        refuse("neither a last octet nor an address")
    if isinstance(value, str):
        if value.isdecimal():
            refuse("write the number without quotes")
        return _ipv4(value)
    if not 0 <= value <= 255:
        refuse("a last octet is 0 to 255")
    return value


def _looks_like_address(value: str) -> bool:
    try:
        ip_address(value)
    except ValueError:
        return False
    return True


def _user(value: str) -> str:
    if value == "root":
        refuse("nodes are reached by an account of their own, with sudo")
    if not _USER.match(value):
        refuse("not a user name")
    return value


def _mac(value: str) -> str:
    mac = value.upper().replace("-", ":")
    if not _MAC.match(mac):
        refuse("not a MAC address")
    if int(mac[:2], 16) & 1:
        refuse("a multicast address (the first octet is odd)")
    if mac == "00:00:00:00:00:00":
        refuse("the empty MAC address")
    return mac


def _duration(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        refuse("not a duration")
    if isinstance(value, int):
        refuse(f'a number without a unit: write "{value}s" or "{value}m"')
    match = _DURATION.match(value)
    if not value or match is None:
        refuse("not a duration")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if total < 1:
        refuse("no time at all")
    if total > 10 * 365 * 86400:
        refuse("longer than ten years")
    return total


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        refuse("not a URL")
    if parts.scheme not in ("http", "https"):
        refuse("not an http or https URL")
    if not parts.hostname or port == 0 or any(c.isspace() for c in value):
        refuse("not a URL with a host")
    if parts.username is not None or parts.password is not None:
        refuse("credentials do not belong into a URL in settings")
    return value


def _endpoint(value: str) -> str:
    _url(value)
    parts = urlsplit(value)
    if parts.scheme != "https":
        refuse("the Proxmox VE API is served over https only; plain http would send the API token in clear")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        refuse("an endpoint has no path: /api2/json is added by the program")
    return value.rstrip("/")


def _ssh(value: str) -> tuple[str, int]:
    host, _, port = value.partition(":")
    if not (_DOMAIN.match(host) or _looks_like_address(host)):
        refuse("not a host name or IPv4 address")
    if ":" in value and not (port.isdecimal() and len(port) < 6 and 1 <= int(port) <= 65535):
        refuse("not a port")
    return host, int(port) if port else 22


def _ssh_key(value: str) -> str:
    if holds_secret(value):
        refuse(
            "this is a PRIVATE key: remove it from the file, consider it known to others, and give the .pub file's line"
        )
    words = value.split()
    if "\n" in value.strip() or len(words) < 2:
        refuse("not one line of an OpenSSH public key")
    kind, body = words[:2]
    if kind not in SSH_KEY_TYPES:
        refuse(f"not a key type that is accepted: {kind[:40]}")
    try:
        fields = _ssh_fields(base64.b64decode(body, validate=True))
    except (binascii.Error, struct.error, ValueError):
        refuse("the key's base64 part is damaged or cut off")
    if not fields or fields[0] != kind.encode() or len(fields) < SSH_KEY_TYPES[kind]:
        refuse("the key's base64 part is not a key of the type before it")
    if kind == "ssh-ed25519" and len(fields[1]) != 32:
        refuse("the key's base64 part is damaged or cut off")
    if kind == "ssh-rsa" and int.from_bytes(fields[2], "big").bit_length() < 2048:
        refuse("an RSA key shorter than 2048 bits")
    return " ".join(words)


SSH_KEY_TYPES = {
    "ssh-ed25519": 2,
    "ssh-rsa": 3,
    "ecdsa-sha2-nistp256": 3,
    "ecdsa-sha2-nistp384": 3,
    "ecdsa-sha2-nistp521": 3,
    "sk-ssh-ed25519@openssh.com": 3,
    "sk-ecdsa-sha2-nistp256@openssh.com": 4,
}
"""Key types that OpenSSH takes, with the number of fields in each one's blob (RFC 4253 §6.6, RFC 5656, RFC 8709)."""


def _ssh_fields(blob: bytes) -> list[bytes]:
    fields, offset = [], 0
    while offset < len(blob):
        (length,) = struct.unpack_from(">I", blob, offset)
        offset += 4
        if offset + length > len(blob):
            raise ValueError("cut off")
        fields.append(blob[offset : offset + length])
        offset += length
    return fields


def _sha512(value: str) -> str:
    if not re.fullmatch(r"[0-9A-Fa-f]{128}", value):
        refuse(f"{len(value)} characters that are not a SHA-512 digest")
    return value.lower()


def _label_key(value: str) -> str:
    if not _LABEL_KEY.match(value) or len(value) > 253:
        refuse("a placement constraint could not name this label")
    for prefix in RESERVED_LABELS:
        if f"{value.lower()}.".startswith(prefix):
            refuse(f"labels that begin with {prefix} are reserved")
    return value


def _label_value(value: str) -> str:
    if _MIDNIGHT.match(value):
        refuse(f'YAML turned a date into a timestamp: write "{value[:10]}" in quotes')
    return value


def _version(value: str) -> str:
    if not _VERSION.match(value):
        refuse("not a package version")
    return value


def _mount(value: str) -> str:
    if not _MOUNT.match(value):
        refuse("not an absolute path without . and .. and special characters")
    if _SYSTEM_TREE.match(value) or _SHARED_PARENT.match(value):
        refuse("a file system mounted there would hide the system's own files")
    if _DOCKER_ROOT.match(value):
        refuse("Docker's own directory: it holds the node's swarm identity, which belongs to the machine")
    return value


def _memory(value: float) -> float:
    mebibytes = value * 1024
    if not 0.25 <= value <= 4096:
        refuse("out of range")
    if mebibytes != int(mebibytes):
        refuse("not a whole number of MiB")
    return value


HostName = Annotated[str, AfterValidator(_host_name)]
Name = Annotated[str, AfterValidator(_map_key)]
Datastore = Annotated[str, _pattern(_DATASTORE, "not the name of a Proxmox VE storage")]
Interface = Annotated[str, _pattern(_INTERFACE, "not the name of a network interface")]
ResourcePool = Annotated[str, _pattern(_RESOURCE_POOL, "not the name of a Proxmox VE resource pool")]
User = Annotated[str, AfterValidator(_user)]
Domain = Annotated[str, _pattern(_DOMAIN, "not a domain name")]
Subnets = Annotated[Any, PlainValidator(_subnets)]
NodeSubnet = Annotated[Any, PlainValidator(lambda value: _node_subnet(_text(value)))]
Address4 = Annotated[Any, PlainValidator(lambda value: _ipv4(_text(value)))]
Address = Annotated[str, AfterValidator(_ip)]
HostPart = Annotated[Any, PlainValidator(_host_part)]
Mac = Annotated[str, AfterValidator(_mac)]
Duration = Annotated[int, BeforeValidator(_duration)]
Url = Annotated[str, AfterValidator(_url)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
SshAddress = Annotated[Any, PlainValidator(lambda value: _ssh(_text(value)))]
SshKey = Annotated[str, AfterValidator(_ssh_key)]
Sha512 = Annotated[str, AfterValidator(_sha512)]
LabelKey = Annotated[str, AfterValidator(_label_key)]
LabelValue = Annotated[str, AfterValidator(_label_value)]
Labels = dict[LabelKey, LabelValue]
Version = Annotated[str, AfterValidator(_version)]
Mount = Annotated[str, AfterValidator(_mount)]
Gib = Annotated[float, AfterValidator(_memory)]


def _text(value: object) -> str:
    return value if isinstance(value, str) else refuse("not text")
