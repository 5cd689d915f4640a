"""What users of the package get: the environment, the links, the command."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from proxmox_swarm import toolchain
from proxmox_swarm.toolchain import Toolchain, __main__, store
from proxmox_swarm.toolchain.proxmoxve_plugin import ProxmoxvePlugin

MakeProgram = Callable[..., Path]

PROGRAM = ProxmoxvePlugin().program


@pytest.fixture
def tools(tmp_path: Path, program: MakeProgram) -> Toolchain:
    program(tmp_path / "made/bin/pulumi")
    program(tmp_path / "made/plugins" / PROGRAM, "echo first")
    return Toolchain(bin=tmp_path / "made/bin", pulumi_home_plugins=tmp_path / "made/plugins")


def test_the_environment_finds_python_then_our_tools_then_the_rest(tools: Toolchain) -> None:
    environment = tools.env()
    path = environment.pop("PATH").split(os.pathsep)
    python = [str(Path(sys.prefix) / "bin")] if sys.prefix != sys.base_prefix else []
    assert path == [*python, str(tools.bin), "/usr/bin", "/bin"]
    assert environment == {
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }


def test_the_environment_inside_itself_is_the_same(tools: Toolchain, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tools.env()
    monkeypatch.setenv("PATH", first["PATH"])
    assert tools.env() == first


def run(home: Path) -> str:
    return subprocess.run([home / "plugins" / PROGRAM], capture_output=True, text=True, check=True).stdout


def test_plugins_are_linked_as_the_cli_wants_them(tools: Toolchain, tmp_path: Path) -> None:
    home = tmp_path / "pulumi-home"
    tools.link_plugins(home)
    tools.link_plugins(home)
    directory = (home / "plugins" / PROGRAM).parent
    assert directory.is_dir()
    assert not directory.is_symlink()
    assert [path.name for path in directory.iterdir()] == [PROGRAM.name]
    assert run(home) == "first\n"


def test_an_older_or_dead_link_is_replaced(tools: Toolchain, tmp_path: Path, program: MakeProgram) -> None:
    home = tmp_path / "pulumi-home"
    tools.link_plugins(home)
    program(tmp_path / "newer" / PROGRAM, "echo second")
    newer = Toolchain(bin=tools.bin, pulumi_home_plugins=tmp_path / "newer")
    newer.link_plugins(home)
    assert run(home) == "second\n"
    (tmp_path / "newer" / PROGRAM).unlink()
    tools.link_plugins(home)
    assert run(home) == "first\n"


def test_linking_into_the_home_that_has_them_changes_nothing(tools: Toolchain, tmp_path: Path) -> None:
    tools.link_plugins(tmp_path / "made")
    assert not (tools.pulumi_home_plugins / PROGRAM).is_symlink()


def test_two_can_link_at_once(tools: Toolchain, tmp_path: Path) -> None:
    home = tmp_path / "pulumi-home"
    failures: list[BaseException] = []

    def link() -> None:
        try:
            for _ in range(50):
                tools.link_plugins(home)
                (home / "plugins" / PROGRAM).unlink(missing_ok=True)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=link) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tools.link_plugins(home)
    assert failures == []
    assert run(home) == "first\n"


def test_the_command_prints_the_places(
    tools: Toolchain, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(toolchain, "ensure", lambda report: report("working") or tools)
    monkeypatch.setattr(sys, "argv", ["toolchain"])
    assert __main__.main() == 0
    assert capsys.readouterr() == (f"bin={tools.bin}\nplugins={tools.pulumi_home_plugins}\n", "working\n")


def test_the_command_says_what_to_do_when_nothing_is_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["toolchain", "--locate"])
    assert __main__.main() == 1
    assert capsys.readouterr() == ("", "error: not all tools are on this machine; run this without --locate\n")
    assert not store.root().exists()


def test_the_command_needs_only_the_standard_library() -> None:
    source = Path(toolchain.__file__).resolve().parent.parent / "src"
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", "import proxmox_swarm.toolchain.__main__, sys; print(*sys.modules)"],
        env={"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    ours = {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names)
    assert ours <= {"proxmox_swarm", "__main__"}
