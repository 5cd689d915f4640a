from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from proxmox_swarm import toolchain
from proxmox_swarm.cli import preview as module
from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.preview import PLACEHOLDER_TOKEN, preview

STACK_FILE = "config:\n  swarm:proxmox: {}\n"
PROJECT_FILE = "name: swarm\nruntime: python\n"
VARIABLES = (
    "PULUMI_BACKEND_URL",
    "PULUMI_ACCESS_TOKEN",
    "PULUMI_CONFIG_PASSPHRASE",
    "PROXMOX_VE_API_TOKEN",
    "PROXMOX_VE_USERNAME",
)


class Tools:
    def __init__(self) -> None:
        self.linked: list[Path] = []

    def env(self) -> dict[str, str]:
        return {"PATH": "/tools", "FROM_TOOLS": "1"}

    def link_plugins(self, home: Path) -> None:
        self.linked.append(home)


class Pulumi:
    """Stands for ``subprocess.run``: each call with what the folder it works on held at that moment."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], dict[str, Any]]] = []
        self.files: list[dict[str, str]] = []
        self.codes: dict[str, int] = {}

    def __call__(self, words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        self.calls.append((words, options))
        self.files.append({path.name: path.read_text() for path in Path(options["cwd"]).iterdir() if path.is_file()})
        if words[1:3] == ["stack", "init"]:
            # As the CLI does: the salt of the encryption goes into the stack's file beside Pulumi.yaml.
            file = Path(options["cwd"]) / f"Pulumi.{words[3]}.yaml"
            file.write_text("encryptionsalt: v1:abc\n" + file.read_text())
        return subprocess.CompletedProcess(words, self.codes.get(words[1], 0), "", "what it said")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "no home"))
    monkeypatch.setattr(module, "ensure_loopback", lambda: None)
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "Pulumi.prod.yaml").write_text(STACK_FILE)
    (folder / "Pulumi.yaml").write_text(PROJECT_FILE)
    return folder


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Tools:
    fake = Tools()
    monkeypatch.setattr(toolchain, "locate", lambda: fake)
    return fake


@pytest.fixture
def pulumi(monkeypatch: pytest.MonkeyPatch) -> Pulumi:
    fake = Pulumi()
    monkeypatch.setattr(subprocess, "run", fake)
    return fake


def test_without_a_backend_everything_is_thrown_away_and_the_project_untouched(
    project: Path, tools: Tools, pulumi: Pulumi
) -> None:
    pulumi.codes = {"preview": 7}
    assert preview("prod", project, ["--json"]) == 7
    (init, made), (shown, ran) = pulumi.calls
    folder = Path(made["cwd"])
    assert init == ["pulumi", "stack", "init", "prod", "--non-interactive"]
    assert shown == [
        "pulumi",
        "preview",
        "--stack",
        "prod",
        "--config-file",
        str(folder / "Pulumi.prod.yaml"),
        "--non-interactive",
        "--json",
    ]
    assert ran["cwd"] == project, "the program and what it includes are the project's"
    assert pulumi.files[0] == {"Pulumi.prod.yaml": STACK_FILE, "Pulumi.yaml": PROJECT_FILE}
    assert not folder.exists()
    assert {path.name: path.read_text() for path in project.iterdir()} == {
        "Pulumi.prod.yaml": STACK_FILE,
        "Pulumi.yaml": PROJECT_FILE,
    }


def test_backend_home_and_passphrase_are_made_for_this_one_run(project: Path, tools: Tools, pulumi: Pulumi) -> None:
    preview("prod", project, [])
    preview("prod", project, [])
    environments = [options["env"] for _, options in pulumi.calls]
    assert environments[0] == environments[1]
    folder = Path(pulumi.calls[0][1]["cwd"])
    assert environments[0]["PULUMI_BACKEND_URL"] == f"file://{folder / 'state'}"
    assert environments[0]["PULUMI_HOME"] == str(folder / "home")
    assert tools.linked[0] == folder / "home"
    assert environments[0]["FROM_TOOLS"] == "1"
    assert environments[0]["PROXMOX_VE_API_TOKEN"] == PLACEHOLDER_TOKEN
    passphrases = {environment["PULUMI_CONFIG_PASSPHRASE"] for environment in environments}
    assert len(passphrases) == 2
    assert not any(phrase in word for phrase in passphrases for words, _ in pulumi.calls for word in words)


@pytest.mark.parametrize(
    ("variables", "token"),
    [
        ({"PROXMOX_VE_API_TOKEN": "mine"}, "mine"),
        ({"PROXMOX_VE_USERNAME": "root@pam", "PROXMOX_VE_PASSWORD": "x"}, None),
    ],
)
def test_credentials_that_are_there_are_used(
    project: Path,
    tools: Tools,
    pulumi: Pulumi,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    token: str | None,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    preview("prod", project, [])
    assert pulumi.calls[-1][1]["env"].get("PROXMOX_VE_API_TOKEN") == token


@pytest.mark.parametrize("backend", ["PULUMI_BACKEND_URL", "PULUMI_ACCESS_TOKEN", "a login"])
def test_with_a_backend_the_real_state_is_compared(
    project: Path, tools: Tools, pulumi: Pulumi, monkeypatch: pytest.MonkeyPatch, backend: str, tmp_path: Path
) -> None:
    if backend == "a login":
        (tmp_path / "no home").mkdir()
        (tmp_path / "no home" / "credentials.json").write_text("{}")
    else:
        monkeypatch.setenv(backend, "file:///mine")
    pulumi.codes = {"preview": 3}
    assert preview("prod", project, ["--diff"]) == 3
    ((words, options),) = pulumi.calls
    assert words == ["pulumi", "preview", "--stack", "prod", "--diff"]
    assert options["cwd"] == project
    assert options["env"].get("PULUMI_CONFIG_PASSPHRASE") is None


def test_a_throw_away_stack_that_cannot_be_made_says_why(project: Path, tools: Tools, pulumi: Pulumi) -> None:
    pulumi.codes = {"stack": 255}
    with pytest.raises(CommandError, match="throw-away stack could not be made") as failed:
        preview("prod", project, [])
    assert failed.value.detail == "what it said"
    assert len(pulumi.calls) == 1


def test_a_stack_that_is_not_declared_is_named(project: Path, tools: Tools, pulumi: Pulumi) -> None:
    with pytest.raises(CommandError, match=r"there is no Pulumi\.staging\.yaml"):
        preview("staging", project, [])
    assert pulumi.calls == []


def test_without_tools_it_says_how_to_get_them(project: Path, pulumi: Pulumi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "locate", lambda: None)
    with pytest.raises(CommandError, match="make toolchain"):
        preview("prod", project, [])
    assert pulumi.calls == []


class NoNetwork(socket.socket):
    def connect(self, _: Any) -> None:
        raise OSError(101, "Network is unreachable")


def test_a_loopback_that_is_down_is_brought_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        ran.append(words)
        return subprocess.CompletedProcess(words, code, "", "not permitted")

    monkeypatch.setattr(subprocess, "run", run)
    module.ensure_loopback()
    assert ran == [], "it is up"
    monkeypatch.setattr(socket, "socket", NoNetwork)
    code = 0
    module.ensure_loopback()
    assert ran == [["ip", "link", "set", "lo", "up"]]
    code = 2
    with pytest.raises(CommandError, match="run `ip link set lo up` as root"):
        module.ensure_loopback()
