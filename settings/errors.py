"""What is wrong with settings: one line a problem, all of them at once, and never a secret among them."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Segment = str | int
Path = tuple[Segment, ...]

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
_API_TOKEN = re.compile(r"\S+@\S+!\S+=")
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/@\s]+@")
# The second text is how the base64 body of an OpenSSH private key starts.
_SECRET_MARKS = ("PRIVATE KEY", "b3BlbnNzaC1rZXktdjE", "SWMTKN-", "SWMKEY-")
_SHOWN = 72


@dataclass(frozen=True)
class Problem:
    """One wrong setting: where it is, what it holds (already fit to print), why that is wrong, what is accepted."""

    path: Path
    value: str | None
    why: str
    accepted: str
    hint: str = ""

    def line(self, project: str) -> str:
        """The problem as one line that is enough to act on."""
        held = "" if self.value is None else f" = {self.value}"
        hint = f" {sentence(self.hint)}" if self.hint else ""
        return f"{render(self.path, project)}{held}: {sentence(self.why)} Accepted: {sentence(self.accepted)}{hint}"


class SettingsError(Exception):
    """The stack's settings cannot be used. Holds every problem found; the first line of its text is the first problem."""

    def __init__(self, problems: Iterable[Problem], *, project: str, stack: str) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        self.project = project
        self.stack = stack
        super().__init__(self._text())

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.problems, self.project, self.stack)

    def _text(self) -> str:
        lines = [problem.line(self.project) for problem in self.problems]
        if len(lines) == 1:
            return lines[0]
        rest = "\n".join(f"  {number}. {line}" for number, line in enumerate(lines[1:], start=2))
        return f"{lines[0]} (1 of {len(lines)} problems in the settings of stack {self.stack})\n{rest}"


def _rebuild(problems: tuple[Problem, ...], project: str, stack: str) -> SettingsError:
    return SettingsError(problems, project=project, stack=stack)


def render(path: Path, project: str = "") -> str:
    """A path as ``pulumi config set --path`` takes it: ``swarm:nodes.docker-app-1.labels["portainer.data"]``."""
    text = ""
    for segment in path:
        if isinstance(segment, int):
            text += f"[{segment}]"
        elif _PLAIN_KEY.fullmatch(segment):
            text += f".{segment}" if text else segment
        else:
            text += f"[{json.dumps(segment, ensure_ascii=False)}]"
    return f"{project}:{text}" if project else text


def show(value: object) -> str:
    """A value as it may be printed: short, on one line, as YAML or JSON would write it, secrets hidden."""
    text = json.dumps(_hide(value), ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint that names the closest known word, or nothing when none is close."""
    by_fold = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), by_fold, n=1, cutoff=0.6)
    return f"Did you mean {by_fold[close[0]]}?" if close else ""


def listed(names: Sequence[str] | Iterable[str]) -> str:
    """Names for a sentence, in a stable order, or "none"."""
    return ", ".join(names) or "none"


def sentence(text: str) -> str:
    """The text with a mark at its end."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def holds_secret(text: str) -> bool:
    """True when the text looks like a private key, an API token or a join token."""
    return any(mark in text for mark in _SECRET_MARKS) or _API_TOKEN.search(text) is not None


def _hide(value: object, depth: int = 0) -> object:
    if isinstance(value, str):
        if holds_secret(value):
            return "(a secret, not shown)"
        return _USERINFO.sub(r"\g<scheme>(hidden)@", value)
    if depth > 4:
        return "…"
    if isinstance(value, dict):
        return {str(key): _hide(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_hide(item, depth + 1) for item in value]
    return value
