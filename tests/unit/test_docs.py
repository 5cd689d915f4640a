"""What README and docs say against what is there: links, tests, commands, variables, error texts, requirements."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from proxmox_swarm.cli.main import app as swarm_app
from proxmox_swarm.lab.cli import app as lab_app
from proxmox_swarm.lab.network import DNS_SERVERS, GATEWAY, HOSTS, REGISTRY

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TOP_LEVEL = ["components", "providers", "swarm", "host", "proxmox", "settings", "cli", "lab", "toolchain"]

FIRST_CLUSTER = ROOT / "docs" / "first-cluster-on-proxmox.md"
REQUIREMENTS = ROOT / "docs" / "requirements.md"

STATES = {"works", "stand-in", "file only", "not yet"}
COUNTS = {"A": 13, "B": 15, "C": 7, "D": 9, "E": 7, "F": 4}

#: Variables of other programs that the pages name: bpg's provider, Pulumi, OpenSSL, requests, the desktop.
FOREIGN_VARIABLES = {
    "PROXMOX_VE_ENDPOINT",
    "PROXMOX_VE_SSH_AGENT",
    "PROXMOX_VE_SSH_USERNAME",
    "PROXMOX_VE_SSH_PRIVATE_KEY",
    "PULUMI_CONFIG_PASSPHRASE_FILE",
    "REQUESTS_CA_BUNDLE",
    "SSH_AUTH_SOCK",
}
VARIABLE = re.compile(r"\b(?:PROXMOX|PULUMI|SSL|SSH|REQUESTS|XDG|DOCKER)_[A-Z0-9_]*[A-Z0-9]\b")


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


def code_of(text: str) -> str:
    """All that is set as code on a page: fenced blocks and inline."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```\w*\n.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    return "\n".join([*blocks, *inline])


@cache
def sources() -> dict[Path, str]:
    """Our own code, by file."""
    found = [ROOT / "__main__.py", ROOT / "Makefile", ROOT / "Pulumi.yaml"]
    for folder in TOP_LEVEL:
        found += [p for kind in ("*.py", "*.sh") for p in (ROOT / folder).rglob(kind)]
    return {path: path.read_text() for path in found}


@cache
def texts() -> list[str]:
    """Every string in our Python code; of an f-string the parts between the values."""
    found: list[str] = []
    for path, text in sources().items():
        if path.suffix == ".py":
            found += [
                n.value for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Constant) and isinstance(n.value, str)
            ]
    return found


@cache
def names_in(file: Path) -> set[str]:
    return {n.name for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.FunctionDef)}


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ +(.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{relative(page)}: {target}"
        if anchor:
            assert anchor in anchors(linked), f"{relative(page)}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_tests_that_are_named_exist(page: Path) -> None:
    for file, name in re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", page.read_text()):
        assert (ROOT / file).is_file(), f"{relative(page)}: {file}"
        assert not name or name in names_in(ROOT / file), f"{relative(page)}: {file}::{name}"


RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("[!R]*.md"))


@pytest.mark.parametrize("page", RUNBOOKS, ids=relative)
def test_a_runbook_is_listed_and_names_the_test_that_makes_its_trouble(page: Path) -> None:
    text = page.read_text()
    assert f"({page.name})" in (page.parent / "README.md").read_text()
    assert re.search(r"`tests/(lab|unit/swarm)/\w+\.py::test_\w+`", text)
    for heading in ("What you see", "What it is"):
        assert f"\n## {heading}" in text


#: What takes a node out of its swarm behind the managers' backs: a manager would stay in raft as a dead member.
BY_FORCE = re.compile(r"leave\W+(?:\w+\W+)?(?:-f\b|--force)")


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_no_page_has_a_node_leave_by_force(page: Path) -> None:
    assert not BY_FORCE.search(page.read_text())


def test_nothing_that_is_printed_has_a_node_leave_by_force() -> None:
    assert [text for text in texts() if BY_FORCE.search(text)] == []


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def commands_of(app: typer.Typer) -> dict[str, set[str]]:
    """Subcommands by their words, each with its options."""
    found: dict[str, set[str]] = {}

    def walk(command: Any, words: str) -> None:
        if words:
            found[words] = {o for p in command.params for o in p.opts} | {"--help"}
        for name, sub in getattr(command, "commands", {}).items():
            walk(sub, f"{words} {name}".strip())

    walk(typer.main.get_command(app), "")
    return found


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_make_targets_that_are_named_exist(page: Path) -> None:
    named = set(re.findall(r"(?:^|[\s`(])make ([a-z]+)\b", code_of(page.read_text()), re.MULTILINE))
    assert named <= make_targets(), relative(page)


@pytest.mark.parametrize("page", PAGES, ids=relative)
@pytest.mark.parametrize(
    ("program", "app"), [("lab", lab_app), ("proxmox-swarm", swarm_app)], ids=["lab", "proxmox-swarm"]
)
def test_commands_that_are_named_exist(page: Path, program: str, app: typer.Typer) -> None:
    if page.parent.name == "decisions":
        return  # they also speak of what is to come
    known = commands_of(app)
    pattern = rf"^{program} ([a-z][a-z-]*(?: [a-z][a-z-]*)?)(?=\s|$)(.*)$"
    for line in code_of(page.read_text()).splitlines():
        match = re.match(pattern, line)
        if match is None:
            continue
        words, rest = match.groups()
        command = words if words in known else words.split()[0]
        assert command in known, f"{relative(page)}: {line}"
        options = re.findall(r"(?<=\s)(--?[a-z][a-z-]*)", rest.partition(" -- ")[0].partition("#")[0].partition("|")[0])
        assert set(options) <= known[command], f"{relative(page)}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_variables_that_are_named_are_read(page: Path) -> None:
    code = "\n".join(sources().values())
    for name in set(VARIABLE.findall(page.read_text())) - FOREIGN_VARIABLES:
        assert name in code, f"{relative(page)}: {name}"


def error_rows() -> list[str]:
    section = FIRST_CLUSTER.read_text().split("### What the program says")[1].split("\n###")[0]
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


@pytest.mark.parametrize("row", error_rows())
def test_error_texts_that_are_quoted_are_ours(row: str) -> None:
    # Between the values, marked …, an error's text is put together of what was tried, " on " where, ": " what came back.
    for part in re.split(r"…|: ", row):
        words = part.removeprefix(" on ").removesuffix(" on ").strip(" :.,;")
        whole = re.compile(rf"(?<!\w){re.escape(words)}(?!\w)")
        assert not words or any(whole.search(text) for text in texts()), words


def test_error_texts_are_quoted() -> None:
    assert len(error_rows()) >= 15


def test_the_plugins_version_on_the_page_is_the_pinned_one() -> None:
    pinned = tomllib.loads((ROOT / "toolchain" / "versions.toml").read_text())["proxmoxve"]["version"]
    named = set(re.findall(r"proxmoxve(?: |-v)(\d+\.\d+\.\d+)", FIRST_CLUSTER.read_text()))
    assert named == {pinned}


def test_addresses_of_the_lab_are_on_its_page() -> None:
    page = (ROOT / "docs" / "lab.md").read_text()
    for address in (*HOSTS.values(), *DNS_SERVERS, GATEWAY, REGISTRY):
        assert address in page


def requirement_rows() -> list[list[str]]:
    rows = [
        line.strip("|").split(" | ")
        for line in REQUIREMENTS.read_text().splitlines()
        if re.match(r"\| [A-F]\d+ \|", line)
    ]
    return [[cell.strip() for cell in row] for row in rows]


def test_every_requirement_has_its_row() -> None:
    assert [row[0] for row in requirement_rows()] == [
        f"{s}{n}" for s, count in COUNTS.items() for n in range(1, count + 1)
    ]


@pytest.mark.parametrize("row", requirement_rows(), ids=lambda row: row[0])
def test_a_requirement_that_works_names_its_proof(row: list[str]) -> None:
    _, what, state, proof = row
    assert what
    assert state in STATES
    if state != "not yet":
        assert "::test_" in proof


def test_the_top_level_is_what_the_request_names() -> None:
    for name in ("Pulumi.yaml", "Pulumi.prod.yaml", "__main__.py", "components", "providers", "tests"):
        assert (ROOT / name).exists(), name


def test_the_packages_are_what_the_request_names() -> None:
    listed = {re.split(r"[=<>\[ ]", line)[0] for line in (ROOT / "requirements" / "run.in").read_text().splitlines()}
    assert {"pulumi", "pulumi-proxmoxve", "pulumi-command", "docker", "pyyaml"} <= listed
    # pulumi-command is for operators' own steps: our graph must not ask for its plugin.
    assert not [
        p for p, text in sources().items() if re.search(r"^\s*(?:import|from) pulumi_command", text, re.MULTILINE)
    ]


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


#: Where everybody's packages come from. Any other host that this machine is set to fetch from is its own business.
PUBLIC = re.compile(
    r"(?:^|\.)(?:pypi\.org|pythonhosted\.org|golang\.org|npmjs\.org|debian\.org|ubuntu\.com|docker\.com)$"
)
SETTINGS_OF_CLIENTS = [
    *(Path("/etc/apt").rglob("*.list")),
    *(Path("/etc/apt").rglob("*.sources")),
    *(Path("/etc/apt").rglob("*.conf*")),
    *(Path(name).expanduser() for name in ("/etc/pip.conf", "~/.config/pip/pip.conf", "~/.pip/pip.conf", "~/.npmrc")),
    *(Path(name).expanduser() for name in ("~/.config/go/env", "/usr/local/go/go.env")),
]


def own_registries() -> set[str]:
    """The hosts that this machine's package clients are set to, other than the public ones."""
    words = [value for name, value in os.environ.items() if re.match(r"PIP_|UV_|GO|NPM_|npm_", name)]
    words += [path.read_text(errors="replace") for path in SETTINGS_OF_CLIENTS if path.is_file()]
    hosts = set(re.findall(r"https?://(?:[^/@\s\"',]*@)?([\w.-]+)", "\n".join(words)))
    return {host for host in hosts if "." in host and not PUBLIC.search(host) and not host.startswith("127.")}


def test_nothing_of_the_building_machine_is_in_the_repository() -> None:
    """No path of the checkout, no registry or mirror that this machine fetches its packages from."""
    parts = [re.escape(host) for host in own_registries()]
    if len(ROOT.parts) > 2:
        parts.append(re.escape(str(ROOT)) + r"(?![\w-])")
    if not parts:
        return
    pattern = re.compile("|".join(parts))
    found = []
    for path in tracked():
        text = path.read_bytes().decode(errors="replace")
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in pattern.finditer(text)]
    assert found == []
