"""The programs that run on nodes, run here against folders and stand-ins of this test."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from pathlib import Path

import pytest

from proxmox_swarm.host import files
from proxmox_swarm.host.connection import connect
from proxmox_swarm.host.errors import CommandFailed
from proxmox_swarm.host.facts import read_facts
from proxmox_swarm.host.remote import data_disk, docker_install, host_state
from proxmox_swarm.host.script import ARGV, payload, run_script
from tests.unit.host.ssh_server import Server

OLD = files.daemon_text({"log-driver": "json-file"})
NEW = files.daemon_text({"log-driver": "local"})


class Host:
    """daemon.json, the mark, systemctl: what set_daemon works with."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.daemon, self.pending = root / "daemon.json", root / "pending"
        self.log: list[str] = []
        self.state = "active"
        self.starts_with: list[str] = [OLD, NEW]
        self.invalid = ""
        self.reloads = True
        for name, value in {
            "DAEMON": self.daemon,
            "PENDING": self.pending,
            "run": self.run,
            "dockerd": lambda: "/usr/sbin/dockerd",
            "answers": lambda deadline: self.state == "active",
        }.items():
            monkeypatch.setattr(host_state, name, value)

    def run(self, *argv: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        self.log.append(" ".join(argv[:2]))
        out, code = "", 0
        if argv[:2] == ("systemctl", "is-active"):
            out = self.state
        elif argv[:2] == ("systemctl", "show"):
            out = str(os.getpid())  # dockerd as old as this test run
        elif argv[:2] == ("systemctl", "restart"):
            assert self.pending.exists(), "a kill between the two steps must be seen"
            good = self.daemon.exists() and self.daemon.read_text() in self.starts_with
            self.state, code = ("active", 0) if good else ("failed", 1)
        elif argv[:2] == ("systemctl", "reload"):
            assert self.pending.exists(), "a kill between the two steps must be seen"
            code = 0 if self.reloads else 1
        elif argv[0] == "journalctl":
            out = "noise\nfailed to start daemon: no such driver\nstopped"
        elif argv[0] == "/usr/sbin/dockerd":
            return subprocess.CompletedProcess(argv, 1 if self.invalid else 0, "", self.invalid)
        return subprocess.CompletedProcess(argv, code, out, "")

    def set(self, text: str, **options: object) -> dict:
        args = {
            "daemon": text,
            "reloadable": ["debug", "labels"],
            "may_restart": True,
            "first": False,
            "keep": False,
            "adopting": False,
            "timeout": 5,
            **options,
        }
        return host_state.set_daemon(args)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(tmp_path, monkeypatch)
    host.daemon.write_text(OLD)
    return host


def test_the_same_content_in_other_words_changes_nothing(host: Host) -> None:
    assert host.set('{"log-driver":"json-file"}') == {}
    assert not host.log and host.daemon.read_text() == OLD


def test_a_file_that_came_after_dockerd_had_started_is_loaded_by_a_restart(host: Host) -> None:
    assert host.set(OLD, first=True, may_restart=False) == {"restart_needed": True}
    assert host.set(OLD, first=True) == {}
    assert "systemctl restart" in host.log


def test_a_file_that_dockerd_started_with_is_left_alone(host: Host) -> None:
    os.utime(host.daemon, (0, 0))
    assert host.set(OLD, first=True) == {}
    assert "systemctl restart" not in host.log


def test_a_change_of_reloadable_keys_is_reloaded(host: Host) -> None:
    text = files.daemon_text({"log-driver": "json-file", "debug": True, "labels": ["a=b"]})
    assert host.set(text, may_restart=False) == {}
    assert host.log[-1] == "systemctl reload" and host.daemon.read_text() == text
    assert host.set(OLD, may_restart=False) == {}, "taking them away is reloaded too"
    assert not host.pending.exists()


def test_a_reload_that_fails_is_made_up_for_by_a_restart(host: Host) -> None:
    host.reloads = False
    text = files.daemon_text({"log-driver": "json-file", "debug": True})
    host.starts_with.append(text)
    assert host.set(text, may_restart=False) == {"restart_needed": True}
    assert host.set(text) == {}
    assert host.log[-1] == "systemctl restart" and not host.pending.exists()


def test_a_change_that_needs_a_restart_waits_for_the_permission(host: Host) -> None:
    assert host.set(NEW, may_restart=False) == {"restart_needed": True}
    assert host.daemon.read_text() == OLD and "systemctl restart" not in host.log
    assert host.set(NEW) == {}
    assert host.daemon.read_text() == NEW and not host.pending.exists()


def test_a_machine_that_was_there_before_keeps_what_is_not_declared(host: Host) -> None:
    host.daemon.write_text('{"log-driver": "journald", "mtu": 1400, "debug": false}')
    both = files.daemon_text({"log-driver": "journald", "mtu": 1400, "debug": True})
    assert host.set('{"debug": true}', keep=True, may_restart=False) == {}
    assert host.daemon.read_text() == both and host.log[-1] == "systemctl reload"
    assert host.set('{"debug": true}', keep=True) == {}
    assert host.log[-1] == "systemctl reload"
    assert host.set('{"mtu": 1500}', keep=True, may_restart=False) == {"restart_needed": True}
    assert host.daemon.read_text() == both


def test_a_broken_file_of_a_machine_that_was_there_before_gives_way_to_what_is_declared(host: Host) -> None:
    host.daemon.write_text("{broken")
    assert host.set(NEW, keep=True) == {}
    assert host.daemon.read_text() == NEW


def test_at_its_adoption_a_running_engine_and_its_file_are_left_alone(host: Host) -> None:
    assert host.set(NEW, adopting=True) == {}
    assert host.daemon.read_text() == OLD and not host.log


@pytest.mark.parametrize(
    ("there", "spared"),
    [("#!/bin/sh\nexec podman\n", True), (files.WRAPPER_TEXT.replace("exec", "exec  "), False), (None, False)],
)
def test_a_docker_command_of_somebody_elses_stays_in_its_place(
    host: Host, tmp_path: Path, there: str | None, spared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_state, "set_daemon", lambda _: {})
    monkeypatch.setattr(host_state, "set_names", lambda *_: None)
    wrapper = tmp_path / "bin" / "docker"
    wrapper.parent.mkdir()
    if there is not None:
        wrapper.write_text(there)
    path = str(wrapper)
    wanted = {"files": {path: (files.WRAPPER_TEXT, 0o755)}, "spare": [path], "resolved": None, "resolv": None}
    found = host_state.main({**wanted, "paths": [path]})["files"][path]
    assert found == (there if spared else files.WRAPPER_TEXT)
    assert files.is_foreign(there) == spared


@pytest.mark.parametrize("state", ["inactive", "deactivating", "activating", "failed"])
def test_an_engine_that_does_not_run_needs_no_permission_the_first_time_alone(host: Host, state: str) -> None:
    """Later somebody may have stopped it for work of their own."""
    host.state = state
    assert host.set(NEW, may_restart=False) == {"restart_needed": True}
    assert host.daemon.read_text() == OLD
    assert host.set(NEW, may_restart=False, first=True) == {}
    assert host.log[-1] == "systemctl restart"


def test_a_configuration_that_dockerd_finds_invalid_is_not_put_in_place(host: Host) -> None:
    host.invalid = "the following directives don't match any configuration option: nonsense"
    assert host.set(NEW) == {"refused": host.invalid}
    assert host.daemon.read_text() == OLD and list(host.daemon.parent.iterdir()) == [host.daemon]


def test_an_old_engine_that_cannot_validate_is_asked_by_starting_it(host: Host) -> None:
    host.invalid = "unknown flag: --validate"
    assert host.set(NEW) == {}


def test_a_configuration_that_dockerd_does_not_start_with_is_taken_back(host: Host) -> None:
    host.starts_with = [OLD]
    result = host.set(NEW)
    assert result["refused"].splitlines()[0] == "failed to start daemon: no such driver"
    assert (host.state, host.daemon.read_text(), host.pending.exists()) == ("active", OLD, False)


def test_a_restart_that_a_kill_prevented_is_made_up_for(host: Host) -> None:
    host.pending.touch()
    assert host.set(OLD, may_restart=False) == {"restart_needed": True}
    assert host.set(OLD) == {}
    assert "systemctl restart" in host.log and not host.pending.exists()


def test_writing_is_whole_and_says_whether_it_changed_anything(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "file"
    assert host_state.write(path, "x", 0o755) and path.stat().st_mode & 0o777 == 0o755
    assert not host_state.write(path, "x", 0o755)
    assert host_state.write(path, "x", 0o644)
    path.unlink()
    path.symlink_to("elsewhere")
    assert host_state.write(path, "y") and not path.is_symlink()
    assert host_state.write(path, None) and not path.exists()
    assert not host_state.write(path, None)
    assert list(path.parent.iterdir()) == []


def test_a_plain_resolv_conf_is_kept_aside_and_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolv, before = tmp_path / "resolv.conf", tmp_path / "before"
    monkeypatch.setattr(host_state, "RESOLV", resolv)
    monkeypatch.setattr(host_state, "RESOLV_BEFORE", before)
    resolv.write_text("nameserver 10.0.0.1\n")
    for text in ("one\n", "two\n"):
        host_state.set_names(None, text, running=False)
        assert (resolv.read_text(), before.read_text()) == (text, "nameserver 10.0.0.1\n")
    host_state.set_names(None, None, running=False)
    assert resolv.read_text() == "nameserver 10.0.0.1\n" and not before.exists()
    host_state.set_names(None, None, running=False)
    assert resolv.exists()


FINGERPRINT = "183BB390430A26A0B4085CB4188E5AE11130F028"
# Made with gpg 2.2: an Ed25519 key whose fingerprint gpg gives as below.
KEY = """-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawFyCBYJKwYBBAHaRw8BAQdAkyMgx9k3vUe4OFX3w5Wkd67K7t1C/Pwqo71E
NDJjlEe0FFRlc3QgPHRAZXhhbXBsZS5jb20+iJAEExYIADgWIQQYO7OQQwomoLQI
XLQYjlrhETDwKAUCawFyCAIbAwULCQgHAgYVCgkICwIEFgIDAQIeAQIXgAAKCRAY
jlrhETDwKJJuAP9/ZRPOAGgvmwDYVULCa9ZGLAkSF05VaOQH6pL4QHF7mwD+L3es
1FbNucF6j+b9H5JQyv4JAdRXyWQr8i1e2KAJfA8=
=riR6
-----END PGP PUBLIC KEY BLOCK-----
"""


@pytest.mark.parametrize(
    ("text", "fingerprints"),
    [
        (KEY, ["183BB390430A26A0B4085CB4188E5AE11130F028"]),
        (
            KEY.replace("BLOCK-----\n\n", "BLOCK-----\nVersion: x\nComment: y\n\n"),
            ["183BB390430A26A0B4085CB4188E5AE11130F028"],
        ),
        ("<html>not found</html>", []),
        ("", []),
    ],
)
def test_fingerprints_are_those_gpg_gives(text: str, fingerprints: list[str]) -> None:
    assert docker_install.primary_fingerprints(text) == fingerprints


def test_a_repository_key_with_another_fingerprint_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "gpg"
    key.write_text(KEY)
    monkeypatch.setattr(docker_install, "KEYRING", tmp_path / "keyrings" / "docker.asc")
    monkeypatch.setattr(docker_install, "SOURCE", tmp_path / "docker.list")
    monkeypatch.setattr(docker_install, "release", lambda: {"ID": "debian", "VERSION_CODENAME": "trixie"})
    args = {"key_url": key.as_uri(), "repository": "https://example/{distribution}", "fingerprint": "9DC8"}
    with pytest.raises(SystemExit, match=r"183BB390.*not 9DC8: not used"):
        docker_install.add_repository(args)
    assert list(tmp_path.iterdir()) == [key]
    docker_install.add_repository({**args, "fingerprint": FINGERPRINT})
    assert (tmp_path / "docker.list").read_text().endswith("https://example/debian trixie stable\n")


class Disk:
    """blkid's and findmnt's view of one disk, and what was done to it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.blkid, self.mounted, self.size = (2, ""), "", 10 << 30
        self.by_id = root / "by-id"
        self.by_id.mkdir()
        monkeypatch.setattr(data_disk, "BY_ID", self.by_id)
        monkeypatch.setattr(data_disk, "run", self.run)

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        self.log.append(argv[0])
        answers = {"blkid": self.blkid, "findmnt": (0, self.mounted), "blockdev": (0, str(self.size))}
        code, out = answers.get(argv[0], (0, ""))
        return subprocess.CompletedProcess(argv, code, out, "")


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path, monkeypatch)


@pytest.mark.parametrize("name", ["scsi-0QEMU_QEMU_HARDDISK_data-1", "virtio-data-1"])
def test_a_disk_is_found_by_its_serial_and_not_by_a_longer_one(disk: Disk, name: str) -> None:
    for other in ("scsi-0QEMU_QEMU_HARDDISK_data-11", "scsi-0QEMU_QEMU_HARDDISK_data-1-part1", name):
        (disk.by_id / other).touch()
    assert data_disk.find("data-1", 1).name == name


def test_a_missing_disk_is_named_with_what_is_there(disk: Disk) -> None:
    (disk.by_id / "scsi-0QEMU_QEMU_HARDDISK_data-2").touch()
    with pytest.raises(SystemExit, match=r"no disk with serial data-1.*data-2"):
        data_disk.find("data-1", 0)


def test_only_a_blank_disk_is_formatted(disk: Disk) -> None:
    device = disk.by_id / "x"
    device.touch()
    assert data_disk.format_if_blank(device) is True and "mkfs.ext4" in disk.log
    for kind in ("ext4", "xfs"):
        disk.log.clear()
        disk.blkid = (0, f"DEVNAME=/dev/sdb\nTYPE={kind}\n")
        assert data_disk.format_if_blank(device) is False and disk.log == ["blkid"]
    for text in ("TYPE=LVM2_member\n", "PTTYPE=gpt\n", ""):
        disk.log.clear()
        disk.blkid = (0, text)
        with pytest.raises(SystemExit, match="not touched"):
            data_disk.format_if_blank(device)
        assert disk.log == ["blkid"]


def test_a_disk_that_cannot_be_read_is_not_taken_for_a_blank_one(disk: Disk) -> None:
    with pytest.raises(SystemExit, match=r"cannot be read .*not touched"):
        data_disk.format_if_blank(disk.by_id / "gone")
    assert "mkfs.ext4" not in disk.log


def test_a_mount_point_that_something_else_uses_is_left_alone(disk: Disk) -> None:
    (disk.by_id / "virtio-data-1").touch()
    disk.mounted = "/dev/sdz1"
    with pytest.raises(SystemExit, match="/mnt is mounted from /dev/sdz1"):
        data_disk.main({"serial": "data-1", "mount": "/mnt", "size": 10, "timeout": 0})
    assert "mkfs.ext4" not in disk.log


def test_an_absent_disk_is_an_answer_that_can_be_acted_on(disk: Disk) -> None:
    args = {"serial": "data-1", "mount": "/mnt", "size": 12, "timeout": 0}
    assert data_disk.main(args) == {"absent": "no disk with serial data-1; /dev/disk/by-id has nothing"}
    (disk.by_id / "virtio-data-1").touch()
    assert data_disk.main(args) == {"absent": "virtio-data-1 shows 10.0 GiB, declared are 12"}
    assert disk.log == ["blockdev"]


@pytest.mark.parametrize("blank", [False, True])
def test_a_file_system_that_was_there_takes_all_of_its_disk(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blank: bool
) -> None:
    monkeypatch.setattr(data_disk, "UNITS", tmp_path / "units")
    monkeypatch.setattr(data_disk, "unit_of", lambda _: "mnt.mount")
    (disk.by_id / "virtio-data-1").touch()
    disk.blkid = (2, "") if blank else (0, "TYPE=ext4\n")
    found = data_disk.main({"serial": "data-1", "mount": str(tmp_path / "mnt"), "size": 10, "timeout": 0})
    assert found["formatted"] is blank
    assert ("resize2fs" in disk.log) is not blank


@pytest.mark.parametrize(("ours", "mount"), [(True, "/mnt"), (True, "/data"), (False, "/data")])
def test_a_mount_is_let_go_with_what_makes_dockerd_wait_for_it(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ours: bool, mount: str
) -> None:
    """Another mount's guard stays; so does a unit of somebody else's."""
    monkeypatch.setattr(data_disk, "UNITS", tmp_path)
    monkeypatch.setattr(data_disk, "unit_of", lambda _: "mnt.mount")
    unit, guard = tmp_path / "mnt.mount", tmp_path / data_disk.GUARD
    unit.write_text(data_disk.OURS if ours else "[Unit]\n")
    guard.parent.mkdir()
    guard.write_text(f"{data_disk.OURS}[Unit]\nRequiresMountsFor={mount}\n")
    assert data_disk.main({"release": "/mnt/"}) == {"released": ours}
    assert (unit.exists(), guard.exists()) == (not ours, mount != "/mnt")
    assert ("systemctl" in disk.log) is ours


@pytest.mark.parametrize("path", sorted(Path(host_state.__file__).parent.glob("[a-z]*.py")), ids=lambda p: p.stem)
def test_programs_need_nothing_but_the_standard_library_and_old_interpreters(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)} | {
        a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names
    }
    assert not {
        name for name in imported if name and name.partition(".")[0] in ("proxmox_swarm", "asyncssh", "requests")
    }
    assert "__future__" in imported, "annotations must not be evaluated by an old python3"
    assert any(isinstance(n, ast.FunctionDef) and n.name == "main" for n in tree.body)


def test_a_program_gets_its_arguments_and_gives_its_result_over_ssh(server: Server) -> None:
    (server.folder / "f").write_text("text")
    host = connect(server.target(), 10)
    args = {"paths": [str(server.folder / "f"), "/nonexistent"]}
    server.program("systemctl", "#!/bin/sh\nexit 3\n")
    result = run_script(host, "host_state", args, what="reading", timeout=20)
    assert result["files"] == {str(server.folder / "f"): "text", "/nonexistent": None} and result["resolved"] is False


@pytest.mark.parametrize(("systemctl", "word"), [("echo failed", "failed"), ("exit 1", "")])
def test_facts_have_systemds_word_for_dockerd(server: Server, systemctl: str, word: str) -> None:
    server.program("systemctl", f"#!/bin/sh\n{systemctl}\n")
    assert read_facts(connect(server.target(), 10), [], timeout=20).dockerd == word


def test_a_program_that_fails_tells_its_last_line_first(server: Server) -> None:
    host = connect(server.target(), 10)
    with pytest.raises(CommandFailed, match=r"^mounting on n1 \(127.0.0.1\): KeyError: 'mount'"):
        run_script(host, "data_disk", {"serial": "none", "timeout": 0}, what="mounting", timeout=20)


def test_nothing_of_the_arguments_is_on_the_command_line() -> None:
    secret = "SWMTKN-1-secret"
    assert secret.encode() in payload("host_state", {"x": secret})
    assert secret not in " ".join(ARGV)


def test_the_port_programs_find_what_is_open_and_what_is_not(tmp_path: Path) -> None:
    def start(name: str, args: dict) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(ARGV, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ))
        process.stdin.write(payload(name, args))
        process.stdin.flush()
        return process

    free = free_ports(4)
    here = [["127.0.0.1", free[0]]]
    both = [["127.0.0.1", free[0]], ["127.0.0.2", free[1]]]
    connect = [["127.0.0.1", free[2]]]
    listener = start("ports_listen", {"tcp": here, "udp": here, "connect": connect, "patience": 2.0})
    knocker = start("ports_knock", {"tcp": both, "udp": both, "patience": 2.0})
    closed = json.loads(knocker.communicate(timeout=20)[0])["closed"]
    result = json.loads(listener.communicate(timeout=20)[0])
    assert [entry[:2] for entry in closed] == [["tcp", free[1]], ["udp", free[1]]]
    assert result == {"busy": [], "closed": [["127.0.0.1", free[2], "Connection refused"]]}
    assert (listener.returncode, knocker.returncode) == (0, 0)


def free_ports(count: int) -> list[int]:
    import socket

    sockets = [socket.socket() for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports
