"""A backup is taken where the quorum can afford it, from a node that comes back as it was; its file is private."""

from __future__ import annotations

import hashlib
import json
import stat
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxmox_swarm.swarm import backup
from proxmox_swarm.swarm.backup_file import Manifest, read_backup, write_backup
from proxmox_swarm.swarm.errors import BackupUnusable, QuorumAtRisk
from tests.unit.swarm.lost import Disks, ForcingEngine
from tests.unit.swarm.world import World


@pytest.fixture
def disks(world: World) -> Disks:
    disks = Disks(world)

    class Led(ForcingEngine):
        """The first manager leads."""

        def nodes(self) -> list[dict[str, Any]]:
            found = super().nodes()
            next(n for n in found if "ManagerStatus" in n)["ManagerStatus"]["Leader"] = True
            return found

    world.engine = lambda target: Led(world, target, disks)
    return disks


def take(world: World, disks: Disks, names: str = "abc", **options: Any) -> backup.Backup:
    return backup.take(
        world.targets(*names),
        next(iter(world.swarms)),
        drain_timeout=30,
        back_timeout=60,
        access=world,
        files=disks,
        **options,
    )


def test_it_is_taken_from_a_manager_that_does_not_lead_and_that_is_as_before_afterwards(
    world: World, disks: Disks
) -> None:
    swarm = world.build(["a", "b", "c"], ["d"])
    taken = take(world, disks)
    assert disks.log == [("save", "b")]
    manifest = taken.manifest
    assert (manifest.cluster_id, manifest.node, manifest.address) == (swarm.id, "b", "10.0.0.2")
    assert (manifest.node_id, manifest.engine, manifest.commit) == (world["b"].certificate[1], "29.8.2", 50)
    assert manifest.contents == {"services": 1, "networks": 1, "secrets": 1, "configs": 1, "nodes": 4}
    assert {n.spec["Availability"] for n in swarm.nodes.values()} == {"active"}


def test_one_that_is_drained_already_comes_first_and_stays_so(world: World, disks: Disks) -> None:
    world.build(["a", "b", "c"])
    world.node_of(world["c"]).spec["Availability"] = "drain"
    take(world, disks)
    assert disks.log == [("save", "c")]
    assert world.node_of(world["c"]).spec["Availability"] == "drain"


def test_a_manager_can_be_named_but_not_the_leader(world: World, disks: Disks) -> None:
    world.build(["a", "b", "c"])
    take(world, disks, node="c")
    assert disks.log == [("save", "c")]
    with pytest.raises(QuorumAtRisk, match="a is the leader"):
        take(world, disks, node="a")


def test_none_is_taken_while_the_quorum_has_none_to_spare(world: World, disks: Disks) -> None:
    world.build(["a", "b", "c"])
    world["c"].on = False
    with pytest.raises(QuorumAtRisk, match="NONE TO SPARE"):
        take(world, disks)
    assert disks.log == []


@pytest.mark.parametrize("managers", ["a", "ab"])
def test_one_or_two_managers_need_a_word_for_it(world: World, disks: Disks, managers: str) -> None:
    world.build(list(managers))
    with pytest.raises(QuorumAtRisk, match="--stop-decisions"):
        take(world, disks, managers)
    assert disks.log == []
    take(world, disks, managers, stop_decisions=True)
    assert disks.log == [("save", managers[-1])]


MANIFEST = Manifest(
    "cluster", "b", "10.0.0.2", "node", "29.8.2", "2026-01-01T00:00:00+00:00", 50, False, {"nodes": 3}, ""
)
CONTENT = b"packed"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "backups" / "one.backup"
    write_backup(file, replace(MANIFEST, sha256=hashlib.sha256(CONTENT).hexdigest()), CONTENT)
    return file


def test_the_file_is_its_owner_s_alone_and_reads_back(file: Path) -> None:
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]
    manifest, content = read_backup(file)
    assert (manifest.node, manifest.contents, content) == ("b", {"nodes": 3}, CONTENT)
    with tarfile.open(file) as archive:
        assert json.load(archive.extractfile("manifest.json"))["node"] == "b"


def test_a_file_that_is_there_stays_and_the_new_one_has_a_number(file: Path) -> None:
    before = file.read_bytes()
    (file.parent / f".{file.name}.new").write_bytes(b"left by a kill")
    second = write_backup(file, MANIFEST, b"other")
    third = write_backup(file, MANIFEST, b"another")
    assert file.read_bytes() == before
    assert [second.name, third.name] == ["one.backup.2", "one.backup.3"]
    assert sorted(entry.name for entry in file.parent.iterdir()) == [file.name, second.name, third.name]
    assert stat.S_IMODE(second.stat().st_mode) == 0o600


@pytest.mark.parametrize("harm", ["cut off", "changed", "no backup", "missing", "other format"])
def test_a_damaged_file_is_refused(file: Path, harm: str) -> None:
    data = file.read_bytes()
    if harm == "cut off":
        file.write_bytes(data[:600])
    elif harm == "changed":
        file.write_bytes(data.replace(CONTENT, b"qacked"))
    elif harm == "no backup":
        file.write_bytes(b"hello")
    elif harm == "other format":
        file.write_bytes(data.replace(b'"format": 1', b'"format": 9'))
    else:
        file.unlink()
    with pytest.raises(BackupUnusable, match="nothing was changed"):
        read_backup(file)
