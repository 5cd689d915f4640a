"""Settings that come from files: the stack's ``include`` list, read and put under what the stack itself says."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from proxmox_swarm.settings.errors import Problem, SettingsError, show

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<otherwise>[^}]*))?\}")
_ACCEPTED = (
    "a list of paths of YAML files, relative to the project; ${NAME} and ${NAME:-otherwise} come from the environment"
)


class _StrictLoader(yaml.SafeLoader):
    """YAML as Pulumi reads stack files: no dates, no base-60 numbers (both stay text), and no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            name = self.construct_object(key_node, deep=True)
            if not isinstance(name, str):
                raise yaml.constructor.ConstructorError(
                    "while reading a mapping", node.start_mark, f"the key {name!r} is not text", key_node.start_mark
                )
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    "while reading a mapping", node.start_mark, f"the key {name} is there twice", key_node.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


_RESOLVERS = {
    "tag:yaml.org,2002:null": (r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    "tag:yaml.org,2002:bool": (r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    "tag:yaml.org,2002:int": (
        r"^(?:[-+]?0o?[0-7]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F]+)$",
        list("-+0123456789"),
    ),
    "tag:yaml.org,2002:float": (
        r"^(?:[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+)$",
        list("-+0123456789."),
    ),
}
_StrictLoader.yaml_implicit_resolvers = {}
for _tag, (_pattern, _first) in _RESOLVERS.items():
    _StrictLoader.add_implicit_resolver(_tag, re.compile(_pattern), _first)


def read_yaml(file: Path) -> object:
    """The content of one YAML file, read the way Pulumi reads stack files. Raises OSError and yaml.YAMLError."""
    return yaml.load(file.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 - derived from SafeLoader


def expand(text: str, env: Mapping[str, str]) -> str:
    """``${NAME}`` and ``${NAME:-otherwise}`` replaced as a shell would. Raises KeyError for a name without a value."""

    def value(match: re.Match[str]) -> str:
        found = env.get(match["name"]) or match["otherwise"]
        if found is None:
            raise KeyError(match["name"])
        return found

    return _VARIABLE.sub(value, text)


def merge(under: Mapping[str, object], over: Mapping[str, object]) -> dict[str, object]:
    """Both, mapping by mapping; where both have a value that is not a mapping (a list too), ``over`` wins."""
    merged = dict(under)
    for name, value in over.items():
        below = merged.get(name)
        merged[name] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def with_includes(
    config: Mapping[str, object], *, project: str, stack: str, base: Path, env: Mapping[str, str] | None = None
) -> dict[str, object]:
    """The stack's settings with the files of ``include`` under them: the stack's own word wins, then the later file.

    Raises :class:`SettingsError` naming the file where one cannot be read.
    """
    own = {name: value for name, value in config.items() if name != "include"}
    included: dict[str, object] = {}
    problems: list[Problem] = []
    listed = config.get("include", [])
    if not isinstance(listed, (list, tuple)):
        problems.append(Problem(("include",), show(listed), "not a list", _ACCEPTED))
        listed = []
    for index, entry in enumerate(listed):
        try:
            included = merge(included, _read(entry, base, os.environ if env is None else env))
        except _Unreadable as error:
            problems.append(Problem(("include", index), show(entry), error.why, _ACCEPTED, error.hint))
    if problems:
        raise SettingsError(problems, project=project, stack=stack)
    return merge(included, own)


class _Unreadable(Exception):
    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.hint = hint


def _read(entry: object, base: Path, env: Mapping[str, str]) -> Mapping[str, object]:
    if not isinstance(entry, str) or not entry.strip():
        raise _Unreadable("not a path")
    try:
        file = base / expand(entry, env)
        content = read_yaml(file)
    except KeyError as error:
        raise _Unreadable(f"the environment variable {error.args[0]} has no value") from error
    except FileNotFoundError as error:
        raise _Unreadable(
            f"there is no file {file}",
            "The lab writes its file when it starts: run `make up`, or `lab up`. "
            "A file of your own: create it, or take it off the list",
        ) from error
    except (OSError, ValueError) as error:
        raise _Unreadable(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from error
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        raise _Unreadable(
            f"{file}{place} is not YAML: {getattr(error, 'problem', None) or 'too deep or damaged'}"
        ) from error
    if not isinstance(content, dict):
        raise _Unreadable(f"{file} holds no mapping of settings")
    if "include" in content:
        raise _Unreadable(f"{file} has an include of its own; list all files in the stack's")
    return content
