"""The programs that read and move raft state on a manager, run here against folders of this test."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from proxmox_swarm.host.remote import raft_position, swarm_files
from proxmox_swarm.host.script import ARGV
from proxmox_swarm.swarm.state_files import position_in


def varint(number: int) -> bytes:
    out = b""
    while True:
        number, low = number >> 7, number & 0x7F
        out += bytes([low | (0x80 if number else 0)])
        if not number:
            return out


def message(**fields: int | bytes) -> bytes:
    out = b""
    for name, value in fields.items():
        number = int(name.removeprefix("f"))
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def frame(kind: int, content: bytes) -> bytes:
    """A record as etcd's log has it: a length with the padding to eight bytes in its upper part, then the record."""
    record = message(f1=kind, f2=7, f3=content)
    padding = -len(record) % 8
    length = len(record) | ((0x80 | padding) << 56 if padding else 0)
    return struct.pack("<Q", length) + record + b"\0" * padding


def metadata(node_id: str) -> bytes:
    return frame(1, message(f1=99, f2=node_id.encode(), f3=b"10.0.0.1:2377"))


def entry(term: int, index: int, data: bytes = b"sealed") -> bytes:
    return frame(2, message(f1=0, f2=term, f3=index, f4=data))


def state(term: int, commit: int) -> bytes:
    return frame(3, message(f1=term, f2=99, f3=commit))


@pytest.fixture
def raft(tmp_path: Path) -> Path:
    for name in ("wal-v3-encrypted", "snap-v3-encrypted"):
        (tmp_path / "raft" / name).mkdir(parents=True)
    return tmp_path / "raft"


def write(raft: Path, log: bytes, name: str = "0000000000000000-0000000000000000.wal", room: int = 4096) -> None:
    (raft / "wal-v3-encrypted" / name).write_bytes(log + b"\0" * room)


def test_commit_index_and_last_entry_are_read_out_of_the_log(raft: Path) -> None:
    write(raft, metadata("n1") + b"".join(entry(2, i, b"x" * i) for i in range(1, 40)) + state(3, 37))
    found = raft_position.read(raft)
    assert {k: found[k] for k in ("node_id", "commit", "term", "index")} == {
        "node_id": "n1",
        "commit": 37,
        "term": 2,
        "index": 39,
    }
    assert found["written"] < 60


def test_entries_that_were_overwritten_after_an_election_do_not_count(raft: Path) -> None:
    write(raft, metadata("n1") + b"".join(entry(2, i) for i in range(1, 20)) + entry(3, 11) + state(3, 11))
    found = raft_position.read(raft)
    assert (found["term"], found["index"], found["commit"]) == (3, 11, 11)


def test_logs_are_read_in_their_order(raft: Path) -> None:
    write(raft, metadata("n1") + entry(2, 1) + state(2, 1))
    write(raft, metadata("n1") + entry(4, 9) + state(4, 8), "0000000000000001-0000000000000002.wal")
    found = raft_position.read(raft)
    assert (found["term"], found["index"], found["commit"]) == (4, 9, 8)


def test_a_snapshot_that_is_ahead_of_the_log_counts(raft: Path) -> None:
    write(raft, metadata("n1") + entry(2, 30) + state(2, 30))
    (raft / "snap-v3-encrypted" / "0000000000000005-00000000000003e8.snap").touch()
    (raft / "snap-v3-encrypted" / "db.tmp").touch()
    found = raft_position.read(raft)
    assert (found["term"], found["index"], found["commit"]) == (5, 1000, 1000)


@pytest.mark.parametrize("tail", [entry(2, 3)[:-9], b"\xff" * 64, b"\x10\0\0\0\0\0\0\0" + b"\x0b" * 16])
def test_a_torn_end_is_left_out(raft: Path, tail: bytes) -> None:
    write(raft, metadata("n1") + entry(2, 1) + entry(2, 2) + state(2, 2) + tail, room=0)
    found = raft_position.read(raft)
    assert (found["index"], found["commit"]) == (2, 2)


def test_where_there_is_no_log_there_is_no_position(raft: Path) -> None:
    assert raft_position.read(raft) is None
    write(raft, b"")
    assert raft_position.read(raft) is None


def test_it_is_read_out_of_a_packed_folder_too(raft: Path) -> None:
    write(raft, metadata("n1") + entry(2, 9) + state(2, 8))
    (raft / "snap-v3-encrypted" / "0000000000000001-0000000000000003.snap").touch()
    packed = swarm_files.pack(raft.parent)
    packed.seek(0)
    found = position_in(packed.read())
    assert found is not None
    assert (found.node_id, found.commit, found.term, found.index) == ("n1", 8, 2, 9)


class Systemd:
    """What the programs ask of systemd, and dockerd with it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.state = "active"
        self.guarded = False
        self.refuses = ""
        monkeypatch.setattr(swarm_files, "run", self.run)
        monkeypatch.setattr(swarm_files, "answers", lambda deadline: self.state == "active")
        monkeypatch.setattr(swarm_files.signal, "signal", lambda *_: None)
        self.root = root
        self.swarm = root / "swarm"
        for name in ("certificates/swarm-node.key", "raft/wal-v3-encrypted/0.wal", "raft/wal-v3-encrypted/0.tmp"):
            (self.swarm / name).parent.mkdir(parents=True, exist_ok=True)
            (self.swarm / name).write_text(f"content of {name}")
        (self.swarm / "certificates/swarm-node.key").chmod(0o600)
        (self.swarm / "docker-state.json").write_text("{}")

    def run(self, *argv: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        self.log.append(" ".join(argv[:2]))
        out, code = "", 0
        if argv[0] == "systemd-run":
            self.guarded, code = True, 1 if self.refuses == "guard" else 0
        elif argv[:2] == ("systemctl", "stop") and argv[2].endswith(".timer"):
            self.guarded = False
        elif argv[:2] == ("systemctl", "stop"):
            assert self.guarded, "a kill from here on must not leave dockerd stopped"
            self.state = "active" if self.refuses == "stop" else "inactive"
        elif argv[:2] == ("systemctl", "start"):
            self.state, code = ("failed", 1) if self.refuses == "start" else ("active", 0)
        elif argv[:2] == ("systemctl", "is-active"):
            out = self.state
        elif argv[0] == "journalctl":
            out = "failed to start daemon: no such driver"
        return subprocess.CompletedProcess(argv, code, out, "no bus" if code else "")

    def main(self, **args: object) -> dict:
        return swarm_files.main({"root": str(self.root), "timeout": 5, **args})


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    return Systemd(tmp_path / "docker", monkeypatch)


class Out:
    """A stdout whose bytes are kept."""

    def __init__(self) -> None:
        self.buffer = io.BytesIO()


def saved(host: Systemd, monkeypatch: pytest.MonkeyPatch, **args: object) -> tuple[bytes, dict]:
    out = Out()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        result = host.main(save=True, **args)
    return out.buffer.getvalue()[:-1], result


def names(packed: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        return {member.name for member in archive if member.isreg()}


def test_it_is_packed_with_dockerd_stopped_and_dockerd_runs_before_anything_is_sent(
    host: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    (host.swarm / "proxmox-swarm-recovery").touch()
    packed, result = saved(host, monkeypatch)
    assert names(packed) == {"./certificates/swarm-node.key", "./raft/wal-v3-encrypted/0.wal", "./docker-state.json"}
    assert result["size"] == len(packed)
    assert (host.state, host.guarded) == ("active", False)
    assert {p.name for p in host.root.iterdir()} == {"swarm"}, "nothing is left on the host"


@pytest.mark.parametrize("refuses", ["guard", "stop", "start"])
def test_whatever_fails_dockerd_is_started_again_or_its_last_words_are_told(
    host: Systemd, monkeypatch: pytest.MonkeyPatch, refuses: str
) -> None:
    host.refuses = refuses
    with pytest.raises(SystemExit, match="no such driver" if refuses == "start" else "dockerd"):
        saved(host, monkeypatch)
    assert host.state == ("failed" if refuses == "start" else "active")
    assert host.guarded is (refuses == "start" or refuses == "guard"), "systemd goes on trying where we could not"


def test_detached_state_waits_for_a_force_and_can_be_packed_again(
    host: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(host, monkeypatch, detach=True)
    packed, _ = saved(host, monkeypatch, detach=True)
    assert "./raft/wal-v3-encrypted/0.wal" in names(packed)
    assert not (host.swarm / "docker-state.json").exists()
    assert (host.swarm / "proxmox-swarm-recovery").exists()


def test_a_detached_swarm_is_attached_again_by_an_undo(host: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(host, monkeypatch, detach=True)
    assert host.main(undo=True)["aside"] is None
    assert (host.swarm / "docker-state.json").read_text() == "{}"
    assert not (host.swarm / "proxmox-swarm-recovery").exists()


def test_the_end_of_a_recovery_restarts_dockerd_and_removes_the_mark(
    host: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(host, monkeypatch, detach=True)
    (host.swarm / "docker-state.json").write_text("new")
    host.main(finish=True)
    assert "systemctl restart" in host.log
    assert sorted(p.name for p in host.swarm.iterdir()) == ["certificates", "docker-state.json", "raft"]


def put(host: Systemd, monkeypatch: pytest.MonkeyPatch, data: bytes, sha256: str = "") -> dict:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", type("In", (), {"buffer": io.BytesIO(data)}))
        return host.main(put=True, sha256=sha256 or hashlib.sha256(data).hexdigest())


def test_packed_state_is_put_in_place_detached_and_what_was_there_is_kept(
    host: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed, _ = saved(host, monkeypatch)
    (host.swarm / "raft" / "wal-v3-encrypted" / "0.wal").write_text("later")
    aside = put(host, monkeypatch, packed)["aside"]
    wal = "raft/wal-v3-encrypted/0.wal"
    assert (host.swarm / wal).read_text() == f"content of {wal}"
    assert (Path(aside) / wal).read_text() == "later"
    assert not (host.swarm / "docker-state.json").exists() and (host.swarm / "proxmox-swarm-recovery").exists()
    assert (host.swarm / "certificates" / "swarm-node.key").stat().st_mode & 0o777 == 0o600
    assert host.swarm.stat().st_mode & 0o777 == 0o700


def test_state_from_a_backup_is_taken_away_by_an_undo(host: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    packed, _ = saved(host, monkeypatch)
    put(host, monkeypatch, packed)
    aside = host.main(undo=True)["aside"]
    assert aside and not host.swarm.exists()


def test_a_damaged_or_foreign_archive_changes_nothing(host: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    packed, _ = saved(host, monkeypatch)
    with pytest.raises(SystemExit, match="did not arrive"):
        put(host, monkeypatch, packed[:-1], sha256="0")
    evil = io.BytesIO()
    with tarfile.open(fileobj=evil, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../../etc/cron.d/x"))
    with pytest.raises(SystemExit, match="nothing was changed"):
        put(host, monkeypatch, evil.getvalue())
    assert (host.swarm / "docker-state.json").exists() and host.state == "active"


def test_a_program_gets_what_follows_its_arguments_byte_for_byte() -> None:
    data = bytes(range(256)) * 100
    program = "import sys,hashlib\ndef main(args):\n return hashlib.sha256(sys.stdin.buffer.read()).hexdigest()\n"
    line = json.dumps({"program": program + "print(main(args))", "args": {}}).encode() + b"\n"
    done = subprocess.run(ARGV, input=line + data, capture_output=True, check=True, env=dict(os.environ))
    assert done.stdout.decode().strip() == hashlib.sha256(data).hexdigest()
