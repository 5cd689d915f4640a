"""The places that have to repeat a version agree with versions.toml."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest

from proxmox_swarm.toolchain import versions

REPOSITORY = versions.FOLDER.parent
PINS = versions.pinned()


def required(module: str) -> dict[str, str]:
    """The versions that modules/<module>/go.mod requires, by Go module."""
    text = (versions.FOLDER / "modules" / module / "go.mod").read_text()
    return dict(re.findall(r"^(?:require\s+|\t)(\S+) v(\S+)", text, re.MULTILINE))


@pytest.mark.parametrize(
    ("module", "dependency", "version"),
    [
        ("pulumi", "github.com/pulumi/pulumi/pkg/v3", PINS.pulumi),
        ("pulumi", "github.com/pulumi/pulumi/sdk/v3", PINS.pulumi),
        ("language-python", "github.com/pulumi/pulumi/sdk/v3", PINS.language_python),
        ("proxmoxve", "github.com/bpg/terraform-provider-proxmox", PINS.terraform_provider_proxmox),
        ("proxmoxve", "github.com/pulumi/pulumi-terraform-bridge/v3", PINS.terraform_bridge),
    ],
)
def test_go_modules_agree(module: str, dependency: str, version: str) -> None:
    assert required(module)[dependency] == version


@pytest.mark.parametrize(("package", "version"), [("pulumi", PINS.pulumi), ("pulumi-proxmoxve", PINS.proxmoxve)])
def test_python_sdks_agree(package: str, version: str) -> None:
    wanted = dict(re.findall(r"^([\w-]+)==(\S+)", (REPOSITORY / "requirements/run.in").read_text(), re.MULTILINE))
    assert wanted[package] == version
    assert importlib.metadata.version(package) == version


def test_versions_stand_in_no_other_file_of_this_package() -> None:
    sources = [path for path in Path(versions.FOLDER).rglob("*") if path.suffix in (".py", ".go")]
    assert len(sources) > 8
    assert [path.name for path in sources if PINS.pulumi in path.read_text() and path.name != "versions.py"] == []
    assert [path.name for path in sources if f"{PINS.proxmoxve}" in path.read_text()] == []


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("v3.259.0", (3, 259, 0)), ("go version go1.26.8 linux/amd64", (1, 26, 8)), ("v3.260.0-alpha.1", (3, 260, 0))],
)
def test_versions_are_read_from_what_programs_say(text: str, numbers: tuple[int, ...]) -> None:
    assert versions.parse(text) == numbers


def test_a_text_without_a_version_is_an_error() -> None:
    with pytest.raises(ValueError, match="no version in 'dev'"):
        versions.parse("dev")
