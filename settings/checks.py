"""Single values: each check gives the value as the program uses it, or refuses it with the reason."""

from __future__ import annotations

import re
from typing import NoReturn

from pydantic_core import PydanticCustomError

RESERVED_LABELS = ("com.docker.", "io.docker.", "org.dockerproject.", "proxmox-swarm.")
"""Label namespaces that Docker keeps for itself (docs.docker.com, "Docker object labels"), and ours."""

_DNS_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_WORDS = {
    "host name (RFC 1123)": r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
    "usable name": r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}",
    "name of a Proxmox VE storage": r"[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]",
    "name of a Proxmox VE resource pool": r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+){0,2}",
    "name of a network interface": r"[A-Za-z][A-Za-z0-9_.-]{0,14}",
    "name of a disk in Proxmox VE": r"(scsi|virtio|sata|ide)[0-9]{1,2}|unused[0-9]{1,3}",
    "user name": r"[a-z_][a-z0-9_-]{0,31}",
    "domain name": rf"(?=.{{1,253}}\Z){_DNS_LABEL}(\.{_DNS_LABEL})*",
    "SHA-512 digest": r"[0-9A-Fa-f]{128}",
    "absolute path without . and .. and special characters": r"(/[A-Za-z0-9][A-Za-z0-9._-]*)+",
}
# swarmkit's constraint parser takes these characters in a label's name (manager/constraint/constraint.go).
_LABEL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,253}")
# What a date without quotes becomes: Go's way to print a time (Pulumi reads stack files with it), or an RFC 3339 one.
_DATE = re.compile(r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})( [0-9:.]+ [+-][0-9]{4} \S+|T00:00:00Z)")
_ENGINE_VERSION = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}")
_DURATION = re.compile(r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?")
_SYSTEM_TREE = re.compile(r"/(bin|boot|dev|etc|lib|lib64|proc|root|run|sbin|sys|tmp|usr)(/.*)?")
_SHARED_PARENT = re.compile(r"/(home|media|mnt|opt|srv|var|var/(lib|log|cache|tmp))")
_DOCKER_ROOT = re.compile(r"/var/lib/docker(/.*)?")


def refuse(why: str) -> NoReturn:
    """Refuse the value that is being validated, with the reason."""
    raise PydanticCustomError("refused", "{why}", {"why": why})


def text(value: object) -> str:
    """The value where it is text."""
    return value if isinstance(value, str) else refuse("not text")


def is_word(kind: str, value: str) -> bool:
    """Whether the whole text is one of a kind, a key of the table above."""
    return re.fullmatch(_WORDS[kind], value) is not None


def word(kind: str, value: str) -> str:
    """The value where it is one of a kind."""
    return value if is_word(kind, value) else refuse(f"not {'an' if kind.startswith('a') else 'a'} {kind}")


def host_name(value: str) -> str:
    """A lower-case host name of one label."""
    if is_word("host name (RFC 1123)", value.lower()) and value != value.lower():
        refuse(f"host names are compared without case: write {value.lower()}")
    return word("host name (RFC 1123)", value)


def engine_version(value: str) -> str:
    """A version of the engine, all three numbers of it: less would install another one tomorrow."""
    if _ENGINE_VERSION.fullmatch(value):
        return value
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        refuse("an engine version has three numbers")
    refuse("write the engine's own version, not a package's" if value[:1].isdigit() else "not an engine version")


def undeclared(value: str) -> str:
    """What to do about nodes that nobody declared."""
    return value if value in ("report", "remove") else refuse("not a word that is accepted")


def user(value: str) -> str:
    """A Linux account that is not root."""
    if value == "root":
        refuse("nodes are reached by an account of their own, with sudo")
    return word("user name", value)


def sha512(value: str) -> str:
    """A digest, in lower case."""
    return word("SHA-512 digest", value).lower()


def duration(least: str, most: str, value: object) -> int:
    """``90s``, ``5m``, ``1h30m``, ``90d`` in seconds, from ``least`` to ``most``, which are written the same way."""
    if isinstance(value, int) and not isinstance(value, bool):
        refuse(f'a number without a unit: write "{value}s" or "{value}m"')
    total = _seconds(value) if isinstance(value, str) else None
    if total is None:
        refuse("not a duration")
    if total < (_seconds(least) or 0):
        refuse(f"below {least}")
    if total > (_seconds(most) or 0):
        refuse(f"above {most}")
    return total


def _seconds(value: str) -> int | None:
    match = _DURATION.fullmatch(value)
    if match is None or not value:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def memory(value: float) -> float:
    """Memory in GiB."""
    if not 0.25 <= value <= 4096:
        refuse("out of range")
    if value * 1024 != int(value * 1024):
        refuse("not a whole number of MiB")
    return value


def label_name(value: str) -> str:
    """The name of a node's or swarm's label."""
    if not _LABEL_NAME.fullmatch(value):
        refuse("a placement constraint could not name this label")
    for prefix in RESERVED_LABELS:
        if f"{value.lower()}.".startswith(prefix):
            refuse(f"labels that begin with {prefix} are reserved")
    return value


def label_value(value: str) -> str:
    """The value of a label: any text that is not the remains of a YAML date."""
    date = _DATE.fullmatch(value)
    if date is not None:
        refuse(f'YAML read a date here: write "{date["day"]}" in quotes')
    return value


def mount(value: str) -> str:
    """Where a data disk may be mounted."""
    word("absolute path without . and .. and special characters", value)
    if _SYSTEM_TREE.fullmatch(value) or _SHARED_PARENT.fullmatch(value):
        refuse("a file system mounted there would hide the system's own files")
    if _DOCKER_ROOT.fullmatch(value):
        refuse("Docker's own directory: it holds the node's swarm identity, which belongs to the machine")
    return value
