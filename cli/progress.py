"""``pulumi up`` in a few lines: machines, managers, workers, each said when it is done."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from proxmox_swarm.settings.model import Settings

DYNAMIC = "pulumi-python:dynamic/swarm:"
PROVIDERS = "pulumi:providers:"
QUIET = {"same", "read", "refresh"}
#: Steps that finish nothing. A replacement is told as delete-replaced, replace, and create-replacement when it is there.
UNFINISHED = {"delete", "delete-replaced", "discard", "replace"}
#: How gRPC begins the text of every error of a dynamic provider.
WRAPPER = "Exception calling application: "
#: How providers' lines begin that are about the swarm as a whole and not about one node.
OF_ALL = "swarm: "
SAID_ANYWAY = {"update failed"}
ALL_NEW = {"machines": "booted", "workers": "joined, labelled, active"}
_MEMBER = {"create": "joined", "update": "changed", "create-replacement": "joined anew"}
WORDS = {
    "machines": {"create": "booted", "update": "settings changed", "create-replacement": "rebuilt"},
    "managers": _MEMBER,
    "workers": _MEMBER,
}


@dataclass
class Progress:
    """Fed with Pulumi's engine events in the order they happen; calls ``say`` with finished lines."""

    settings: Settings
    say: Callable[[str], None]
    started: float = field(default_factory=time.monotonic)
    failed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    changed: int = 0
    _done: dict[str, dict[str, str]] = field(default_factory=dict)
    _phase_start: float = 0.0

    def __post_init__(self) -> None:
        self._phase_start = self.started
        self._waiting = [
            ("machines", "HostState", list(self.settings.nodes)),
            ("managers", "Member", [node.name for node in self.settings.managers]),
            ("workers", "Member", [node.name for node in self.settings.workers]),
        ]

    def feed(self, line: str | bytes) -> None:
        """Take one line of the event log."""
        event = json.loads(line)
        if finished := event.get("resOutputsEvent"):
            self._finished(finished["metadata"])
        elif failure := event.get("resOpFailedEvent"):
            self.failed.append(failure["metadata"]["urn"])
        elif diagnostic := event.get("diagnosticEvent"):
            self._diagnostic(diagnostic)

    def _finished(self, metadata: Mapping[str, Any]) -> None:
        operation, kind = metadata["op"], metadata["type"]
        # Pulumi makes providers of its own as they are needed, the first time that stack outputs are read for one.
        if operation not in QUIET and not kind.startswith(PROVIDERS):
            self.changed += 1
        if not kind.startswith(DYNAMIC) or operation in UNFINISHED:
            return
        name = metadata["urn"].rpartition("::")[2]
        self._done.setdefault(kind.removeprefix(DYNAMIC), {})[name] = operation
        while self._waiting and self._report():
            self._waiting.pop(0)

    def _report(self) -> bool:
        phase, kind, names = self._waiting[0]
        done = self._done.get(kind, {})
        if not all(name in done for name in names):
            return False
        if any(done[name] not in QUIET for name in names):
            self.say(line(phase, self._told(phase, names, done), time.monotonic() - self._phase_start))
        self._phase_start = time.monotonic()
        return True

    def _told(self, phase: str, names: Iterable[str], done: Mapping[str, str]) -> str:
        listed = list(names)
        touched = [name for name in listed if done[name] not in QUIET]
        adopted = [name for name in touched if done[name] == "create" and self.settings.nodes[name].adopted]
        if phase in ALL_NEW and not adopted and all(done[name] == "create" for name in listed):
            return f"{len(listed)} of {len(listed)} {ALL_NEW[phase]}"
        told = {name: WORDS[phase].get(done[name], done[name]) for name in touched}
        if phase == "managers" and self._done.get("Cluster", {}).get("managers") == "create" and listed[0] in told:
            told[listed[0]] = "init"
        told |= dict.fromkeys(adopted, "adopted")
        return ", ".join(f"{name} {word}" for name, word in told.items())

    def _diagnostic(self, diagnostic: Mapping[str, Any]) -> None:
        severity = diagnostic.get("severity")
        text = _uncoloured(diagnostic["message"]).strip().removeprefix(WRAPPER)
        if severity in {"info", "info#err"} and text.startswith(OF_ALL):
            self.say(line("swarm", text.removeprefix(OF_ALL), time.monotonic() - self.started))
        if severity not in {"error", "warning"} or text in self.errors or text in SAID_ANYWAY:
            return
        if severity == "error":
            self.errors.append(text)
        urn = diagnostic.get("urn", "")
        self.say(f"{severity}: {urn.rpartition('::')[2] + ': ' if urn else ''}{text}")


def line(phase: str, text: str, seconds: float) -> str:
    """One line of progress: what, how far, how long."""
    return f"{phase:<9} {text:<54} {seconds:>4.0f} s"


def _uncoloured(text: str) -> str:
    out, _, rest = text.partition("<{%")
    while rest:
        _, _, rest = rest.partition("%}>")
        piece, _, rest = rest.partition("<{%")
        out += piece
    return out
