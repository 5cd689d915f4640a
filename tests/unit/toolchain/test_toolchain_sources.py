"""Each tool comes from the first source that works, in the order installed, downloaded, built."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from proxmox_swarm import toolchain
from proxmox_swarm.toolchain import download, gobuild, store, versions
from proxmox_swarm.toolchain.errors import SourceFailed, ToolchainError
from proxmox_swarm.toolchain.gobuild import GoProgram
from proxmox_swarm.toolchain.proxmoxve_plugin import ProxmoxvePlugin
from proxmox_swarm.toolchain.pulumi_cli import PROGRAMS, SCRIPTS, PulumiCli

MakeProgram = Callable[..., Path]

CLI, PLUGIN = PulumiCli(), ProxmoxvePlugin()
SAYS = {"pulumi": f"echo v{CLI.version}", "pulumi-resource-proxmoxve": f"echo {PLUGIN.version}"}
MAJOR, MINOR, PATCH = versions.parse(CLI.version)

Report = Callable[[str], None]


def quiet(line: str) -> None:
    del line


@pytest.fixture
def install(program: MakeProgram) -> Callable[[Path, str], Path]:
    """Install a CLI that says it is of some version into a directory."""

    def put(directory: Path, version: str) -> Path:
        for name in PROGRAMS:
            program(directory / name, f"echo {version}")
        return directory

    return put


Install = Callable[[Path, str], Path]


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch, program: MakeProgram, tmp_path: Path) -> list[str]:
    """Neither network nor Go, but both sources work; returns what was fetched and built, in order."""
    log: list[str] = []

    def fetch(release: download.Release, programs: list[str], target: Path, report: Report) -> None:
        log.append(f"downloaded {release.file_name}")
        for name in programs:
            program(target / name, SAYS.get(name, "exit 0"))

    def build(made: GoProgram, target: Path, report: Report) -> None:
        log.append(f"built {made.name}")
        program(target / made.name, SAYS.get(made.name, "exit 0"))

    sdk = tmp_path / "sdk"
    for path in SCRIPTS.values():
        program(sdk / path)
    monkeypatch.setattr(download, "fetch", fetch)
    monkeypatch.setattr(download.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(gobuild, "build", build)
    monkeypatch.setattr(gobuild, "module_directory", lambda made, module: sdk)
    return log


def no_network(*arguments: object) -> None:
    raise SourceFailed("https://example.invalid: Name or service not known")


def no_go(*arguments: object) -> None:
    raise SourceFailed("Go is not installed")


# The CLI that is installed already


@pytest.mark.parametrize("version", [f"v{CLI.version}", f"v{MAJOR}.{MINOR}.{PATCH + 1}", f"v{MAJOR}.{MINOR + 9}.0"])
def test_an_installed_cli_that_is_not_older_is_used(first_on_path: Path, install: Install, version: str) -> None:
    install(first_on_path, version)
    assert CLI.installed() == first_on_path


@pytest.mark.parametrize("version", [f"v{MAJOR}.{MINOR - 1}.9", f"v{MAJOR + 1}.0.0", "v2.30.0"])
def test_an_installed_cli_of_another_time_is_not(first_on_path: Path, install: Install, version: str) -> None:
    install(first_on_path, version)
    with pytest.raises(SourceFailed, match=rf"is {version}; v{CLI.version} or a newer {MAJOR}\.x is needed$"):
        CLI.installed()


def test_an_installed_cli_without_python_host_is_not(first_on_path: Path, install: Install) -> None:
    (install(first_on_path, f"v{CLI.version}") / "pulumi-language-python").unlink()
    with pytest.raises(SourceFailed, match=rf"^{first_on_path} has no pulumi-language-python$"):
        CLI.installed()


def test_an_installed_cli_that_says_nonsense_is_not(first_on_path: Path, install: Install) -> None:
    install(first_on_path, "help yourself")
    with pytest.raises(SourceFailed, match=r"pulumi version` said 'help yourself'$"):
        CLI.installed()


def test_the_place_of_the_official_installer_is_known(empty_machine: Path, install: Install) -> None:
    place = install(empty_machine / ".pulumi/bin", f"v{CLI.version}")
    assert CLI.installed() == place


def test_our_own_store_on_path_is_no_installation(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{install(store.root() / 'pulumi-old', f'v{CLI.version}')}:/usr/bin:/bin")
    with pytest.raises(SourceFailed, match=r"^no `pulumi` on PATH or in ~/\.pulumi/bin$"):
        CLI.installed()


# The plugin that is installed already


def test_the_plugin_in_the_clis_home_is_used(
    empty_machine: Path, program: MakeProgram, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program(empty_machine / ".pulumi/plugins" / PLUGIN.program)
    assert PLUGIN.installed() == empty_machine / ".pulumi/plugins"
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "other"))
    with pytest.raises(SourceFailed, match=rf"^no {tmp_path}/other/plugins/resource-proxmoxve-v{PLUGIN.version}/"):
        PLUGIN.installed()


def test_another_version_of_the_plugin_is_not(empty_machine: Path, program: MakeProgram) -> None:
    program(empty_machine / ".pulumi/plugins/resource-proxmoxve-v99.0.0" / PLUGIN.program.name)
    with pytest.raises(SourceFailed, match=r"^no "):
        PLUGIN.installed()


def test_an_unfinished_download_of_the_cli_is_not(empty_machine: Path, program: MakeProgram) -> None:
    plugins = empty_machine / ".pulumi/plugins"
    program(plugins / PLUGIN.program)
    (plugins / f"resource-proxmoxve-v{PLUGIN.version}.partial").touch()
    with pytest.raises(SourceFailed, match=r"is an unfinished download of the CLI$"):
        PLUGIN.installed()


def test_a_link_into_our_store_is_not(empty_machine: Path, sources: list[str]) -> None:
    tools = toolchain.ensure(quiet)
    tools.link_plugins(empty_machine / ".pulumi")
    with pytest.raises(SourceFailed, match=r"is only a link into "):
        PLUGIN.installed()


# The order of the sources


def test_what_is_installed_is_neither_downloaded_nor_built(
    first_on_path: Path, empty_machine: Path, install: Install, program: MakeProgram, sources: list[str]
) -> None:
    install(first_on_path, f"v{CLI.version}")
    program(empty_machine / ".pulumi/plugins" / PLUGIN.program)
    tools = toolchain.ensure(quiet)
    assert (tools.bin, tools.pulumi_home_plugins) == (first_on_path, empty_machine / ".pulumi/plugins")
    assert sources == []
    assert not store.root().exists()


def test_the_download_comes_before_the_build(sources: list[str]) -> None:
    lines: list[str] = []
    tools = toolchain.ensure(lines.append)
    assert sources == [
        f"downloaded pulumi-v{CLI.version}-linux-x64.tar.gz",
        f"downloaded pulumi-resource-proxmoxve-v{PLUGIN.version}-linux-amd64.tar.gz",
    ]
    assert {path.name for path in tools.bin.iterdir()} == set(PROGRAMS)
    assert (tools.pulumi_home_plugins / PLUGIN.program).is_file()
    assert lines == [
        f"pulumi {CLI.version}: official download",
        f"resource-proxmoxve {PLUGIN.version}: official download",
    ]


def test_the_build_comes_when_the_download_fails(sources: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "fetch", no_network)
    lines: list[str] = []
    tools = toolchain.ensure(lines.append)
    assert sources == ["built pulumi", "built pulumi-language-python", "built pulumi-resource-proxmoxve"]
    assert {path.name for path in tools.bin.iterdir()} == set(PROGRAMS)
    assert lines[:3] == [
        f"pulumi {CLI.version}: official download",
        f"pulumi {CLI.version}: official download does not work here: "
        "https://example.invalid: Name or service not known",
        f"pulumi {CLI.version}: build from Go modules",
    ]


def test_a_download_that_does_not_run_is_not_used(sources: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SAYS, "pulumi", "exit 126")
    with pytest.raises(ToolchainError, match=r"pulumi ended with status 126"):
        toolchain.ensure(quiet)
    assert toolchain.locate() is None
    assert [path.name for path in store.root().iterdir()] == ["lock"]


def test_every_source_tried_is_in_the_error(sources: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "fetch", no_network)
    monkeypatch.setattr(gobuild, "build", no_go)
    with pytest.raises(ToolchainError) as caught:
        toolchain.ensure(quiet)
    first, *rest = str(caught.value).splitlines()
    assert first.startswith(
        f"pulumi {CLI.version} could not be installed, downloaded or built. Give this machine a way"
    )
    assert rest == [
        "Tried:",
        "  - installed already: no `pulumi` on PATH or in ~/.pulumi/bin",
        "  - official download: https://example.invalid: Name or service not known",
        "  - build from Go modules: Go is not installed",
    ]


# The store


def test_a_second_run_finds_what_the_first_made(sources: list[str]) -> None:
    assert toolchain.locate() is None
    first = toolchain.ensure(quiet)
    sources.clear()
    lines: list[str] = []
    assert toolchain.ensure(lines.append) == toolchain.locate() == first
    assert (sources, lines) == ([], [])


def test_one_tool_that_is_missing_is_made_alone(sources: list[str]) -> None:
    tools = toolchain.ensure(quiet)
    shutil.rmtree(tools.pulumi_home_plugins)
    sources.clear()
    assert toolchain.ensure(quiet) == tools
    assert sources == [f"downloaded pulumi-resource-proxmoxve-v{PLUGIN.version}-linux-amd64.tar.gz"]


def test_other_build_inputs_are_another_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "toolchain"
    shutil.copytree(versions.FOLDER / "modules", copy / "modules")
    before = CLI.entry_name(), PLUGIN.entry_name()
    monkeypatch.setattr(versions, "FOLDER", copy)
    assert (CLI.entry_name(), PLUGIN.entry_name()) == before
    with (copy / "modules/proxmoxve/main.go").open("a") as file:
        file.write("// changed\n")
    assert CLI.entry_name() == before[0]
    assert PLUGIN.entry_name() != before[1]
