"""docs/settings.md, made from the models, so that it says what the program does.

``python -m proxmox_swarm.settings.reference > docs/settings.md`` writes it; a test compares the two.
"""

from __future__ import annotations

import inspect
import json
import sys
from typing import cast

from pydantic.fields import FieldInfo

from proxmox_swarm.settings import daemon, schema
from proxmox_swarm.settings.derive import HOLDER_OFFSET, holder_name
from proxmox_swarm.settings.rules_nodes import MAX_NAME
from proxmox_swarm.settings.schema_types import Keys
from proxmox_swarm.settings.translate import alias, nested_model

SECTIONS: tuple[tuple[str, type[Keys]], ...] = (
    ("proxmox", schema.Proxmox),
    ("proxmox.hosts.<host>", schema.ProxmoxHost),
    ("proxmox.image", schema.Image),
    ("networks.<network>", schema.Network),
    ("pools.<pool>", schema.Pool),
    ("nodes.<node>", schema.Node),
    ("access", schema.Access),
    ("os", schema.Os),
    ("os.dns", schema.Dns),
    ("os.aptCache", schema.AptCache),
    ("docker", schema.Docker),
    ("cluster", schema.Cluster),
    ("cluster.rotate", schema.Rotate),
    ("deadlines", schema.Deadlines),
    ("rolling", schema.Rolling),
    ("guards", schema.Guards),
)
"""Every mapping of settings, by the path that people write."""

INTRODUCTION = f"""# Settings

<!-- Made from settings/schema_*.py by `python -m proxmox_swarm.settings.reference > docs/settings.md`. Edit there. -->

A stack's settings are in `Pulumi.<stack>.yaml`, under `config`, each top-level key with the project's prefix: `swarm:nodes`.
`Pulumi.prod.yaml` is a complete example. They are read before anything is made or changed, in `pulumi preview` too. All that
is wrong is told at once: the key as `pulumi config set --path` takes it, the value, what is accepted, and often a hint.

    swarm:nodes.docker-app-2.ip = 30: 192.168.4.30 on network main: node docker-app-1 has it already. Accepted: an address of
    its own inside 192.168.4.0/24, by its last octet or in full.

Keys that nobody knows are errors, and so is a key with nothing behind it. Required keys have no default.

## How a value is read

- **YAML reads some words as something else.** Text that looks like a number, `true` or a date goes in quotes:
  `labels: {{engine: "29.10"}}` (bare it is 29.1), `labels: {{zone: "010"}}` (bare it is 8),
  `labels: {{portainer.data: "true"}}`.
- **Sizes** are whole GiB; memory may have a fraction (`0.5`). **Durations** have a unit: `90s`, `5m`, `1h30m`, `90d`.
- **A pool** starts from `pools.default`, **a node** from its pool; the nearest value counts. Labels are added up instead.
- **Order**: Pulumi hands mappings over alphabetically, so nodes are taken in the natural order of their names (app-2 before
  app-10). Only lists keep their order, such as a pool's `networks`.
- **What follows from the rest**: a node's address is its network's with the last octet `ip`; its MAC address is made from
  `id` and the VLAN (`02:00:01:00:40:04` is id 4100 on VLAN 4), so that no two are the same; its data disk belongs to a
  machine that is never started, with `id` + {HOLDER_OFFSET}, and has the serial `data-<that id>`.
- **Included files**: `swarm:include` lists YAML files with more settings, keys without the prefix. They lie under the stack's
  own: mappings are merged, and where both have a value (a list too) the stack's wins, then the later file. `${{NAME}}` and
  `${{NAME:-otherwise}}` in a path come from the environment. The lab writes such a file: what is generated on its machine.
- **Credentials** are never settings. They come from the environment: `PROXMOX_VE_API_TOKEN` for Proxmox VE's API; for the
  snippets, which go to its hosts over SSH, `PROXMOX_VE_SSH_USERNAME` with either `PROXMOX_VE_SSH_AGENT=true` (the agent of
  `SSH_AUTH_SOCK` is not asked without it) or the key itself in `PROXMOX_VE_SSH_PRIVATE_KEY`. `swarm:secrets` is kept for
  secrets of stacks and must be empty in this version.

## What is checked between settings

- One, three, five or seven managers; an even number only with `guards.evenManagers`. The loss of one Proxmox VE host must not
  lose the quorum of three or more managers, unless `guards.managersOnOneHost` says that it is meant.
- No more workers may be out at once (`rolling.maxUnavailable`) than there are.
- Names, addresses, MAC addresses and ids (those of data disks' owners too) are there once. Addresses are inside their subnet
  and are not its first, its last, a gateway's or a Proxmox VE host's.
- Hosts, pools, networks and datastores that are named are declared. A boot disk is not smaller than the image.
- The image's format is known: Proxmox VE reads it from the end of the name, so that of `.img` is said by `format`.
- A node with a data disk has a name of up to {MAX_NAME - len(holder_name(""))} characters, and none is called like a data
  disk's owner: `{holder_name("<node>")}`.
- Node networks, Docker's own address pools and the swarm's address pool do not overlap. A node has one gateway at most.
"""

DAEMON = """
### What `docker.daemon` refuses

Every node gets the defaults below; what is declared is put over them (`log-opts` are added up where the driver is json-file
or local). Keys of newer engines pass; a key that looks like a misspelt one does not, since dockerd would not start with it.

```json
{defaults}
```

| key | refused | why |
|---|---|---|
{rows}
"""


def markdown() -> str:
    """The whole page."""
    parts = [INTRODUCTION, "\n## Keys\n"]
    for path, model in SECTIONS:
        parts.append(_section(path, model))
        if model is schema.Docker:
            parts.append(_daemon())
    return "".join(parts)


def accepted(info: FieldInfo) -> dict[str, str]:
    """What a field's declaration says besides its type: accepted, example, otherwise."""
    return cast(dict[str, str], info.json_schema_extra or {})


def _section(path: str, model: type[Keys]) -> str:
    about = " ".join(inspect.cleandoc(model.__doc__ or "").split()).split(": ", 1)[-1]
    rows = []
    for name, info in model.model_fields.items():
        if model is schema.Node and name in schema.Pool.model_fields:
            continue
        extra = accepted(info)
        cells = (
            f"`{alias(model, name)}`",
            _cell(info.description or "") + (" See below." if nested_model(info) else ""),
            _cell(extra["accepted"]),
            _default(info),
            f"`{extra['example']}`",
        )
        rows.append(f"| {' | '.join(cells)} |")
    inherited = "Any key of `pools.<pool>` as well, for this node alone.\n\n" if model is schema.Node else ""
    table = "| key | what it does | accepted | default | example |\n|---|---|---|---|---|\n" + "\n".join(rows)
    return f"\n### `{path}`\n\n{about[0].upper()}{about[1:]}\n\n{inherited}{table}\n"


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "**required**"
    otherwise = accepted(info)["otherwise"]
    if otherwise:
        return _cell(otherwise)
    return f"`{json.dumps(info.get_default(call_default_factory=True, validated_data={}))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _daemon() -> str:
    rows = [f"| `{name}` | `{json.dumps(value)}` | {why} |" for name, (value, why, _) in daemon.NEVER.items()]
    rows += [f"| `{name}` | always | {why} |" for name, why in daemon.OWNED.items()]
    return DAEMON.format(defaults=json.dumps(daemon.DEFAULTS, indent=2), rows="\n".join(rows))


if __name__ == "__main__":
    sys.stdout.write(markdown())
