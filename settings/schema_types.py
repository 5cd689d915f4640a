"""The types that settings are made of."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticUndefined

from proxmox_swarm.settings import checks, checks_network
from proxmox_swarm.settings.ssh_key import host_key, ssh_public_key


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
    options: dict[str, Any] = {"description": doc, "json_schema_extra": extra, **limits}
    options["default_factory" if callable(default) else "default"] = default
    return Field(**options)


def _word(kind: str) -> AfterValidator:
    return AfterValidator(partial(checks.word, kind))


HostName = Annotated[str, AfterValidator(checks.host_name)]
Name = Annotated[str, _word("usable name")]
Datastore = Annotated[str, _word("name of a Proxmox VE storage")]
Interface = Annotated[str, _word("name of a network interface")]
ResourcePool = Annotated[str, _word("name of a Proxmox VE resource pool")]
Domain = Annotated[str, _word("domain name")]
EngineVersion = Annotated[str, AfterValidator(checks.engine_version)]
Undeclared = Annotated[str, AfterValidator(checks.undeclared)]
User = Annotated[str, AfterValidator(checks.user)]
Sha512 = Annotated[str, AfterValidator(checks.sha512)]
Mount = Annotated[str, AfterValidator(checks.mount)]
Gib = Annotated[float, AfterValidator(checks.memory)]
Deadline = Annotated[int, BeforeValidator(partial(checks.duration, "1s", "1d"))]
CertificateExpiry = Annotated[int, BeforeValidator(partial(checks.duration, "1h", "3650d"))]
Heartbeat = Annotated[int, BeforeValidator(partial(checks.duration, "1s", "1h"))]
Labels = dict[Annotated[str, AfterValidator(checks.label_name)], Annotated[str, AfterValidator(checks.label_value)]]
SshKey = Annotated[str, AfterValidator(ssh_public_key)]
HostKey = Annotated[str, AfterValidator(host_key)]
Disk = Annotated[str, _word("name of a disk in Proxmox VE")]

Subnets = Annotated[Any, PlainValidator(checks_network.subnets)]
NodeSubnet = Annotated[Any, PlainValidator(checks_network.node_subnet)]
Address4 = Annotated[Any, PlainValidator(checks_network.ipv4)]
Address = Annotated[str, AfterValidator(checks_network.ip)]
HostPart = Annotated[Any, PlainValidator(checks_network.host_part)]
Mac = Annotated[str, AfterValidator(checks_network.mac)]
Url = Annotated[str, AfterValidator(checks_network.url)]
Endpoint = Annotated[str, AfterValidator(checks_network.endpoint)]
SshAddress = Annotated[Any, PlainValidator(checks_network.ssh_address)]

LABELS = (
    "a mapping of label to text; a label is letters, digits, `.`, `_`, `-` and does not begin with com.docker., io.docker., "
    "org.dockerproject. or proxmox-swarm.; its value is text, in quotes where YAML would read something else"
)
DATASTORE = "the name of a Proxmox VE storage, 2 characters or more, a letter first"
DURATION = "a whole number with a unit, `90s`, `5m`, `2h`, `90d`, or several, `1h30m`"
