"""A usable Go is found wherever it is, and is called so that it builds what is pinned."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from proxmox_swarm.toolchain import gobuild, store
from proxmox_swarm.toolchain.errors import SourceFailed
from proxmox_swarm.toolchain.gobuild import GoProgram

MakeProgram = Callable[..., Path]

PROGRAM = GoProgram(
    name="pulumi", module="pulumi", package="example.invalid/cmd", variables=(("a/b.Version", "v1.2.3"),), tags="x,y"
)


def go(version: str, rest: str = "") -> str:
    return f'if [ "$1" = version ]; then echo "go version go{version} linux/amd64"; exit 0; fi\n{rest}'


def test_no_go_at_all() -> None:
    with pytest.raises(SourceFailed, match=r"^Go is not installed \(looked in PATH, .*\); 1\.21 or newer is needed$"):
        gobuild.find_go()


def test_a_go_that_is_too_old_is_named(first_on_path: Path, program: MakeProgram) -> None:
    program(first_on_path / "go", go("1.19.8"))
    with pytest.raises(SourceFailed, match=rf"^Go at {first_on_path}/go is 1\.19\.8; 1\.21 or newer is needed"):
        gobuild.find_go()


def test_the_newest_wins_even_off_path(first_on_path: Path, empty_machine: Path, program: MakeProgram) -> None:
    program(first_on_path / "go", go("1.21.3"))
    program(empty_machine / "usual/go1.9/bin/go", go("1.9.7"))
    newest = program(empty_machine / "usual/go1.26/bin/go", go("1.26.8"))
    program(empty_machine / "usual/go1.99/bin/go", "exit 1")
    assert gobuild.find_go() == str(newest)


def test_go_is_called_with_the_lock_and_the_version(first_on_path: Path, tmp_path: Path, program: MakeProgram) -> None:
    calls = tmp_path / "calls"
    program(
        first_on_path / "go",
        go(
            "1.26.8",
            f"""
python3 - "$@" <<'PY'
import json, os, sys
with open({str(calls)!r}, "a") as f:
    names = ("CGO_ENABLED", "GOWORK", "GOTOOLCHAIN")
    print(json.dumps([sys.argv[1:], os.getcwd(), [os.environ[name] for name in names]]), file=f)
PY
if [ "$1" = list ]; then echo a; echo b; fi
""",
        ),
    )
    lines: list[str] = []
    gobuild.build(PROGRAM, tmp_path / "target", lines.append)
    listed, built = [json.loads(line) for line in calls.read_text().splitlines()]
    flags = ["-mod=readonly", "-trimpath", "-buildvcs=false", "-tags", "x,y"]
    assert listed[0] == ["list", "-deps", *flags, "example.invalid/cmd"]
    assert built[0] == [
        *("build", "-v", *flags, "-ldflags", "-s -w -X a/b.Version=v1.2.3"),
        *("-o", str(tmp_path / "target/pulumi"), "example.invalid/cmd"),
    ]
    assert listed[1:] == built[1:] == [str(PROGRAM.folder), ["0", "off", "auto"]]
    assert lines == ["pulumi: fetching Go modules"]


def test_progress_counts_what_go_says(
    first_on_path: Path, tmp_path: Path, program: MakeProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    say = r"""
if [ "$1" = list ]; then
    echo 'go: downloading example.invalid/a v1.0.0' >&2; echo 'go: downloading example.invalid/b v1.0.0' >&2
    sleep 0.8; printf 'a\nb\nc\n'
else
    echo example.invalid/a >&2; sleep 0.8
fi
"""
    program(first_on_path / "go", go("1.26.8", say))
    monkeypatch.setattr(gobuild, "REPORT_EVERY", 0.25)
    lines: list[str] = []
    gobuild.build(PROGRAM, tmp_path, lines.append)
    assert lines[0] == "pulumi: fetching Go modules"
    assert re.fullmatch(r"pulumi: fetching Go modules, 2 so far \(\d+ s\)", lines[1])
    assert re.fullmatch(r"pulumi: compiling and linking, 1 of up to 3 packages \(\d+ s\)", lines[-1])


def test_what_go_complains_about_is_quoted(first_on_path: Path, tmp_path: Path, program: MakeProgram) -> None:
    complaint = "go: example.invalid/a@v1.0.0: verifying module: checksum mismatch"
    program(first_on_path / "go", go("1.26.8", f"echo 'go: downloading x v1' >&2; echo '{complaint}' >&2; exit 1"))
    with pytest.raises(SourceFailed) as caught:
        gobuild.build(PROGRAM, tmp_path, lambda line: None)
    assert str(caught.value) == f"go ended with status 1: {complaint}"


def test_the_build_leaves_the_store_alone(first_on_path: Path, tmp_path: Path, program: MakeProgram) -> None:
    program(first_on_path / "go", go("1.26.8"))
    gobuild.build(PROGRAM, tmp_path, lambda line: None)
    assert not store.root().exists()
    assert not os.path.lexists(tmp_path / "pulumi")
