"""Programs are run with a deadline and ended with everything they started."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from proxmox_swarm.toolchain import process
from proxmox_swarm.toolchain.errors import SourceFailed


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_output_and_environment() -> None:
    assert (
        process.run(["sh", "-c", "echo $ADDED in $PWD"], deadline=10, env={"ADDED": "x"}, cwd=Path("/")) == "x in /\n"
    )


def test_a_failure_quotes_what_was_not_progress() -> None:
    with pytest.raises(SourceFailed) as caught:
        process.run(
            ["sh", "-c", "echo one >&2; echo progress >&2; echo two >&2; exit 3"],
            deadline=10,
            on_error_line=lambda line: line == "progress",
        )
    assert str(caught.value) == "sh ended with status 3: one\n    two"


def test_a_missing_program() -> None:
    with pytest.raises(SourceFailed, match=r"^/nowhere/go cannot be run: No such file or directory$"):
        process.run(["/nowhere/go"], deadline=10)


def test_ticks_come_while_it_runs() -> None:
    ticks: list[float] = []
    process.run(["sleep", "0.5"], deadline=10, tick=ticks.append, every=0.1)
    assert 2 <= len(ticks) <= 6
    assert ticks == sorted(ticks)
    assert ticks[0] >= 0.1


def test_the_deadline_ends_children_too(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    started = time.monotonic()
    with pytest.raises(SourceFailed, match=r"^sh did not finish within 1 s and was ended$"):
        process.run(["sh", "-c", f"sleep 60 & echo $! > {pid_file}; wait"], deadline=1)
    assert time.monotonic() - started < 5
    child = int(pid_file.read_text())
    for _ in range(50):
        if not alive(child):
            break
        time.sleep(0.1)
    assert not alive(child)
