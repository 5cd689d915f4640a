"""Docker's daemon.json: every node's defaults, and the keys that would break a swarm or keep dockerd from starting."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, ip_interface, ip_network
from typing import cast

from proxmox_swarm.settings.errors import Path, Problem, show

PATH: Path = ("docker", "daemon")

LOG_OPTS = {"max-size": "100m", "max-file": "3"}
DEFAULTS: Mapping[str, object] = {"log-driver": "json-file", "log-opts": LOG_OPTS, "storage-driver": "overlay2"}

# Keys of daemon.json (moby daemon/config/config.go and config_linux.go) with the JSON type of each. Keys that are not
# here pass, since newer engines know more, except those that look like a misspelt one: dockerd does not start with an
# unknown key, and the next restart would take the node down.
_KEYS: Mapping[type, str] = {
    bool: """
        allow-direct-routing cri-containerd debug experimental icc init ip-forward ip-forward-no-drop ip-masq
        ip6tables iptables ipv6 live-restore no-new-privileges raw-logs selinux-enabled tls tlsverify userland-
        proxy
        """,
    int: """
        cpu-rt-period cpu-rt-runtime max-concurrent-downloads max-concurrent-uploads max-download-attempts mtu
        network-control-plane-mtu network-diagnostic-port shutdown-timeout
        """,
    str: """
        bip bip6 bridge bridge-accept-fwmark cgroup-parent containerd containerd-namespace containerd-plugin-
        namespace data-root default-cgroupns-mode default-gateway default-gateway-v6 default-init default-ipc-
        mode default-runtime exec-root firewall-backend fixed-cidr fixed-cidr-v6 group host-gateway-ip init-path
        ip log-driver log-format log-level metrics-addr pidfile resolv-conf seccomp-profile storage-driver swarm-
        default-advertise-addr tlscacert tlscert tlskey userland-proxy-path userns-remap
        """,
    list: """
        authorization-plugins cdi-spec-dirs default-address-pools dns dns-opts dns-search exec-opts host-gateway-
        ips hosts insecure-registries labels node-generic-resources registry-mirrors storage-opts
        """,
    dict: "builder default-network-opts default-ulimits features log-opts proxies runtimes",
}
_TYPES: Mapping[str, type] = {name: kind for kind, names in _KEYS.items() for name in names.split()}
_TYPE_NAMES = {bool: "true or false", int: "a whole number", str: "text", list: "a list", dict: "a mapping"}

NEVER: Mapping[str, tuple[object, str, str]] = {
    "live-restore": (
        True,
        "live-restore is incompatible with swarm mode: a node with it cannot join, and dockerd of a member does not start",
        "no live-restore, or false",
    ),
    "iptables": (
        False,
        "without iptables rules no service can publish a port and containers reach nothing outside",
        "no iptables, or true",
    ),
    "ip-forward": (False, "without forwarding no container reaches another network", "no ip-forward, or true"),
    "firewall-backend": (
        "nftables",
        "the nftables backend is incompatible with swarm mode",
        "no firewall-backend, or iptables",
    ),
}
"""Values that break a swarm: the value, why, and what is accepted."""

OWNED: Mapping[str, str] = {
    "hosts": "Debian's docker.service already passes -H, so dockerd would not start; and a TCP socket gives whoever "
    "reaches it root. Nodes are reached by SSH",
    "data-root": "the node's swarm identity is kept in it: moved, every node would forget the swarm",
    "swarm-default-advertise-addr": "the advertise address is the node's address on its first network",
    "swarm-raft-election-tick": "dockerd takes it for an unknown option and would not start",
    "swarm-raft-heartbeat-tick": "dockerd takes it for an unknown option and would not start",
    "cluster-store": "it belongs to the old, separate Swarm: dockerd no longer starts with it",
    "cluster-advertise": "it belongs to the old, separate Swarm: dockerd no longer starts with it",
}
"""Keys that are not the operator's, with the reason."""


def merged(declared: Mapping[str, object]) -> dict[str, object]:
    """The daemon.json to write: what was declared over the defaults. ``log-opts`` are added up where the driver allows."""
    result: dict[str, object] = copy.deepcopy({**DEFAULTS, **declared})
    own_opts = declared.get("log-opts")
    if result["log-driver"] not in ("json-file", "local"):
        # max-size and max-file mean nothing to other drivers: they refuse them, and no container would start.
        if own_opts is None:
            del result["log-opts"]
    elif isinstance(own_opts, Mapping):
        result["log-opts"] = {**LOG_OPTS, **own_opts}
    return result


def address_pools(declared: Mapping[str, object]) -> list[tuple[Path, IPv4Network]]:
    """The IPv4 subnets that daemon.json gives to Docker's own networks, each with its place in settings."""
    found: list[tuple[Path, IPv4Network]] = []
    pools = declared.get("default-address-pools")
    for index, pool in enumerate(pools if isinstance(pools, list) else []):
        network = _network(pool.get("base")) if isinstance(pool, Mapping) else None
        if network is not None:
            found.append(((*PATH, "default-address-pools", index, "base"), network))
    try:
        bridge = ip_interface(str(declared.get("bip"))).network
    except ValueError:
        return found
    return [*found, ((*PATH, "bip"), bridge)] if isinstance(bridge, IPv4Network) else found


def check(declared: Mapping[str, object]) -> Iterator[Problem]:
    """What is wrong with the declared keys of daemon.json."""
    for name, value in declared.items():
        path: Path = (*PATH, name)
        if name in OWNED:
            yield Problem(path, None, OWNED[name], "settings without this key")
        elif name not in _TYPES:
            yield from _unknown(name, path)
        elif not _is(value, _TYPES[name]):
            yield Problem(
                path,
                show(value),
                "of the wrong type: dockerd would not start",
                _TYPE_NAMES[_TYPES[name]],
                _quotes(value, _TYPES[name]),
            )
        elif name in NEVER and value == NEVER[name][0]:
            yield Problem(path, show(value), NEVER[name][1], NEVER[name][2])
    yield from _log_opts(declared)
    yield from _pools(declared)


def _unknown(name: str, path: Path) -> Iterator[Problem]:
    folded = name.replace("_", "-").lower()
    close = [folded] if folded in _TYPES else difflib.get_close_matches(folded, _TYPES, n=1, cutoff=0.88)
    if close:
        yield Problem(
            path,
            None,
            "dockerd does not know this key and would not start",
            "the keys of daemon.json",
            f"Did you mean {close[0]}?",
        )


def _log_opts(declared: Mapping[str, object]) -> Iterator[Problem]:
    options = declared.get("log-opts")
    for name, value in options.items() if isinstance(options, Mapping) else ():
        if not isinstance(value, str):
            yield Problem(
                (*PATH, "log-opts", str(name)),
                show(value),
                "dockerd reads text only here",
                "text in quotes",
                _quotes(value, str),
            )


def _pools(declared: Mapping[str, object]) -> Iterator[Problem]:
    accepted = "{base: an IPv4 subnet, size: prefix length of each network, from the base's to 30}"
    pools = declared.get("default-address-pools")
    for index, pool in enumerate(pools if isinstance(pools, list) else []):
        path: Path = (*PATH, "default-address-pools", index)
        if not isinstance(pool, Mapping) or set(pool) != {"base", "size"}:
            yield Problem(path, show(pool), "not a mapping with base and size", accepted)
            continue
        base, size = _network(pool["base"]), pool["size"]
        if base is None:
            yield Problem((*path, "base"), show(pool["base"]), "not an IPv4 subnet", accepted)
        elif not _is(size, int) or not base.prefixlen <= cast(int, size) <= 30:
            yield Problem((*path, "size"), show(size), f"no prefix length within {base}", accepted)


def _network(value: object) -> IPv4Network | None:
    try:
        network = ip_network(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return network if isinstance(network, IPv4Network) else None


def _is(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _quotes(value: object, kind: type) -> str:
    if kind is str and isinstance(value, (bool, int, float)):
        return f'Write it in quotes: "{str(value).lower()}"'
    if kind in (bool, int) and isinstance(value, str):
        return "Write it without quotes"
    return ""
