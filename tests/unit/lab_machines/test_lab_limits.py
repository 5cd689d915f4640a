"""Raised kernel limits, on a copy of the files."""

from pathlib import Path

import pytest

from proxmox_swarm.lab.machines.limits import WANTED, Limits, restore

LOW = dict.fromkeys(WANTED, 100)


@pytest.fixture
def sysctl(tmp_path: Path) -> Path:
    for name, value in LOW.items():
        (tmp_path / "sys" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys" / name).write_text(f"{value}\n")
    return tmp_path / "sys"


def values(sysctl: Path) -> dict[str, int]:
    return {name: int((sysctl / name).read_text()) for name in WANTED}


def test_raises_and_puts_back(tmp_path: Path, sysctl: Path) -> None:
    limits = Limits(tmp_path / "state", sysctl)
    limits.raise_()
    limits.raise_()
    assert values(sysctl) == WANTED
    limits.restore()
    assert values(sysctl) == LOW
    assert not (tmp_path / "state").exists()


def test_never_lowers(tmp_path: Path, sysctl: Path) -> None:
    high = {name: wanted * 2 for name, wanted in WANTED.items()}
    for name, value in high.items():
        (sysctl / name).write_text(str(value))
    limits = Limits(tmp_path / "state", sysctl)
    limits.raise_()
    assert values(sysctl) == high
    limits.restore()
    assert values(sysctl) == high


def test_the_last_of_two_puts_back(tmp_path: Path, sysctl: Path) -> None:
    first, second = Limits(tmp_path / "state", sysctl), Limits(tmp_path / "state", sysctl)
    first.raise_()
    second.raise_()
    first.restore()
    assert values(sysctl) == WANTED
    second.restore()
    assert values(sysctl) == LOW


def test_the_next_one_knows_the_old_values_of_a_killed_one(tmp_path: Path, sysctl: Path) -> None:
    killed = Limits(tmp_path / "state", sysctl)
    killed.raise_()
    assert killed._lock
    killed._lock.close()  # what the kernel does at its death
    after = Limits(tmp_path / "state", sysctl)
    after.raise_()
    assert values(sysctl) == WANTED
    after.restore()
    assert values(sysctl) == LOW


def test_restore_alone_cleans_after_a_killed_one(tmp_path: Path, sysctl: Path) -> None:
    killed = Limits(tmp_path / "state", sysctl)
    killed.raise_()
    restore(tmp_path / "state", sysctl)
    assert values(sysctl) == WANTED, "it still runs"
    assert killed._lock
    killed._lock.close()
    restore(tmp_path / "state", sysctl)
    assert values(sysctl) == LOW
    restore(tmp_path / "state", sysctl)


def test_a_writer_killed_before_it_wrote(tmp_path: Path, sysctl: Path) -> None:
    (tmp_path / "state").touch()
    limits = Limits(tmp_path / "state", sysctl)
    limits.raise_()
    assert values(sysctl) == WANTED
    limits.restore()
    assert values(sysctl) == LOW
