"""`proxmox-swarm around`: Pulumi with what is away left alone, and a preview that touches nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxmox_swarm.cli import around as module
from proxmox_swarm.cli import away
from proxmox_swarm.cli.around import around
from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.pulumi import Stack
from tests.unit.cli.states import VM, Json, find, of_node, references

ROOT = Path(__file__).parents[3]
NODES = {
    "docker-app-1": "pve01", "docker-app-2": "pve02", "docker-app-3": "pve03", "docker-infra-1": "pve01",
    "docker-infra-2": "pve02", "docker-infra-3": "pve03", "swarmpit-mgmt": "pve01",
}  # fmt: skip
EXCLUDED = [f"--exclude **::{name}" for name in ("docker-app-2", "docker-infra-2")]


class Pulumi:
    """The CLI with backends of files: each has the state that was imported into it."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.states: dict[str, Json] = {}
        self.lines: list[str] = []
        self.previewed: Json = {}
        self.code = 0

    def __call__(self, words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        environment = options["env"]
        backend = environment["PULUMI_BACKEND_URL"]
        out = ""
        if words[1:3] == ["stack", "export"]:
            out = json.dumps({"version": 3, "deployment": self.states[backend]})
        elif words[1:3] == ["stack", "import"]:
            file = Path(words[words.index("--file") + 1])
            self.states[backend] = json.loads(file.read_text())["deployment"]
        elif words[1:3] == ["stack", "init"]:
            assert backend != self.backend
            self.states[backend] = {}
        elif words[1] in module.COMMANDS:
            assert "input" not in options and "capture_output" not in options, "a person answers it"
            self.lines.append(" ".join(words))
            self.previewed = self.states[backend]
            assert (Path(environment["PULUMI_HOME"]) / "plugins" / "some").exists()
            return subprocess.CompletedProcess(words, self.code)
        return subprocess.CompletedProcess(words, 0, out, "")


@pytest.fixture
def pulumi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pulumi:
    fake = Pulumi(f"file://{tmp_path}/state")
    resources, before = [], None
    for name, host in NODES.items():
        resources += of_node(name, host, after=before)
        before = name
    fake.states[fake.backend] = {"resources": resources}
    monkeypatch.setattr(subprocess, "run", fake)
    monkeypatch.setattr(module, "around_lost_endpoint", lambda _: ["--run-program"])
    return fake


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The hosts that are away, for tests to change."""
    gone = {"pve02": "is offline"}
    monkeypatch.setattr(away, "Client", lambda *_, **__: object())
    monkeypatch.setattr(away, "absent", lambda _, names: {name: why for name, why in gone.items() if name in names})
    return gone


Run = Callable[..., list[str]]


@pytest.fixture
def run(pulumi: Pulumi, hosts: dict[str, str], tmp_path: Path) -> Run:
    for name in ("Pulumi.yaml", "Pulumi.prod.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "home" / "plugins" / "some").mkdir(parents=True)

    def call(*words: str) -> list[str]:
        said: list[str] = []
        environment = {"PULUMI_BACKEND_URL": pulumi.backend, "PULUMI_HOME": str(tmp_path / "home")}
        assert around(Stack("prod", tmp_path, environment), words, said.append) == pulumi.code
        return said

    return call


def test_options_are_passed_on_and_the_exit_status_comes_back(pulumi: Pulumi, run: Run) -> None:
    pulumi.code = 255
    assert run("up", "--refresh") == ["pve02 is offline: docker-app-2, docker-infra-2; left alone"]
    (line,) = pulumi.lines
    assert line.startswith("pulumi up --stack prod ") and line.endswith(" --run-program --refresh")
    assert all(option in line for option in EXCLUDED)


def test_a_refresh_goes_around_an_endpoint_that_is_lost_as_well(pulumi: Pulumi, run: Run) -> None:
    run("refresh")
    run("up")
    assert [("--run-program" in line, EXCLUDED[0] in line) for line in pulumi.lines] == [(True, True), (False, True)]


def test_up_takes_the_order_between_nodes_out_of_the_state_first(pulumi: Pulumi, run: Run) -> None:
    run("up")
    state = pulumi.states[pulumi.backend]
    assert pulumi.previewed is state
    assert not [urn for urn in references(find(state, VM, "docker-infra-2")) if "docker-infra-1" in urn]


def test_preview_does_so_in_a_copy(pulumi: Pulumi, run: Run, tmp_path: Path) -> None:
    before = json.dumps(pulumi.states[pulumi.backend])
    run("preview")
    assert not [urn for urn in references(find(pulumi.previewed, VM, "docker-infra-2")) if "docker-infra-1" in urn]
    assert json.dumps(pulumi.states[pulumi.backend]) == before
    (copy,) = set(pulumi.states) - {pulumi.backend}
    assert not Path(copy.removeprefix("file://")).exists()


def test_preview_after_an_up_needs_no_copy(pulumi: Pulumi, run: Run) -> None:
    run("up")
    run("preview")
    assert set(pulumi.states) == {pulumi.backend}


def test_with_every_host_there_nothing_is_left_alone(pulumi: Pulumi, run: Run, hosts: dict[str, str]) -> None:
    hosts.clear()
    assert run("preview", "--diff") == []
    assert pulumi.lines == ["pulumi preview --stack prod --diff"]


def test_what_cannot_be_done_meanwhile_is_refused_before_pulumi_runs(pulumi: Pulumi, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.prod.yaml"
    lines = [line for line in file.read_text().splitlines() if "docker-infra-2:" not in line]
    file.write_text("\n".join(lines) + "\n")
    for command in ("up", "preview"):
        with pytest.raises(CommandError, match="docker-infra-2 is declared no more"):
            run(command)
    assert pulumi.lines == []
    run("refresh")


@pytest.mark.parametrize("words", [(), ("destroy",), ("--yes",)])
def test_other_commands_are_refused(pulumi: Pulumi, run: Run, words: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match="say which of preview, refresh, up"):
        run(*words)
