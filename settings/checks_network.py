"""Single values of the network: subnets, addresses, MAC addresses, URLs."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from proxmox_swarm.settings.checks import is_word, refuse, text

_MAC = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){5}")
_PORT = re.compile(r"[1-9][0-9]{0,4}")


def subnet(value: str) -> IPv4Network:
    """An IPv4 subnet with its prefix length and no bits behind it."""
    try:
        network = ip_network(value, strict=False)
    except ValueError:
        refuse("not an address with a prefix length")
    if not isinstance(network, IPv4Network) or "/" not in value:
        refuse("not an IPv4 subnet with a prefix length")
    if str(network) != value:
        refuse(f"not written as a subnet is: {network}")
    return network


def subnets(value: object) -> list[IPv4Network]:
    """One subnet or a list of them."""
    many = value if isinstance(value, list) and value else [value]
    return [subnet(text(item)) for item in many]


def node_subnet(value: object) -> IPv4Network:
    """A subnet that nodes can be on."""
    network = subnet(text(value))
    if not 8 <= network.prefixlen <= 30:
        refuse(f"a /{network.prefixlen} does not hold a network of nodes")
    if network.is_loopback or network.is_multicast or network.is_link_local or network.is_unspecified:
        refuse("loopback, multicast and link-local ranges carry no node traffic")
    return network


def ipv4(value: object) -> IPv4Address:
    """An IPv4 address."""
    try:
        address = ip_address(text(value))
    except ValueError:
        refuse("not an IP address")
    return address if isinstance(address, IPv4Address) else refuse("not an IPv4 address")


def ip(value: str) -> str:
    """An IP address of either kind, in its usual form."""
    return str(ip_address(value)) if is_address(value) else refuse("not an IP address")


def is_address(value: str) -> bool:
    """Whether the text is an IP address."""
    try:
        ip_address(value)
    except ValueError:
        return False
    return True


def host_part(value: object) -> int | dict[str, int | IPv4Address]:
    """``30`` for every network, or ``{main: 30, storage: 192.168.12.77}``."""
    if isinstance(value, dict) and value:
        return {text(name): _one_host_part(item) for name, item in value.items()}
    if isinstance(value, str) and is_address(value):
        refuse("an address belongs to one network: write the last octet alone, or an address for each network")
    part = _one_host_part(value)
    return part if isinstance(part, int) else refuse("neither a last octet nor a mapping")


def _one_host_part(value: object) -> int | IPv4Address:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        refuse("neither a last octet nor an address")
    if isinstance(value, str):
        if value.isdecimal():
            refuse("write the number without quotes")
        return ipv4(value)
    if not 0 <= value <= 255:
        refuse("a last octet is 0 to 255")
    return value


def mac(value: str) -> str:
    """A unicast MAC address, in capitals with colons as Proxmox VE writes it."""
    address = value.upper().replace("-", ":")
    if not _MAC.fullmatch(address) or address == "00:00:00:00:00:00":
        refuse("not a MAC address")
    if int(address[:2], 16) & 1:
        refuse("a multicast address (the first octet is odd)")
    return address


def url(value: str) -> str:
    """An http or https URL that carries no credentials."""
    _split(value)
    return value


def endpoint(value: str) -> str:
    """The address of a Proxmox VE API."""
    parts = _split(value)
    if parts.scheme != "https":
        refuse("the Proxmox VE API is served over https only; plain http would send the API token in clear")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        refuse("an endpoint has no path: /api2/json is added by the program")
    return value.rstrip("/")


def ssh_address(value: object) -> tuple[str, int]:
    """``host`` or ``host:port``."""
    host, colon, port = text(value).partition(":")
    if not is_word("domain name", host):
        refuse("not a host name or IPv4 address")
    if colon and not (_PORT.fullmatch(port) and int(port) <= 65535):
        refuse("not a port")
    return host, int(port) if port else 22


def _split(value: str) -> SplitResult:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        refuse("not a URL")
    if parts.scheme not in ("http", "https"):
        refuse("not an http or https URL")
    if parts.username is not None or parts.password is not None:
        refuse("credentials do not belong into a URL in settings")
    # urlsplit drops line breaks and tabs silently: they must not reach a file or a request.
    if not parts.hostname or port == 0 or any(c.isspace() or not c.isprintable() for c in value):
        refuse("not a URL with a host")
    return parts
