"""What runbooks and operations.md quote as our own output is what the code prints, but for names, numbers and times."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from proxmox_swarm.cli.next_step import next_step
from proxmox_swarm.cli.status import below
from proxmox_swarm.cli.table import verdict_line
from proxmox_swarm.swarm.certificate import NodeCertificate
from proxmox_swarm.swarm.errors import RecoveryRefused
from proxmox_swarm.swarm.quorum import Quorum
from proxmox_swarm.swarm.status import Status
from tests.unit.cli.lost_stack import FIRST, lost_stack
from tests.unit.cli.test_next_step import FOUND, OFF, with_node
from tests.unit.test_docs import PAGES, ROOT, relative, texts

QUOTING = [page for page in PAGES if page.parent.name == "runbooks" or page.name == "operations.md"]

#: Lines that are compared whole, by how they begin: `status`, and what `recover` and `restore` say.
WHOLE = re.compile(
    r"(?:next: |(?:WHOLE|DEGRADED|NO QUORUM)  |machine {5}|note {8}|survivor  |backup {4}|forced {4}|verified  |nodes {5}"
    r"|restored  |undone {4}|This cannot be taken back)"
)
#: Lines that are compared part by part: between values, marked …, errors are put together of several texts.
PARTS = re.compile(r"(?:error: |member {6})")
#: Parts that come from engines and operating systems, who are quoted in our own lines.
FOREIGN = re.compile(r"No route to host|error while loading TLS certificate in .*|certificate|not valid after|error")


def quoted(page: Path) -> list[str]:
    """The lines of a page's blocks that are no program text, and next steps within sentences."""
    text = page.read_text()
    blocks = re.findall(r"^ *```\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    inline = re.findall(r"`(next: [^`\n]+)`", text)
    return [line.strip() for block in blocks for line in block.splitlines()] + inline


def bare(line: str) -> str:
    """A line of output without what is another one each time."""
    for pattern, instead in (
        (r"\S+\.backup(?:\.\d)?", "FILE"),
        (r"\b(?:docker-app-\d|docker-infra-\d|swarmpit-mgmt|[mw]\d)\b", "NODE"),
        (r"\bNODE(?:,? NODE)+", "NODE"),
        (r"(?<=NODE )is off\b", "are off"),
        (r"\d+\.\d+\.\d+\.\d+", "ADDRESS"),
        (r"\b[a-z0-9]{25}\b", "ID"),
        (r"(?<=swarm )\w{4}\b|(?<=Type )\w{4}\b", "ID"),
        (r"to go on: \w{4}$", "to go on"),
        (r"(?<=unreachable: )[^;]*", "WHY"),
        (r"(?<=by hand: ).*", "WHY"),
        (r"pulumi up --refresh -s \w+", "make up"),
        (r"\b\d[\d:T+-]*", "#"),
    ):
        line = re.sub(pattern, instead, line)
    return line


def of_status() -> list[str]:
    """What `status` says of everything that it tells apart."""
    statuses: list[Status] = [status for status, _ in FOUND]
    heard = OFF | {"detail": "no answer; the swarm has it as down"}
    for power in ("running", "stopped", "absent", ""):
        statuses += [with_node("w1", **state, power=power) for state in (OFF, heard)]
    statuses.append(with_node("w1", certificate=NodeCertificate("c", 0, 7776000, 0)))
    degraded = replace(with_node("m2", **OFF), quorum=Quorum(3, 2))
    return [line for s in [*statuses, degraded] for line in (verdict_line(s), *below(s, next_step(s, "lab")))]


@pytest.fixture
def printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """All that the code prints of what is quoted."""
    lost = lost_stack(tmp_path, monkeypatch)
    lost.recover()
    lost.file = tmp_path / "before.backup"
    lost.all_but_a_backup()
    lost.restore()
    return {bare(line.strip()) for line in [*of_status(), *lost.said, *lost.asked]}


@pytest.mark.parametrize("page", QUOTING, ids=relative)
def test_lines_of_ours_that_are_quoted_are_printed(page: Path, printed: set[str]) -> None:
    for line in quoted(page):
        assert not WHOLE.match(line) or bare(line) in printed, f"{relative(page)}: {line}"


@pytest.mark.parametrize("page", QUOTING, ids=relative)
def test_errors_and_verdicts_that_are_quoted_are_ours(page: Path) -> None:
    for line in quoted(page):
        lead = PARTS.match(line)
        if lead is None:
            continue
        values = r"lab exec -- .*|NODE|ADDRESS|ID|#(?:/\w+)?|…|→|(?<=-s )\w+|(?<=it is a )\w+|[:;.,()]\s|[()]"
        for part in re.split(values, bare(line.removeprefix(lead[0])) + " "):
            words = part.strip(" :.,;()").removesuffix(" on")
            known = any(re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text) for text in texts())
            assert known or FOREIGN.fullmatch(words), f"{relative(page)}: {words!r} in {line}"


def refusals() -> list[str]:
    page = (ROOT / "docs" / "runbooks" / "quorum-lost-for-good.md").read_text()
    return re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)


@pytest.mark.parametrize("row", refusals())
def test_what_recover_is_said_to_refuse_with_is_in_the_code(row: str) -> None:
    for part in filter(None, re.split(r"… | …", row)):
        assert any(part in text for text in texts()), part


def test_something_is_quoted() -> None:
    lines = [line for page in QUOTING for line in quoted(page)]
    assert sum(bool(WHOLE.match(line)) for line in lines) >= 25
    assert sum(bool(PARTS.match(line)) for line in lines) >= 8
    assert len(refusals()) >= 8


def test_the_refusal_that_is_quoted_whole_is_put_together_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = lost_stack(tmp_path, monkeypatch)
    lost.power = dict.fromkeys(lost.power, "running")
    with pytest.raises(RecoveryRefused) as refused:
        lost.recover()

    def shape(text: str) -> str:
        return re.sub(r"(NODE \(ADDRESS\) \().*?(; running\))(?:; NODE .*?; running\))*", r"\1WHY\2", bare(text))

    said = {shape(line.removeprefix("error: ")) for page in QUOTING for line in quoted(page) if "not shown" in line}
    assert FIRST in str(refused.value)
    assert said == {shape(str(refused.value))}
