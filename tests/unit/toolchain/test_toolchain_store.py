"""Entries are complete or absent, whatever happens meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from proxmox_swarm.toolchain import store
from proxmox_swarm.toolchain.errors import ToolchainError

HOLDER = """
import sys, time
from proxmox_swarm.toolchain import store
with store.locked(print):
    def fill(target):
        (target / "half").write_text("x")
        print("holding", flush=True)
        time.sleep(60)
    store.add("entry", fill)
"""


def quiet(line: str) -> None:
    del line


def holder() -> subprocess.Popen[str]:
    """Another run, in the middle of making an entry."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    return process


def test_an_entry_appears_when_it_is_complete() -> None:
    def fill(target: Path) -> None:
        (target / "program").write_text("x")
        assert store.entry("entry") is None

    with store.locked(quiet):
        made = store.add("entry", fill)
    assert made == store.entry("entry") == store.root() / "entry"
    assert (made / "program").read_text() == "x"
    assert sorted(path.name for path in store.root().iterdir()) == ["entry", "lock"]


def test_a_failure_leaves_nothing() -> None:
    def fill(target: Path) -> None:
        (target / "half").write_text("x")
        raise RuntimeError("broken")

    with store.locked(quiet), pytest.raises(RuntimeError, match="broken"):
        store.add("entry", fill)
    assert store.entry("entry") is None
    assert [path.name for path in store.root().iterdir()] == ["lock"]


def test_a_killed_run_leaves_nothing_that_counts() -> None:
    other = holder()
    other.send_signal(signal.SIGKILL)
    other.wait(timeout=10)
    assert len(list(store.root().iterdir())) == 2  # the lock, and what it was making
    with store.locked(quiet):
        assert store.entry("entry") is None
        assert [path.name for path in store.root().iterdir()] == ["lock"]


def test_a_second_run_waits_and_says_so() -> None:
    other = holder()
    lines: list[str] = []
    got = threading.Event()

    def second() -> None:
        with store.locked(lines.append):
            got.set()

    thread = threading.Thread(target=second)
    thread.start()
    assert not got.wait(timeout=1)
    os.kill(other.pid, signal.SIGKILL)
    other.wait(timeout=10)
    assert got.wait(timeout=10)
    thread.join()
    assert lines == ["waiting for another run that is preparing the tools (0 s)"]


def test_waiting_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LOCK_DEADLINE", 0.5)
    other = holder()
    try:
        with (
            pytest.raises(ToolchainError, match=r"another run has been preparing the tools .* end it"),
            store.locked(quiet),
        ):
            pass
    finally:
        other.kill()
        other.wait(timeout=10)


def test_only_the_owner_may_look(empty_machine: Path) -> None:
    with store.locked(quiet):
        assert store.root().stat().st_mode & 0o777 == 0o700
