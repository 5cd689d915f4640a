"""Docker on a host that has none: the program that runs there, with stand-ins for apt and systemd, and who calls it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxmox_swarm.host import docker_install as caller
from proxmox_swarm.host import files, state
from proxmox_swarm.host.connection import Connection
from proxmox_swarm.host.remote import docker_install, host_state
from proxmox_swarm.host.state import HostSpec
from proxmox_swarm.host.target import Target

#: As `apt-cache madison` prints them: newest first, of Docker's own repository and of the distribution.
TRIXIE = """\
 docker-ce | 5:29.8.20-1~debian.13~trixie | https://download.docker.com/linux/debian trixie/stable amd64 Packages
 docker-ce | 5:29.8.2-2~debian.13~trixie | https://download.docker.com/linux/debian trixie/stable amd64 Packages
 docker-ce | 5:29.8.2-1~debian.13~trixie | https://download.docker.com/linux/debian trixie/stable amd64 Packages
 docker-ce | 5:28.5.2-1~debian.13~trixie | https://download.docker.com/linux/debian trixie/stable amd64 Packages
"""
NOBLE = " docker-ce | 5:29.8.2-1~ubuntu.24.04~noble | https://download.docker.com/linux/ubuntu noble/stable amd64 Packages\n"
DEBIAN = {"ID": "debian", "VERSION_CODENAME": "trixie"}
UBUNTU = {"ID": "ubuntu", "ID_LIKE": "debian", "VERSION_CODENAME": "noble"}
PACKAGES = ["docker-ce", "docker-ce-cli", "containerd.io"]


class Host:
    """A machine's packages and services. ``fails`` maps the start of a command to what it says."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mark = root / "unfinished"
        self.commands: list[list[str]] = []
        self.installed = False
        self.state = "inactive"
        self.starts = True
        self.madison = TRIXIE
        self.release = DEBIAN
        self.fails: dict[str, str] = {}
        self.on_install: Callable[[], None] = lambda: None

    def run(self, argv: Any, **_: Any) -> subprocess.CompletedProcess[str]:
        words = list(argv)
        self.commands.append(words)
        line = " ".join(words)
        for start, said in self.fails.items():
            if line.startswith(start):
                return subprocess.CompletedProcess(words, 100, "", said)
        out, code = "", 0
        if words[0] == "apt-get" and "install" in words:
            assert self.mark.exists(), "a kill during the installation must be seen"
            self.on_install()
            self.installed = True
            self.state = "active" if self.starts else "failed"
        elif words[0] == "apt-cache":
            out = self.madison
        elif words[:2] == ["systemctl", "is-active"]:
            out, code = self.state, 0 if self.state == "active" else 3
        elif words[:2] in (["systemctl", "start"], ["systemctl", "restart"]):
            self.state = "active" if self.starts else "failed"
        elif words[0] == "journalctl":
            out = "noise\nfailed to start daemon: unknown log driver\nExit"
        elif words[0].endswith("dockerd"):
            out = "Docker version 29.8.2, build 1234567"
        return subprocess.CompletedProcess(words, code, out, "")

    def lines(self, *starts: str) -> list[str]:
        """The commands that begin with one of these words."""
        return [" ".join(words) for words in self.commands if words[0] in starts]

    def install(self, version: str | None = None) -> dict[str, Any]:
        return docker_install.main({"version": version, "timeout": 5})

    def asked_for(self) -> list[str]:
        (words,) = [words for words in self.commands if words[0] == "apt-get" and "install" in words]
        return words[words.index("install") + 1 :]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    monkeypatch.setattr(docker_install, "UNFINISHED", made.mark)
    monkeypatch.setattr(docker_install, "CLOUD_INIT", tmp_path / "none")
    monkeypatch.setattr(docker_install, "release", lambda: made.release)
    monkeypatch.setattr(docker_install, "add_repository", lambda args: made.commands.append(["repository"]))
    monkeypatch.setattr(docker_install, "dockerd", lambda: "/usr/bin/dockerd" if made.installed else None)
    monkeypatch.setattr(docker_install, "answers", lambda: made.state == "active")
    monkeypatch.setattr(subprocess, "run", made.run)
    return made


@pytest.mark.parametrize(
    ("release", "madison", "version", "package"),
    [
        (DEBIAN, TRIXIE, "29.8.2", "5:29.8.2-2~debian.13~trixie"),
        (DEBIAN, TRIXIE, "29.8.20", "5:29.8.20-1~debian.13~trixie"),
        (DEBIAN, TRIXIE, "28.5.2", "5:28.5.2-1~debian.13~trixie"),
        (DEBIAN, TRIXIE.replace("13~trixie", "12~bookworm"), "28.5.2", "5:28.5.2-1~debian.12~bookworm"),
        (UBUNTU, NOBLE, "29.8.2", "5:29.8.2-1~ubuntu.24.04~noble"),
    ],
)
def test_a_version_is_the_engines_and_finds_its_package(
    host: Host, release: dict[str, str], madison: str, version: str, package: str
) -> None:
    host.release, host.madison = release, madison
    host.install(version)
    wanted = [word for word in host.asked_for() if not word.startswith("-")]
    assert wanted == [f"docker-ce={package}", f"docker-ce-cli={package}", "containerd.io"]
    assert host.lines("apt-cache") == ["apt-cache madison docker-ce"]


def test_the_newest_is_what_the_repository_offers(host: Host) -> None:
    assert host.install() == {"version": "29.8.2"}
    assert [word for word in host.asked_for() if not word.startswith("-")] == PACKAGES
    assert not host.lines("apt-cache")


def test_the_repository_is_there_before_its_packages_are_looked_for(host: Host) -> None:
    host.install("29.8.2")
    order = [words[0] if words[0] != "apt-get" else words[-1] for words in host.commands]
    assert order.index("repository") < order.index("update") < order.index("apt-cache")


@pytest.mark.parametrize("version", ["29.8", "29.8.3", "9.8.2"])
def test_a_version_that_is_not_offered_is_named_with_those_that_are(host: Host, version: str) -> None:
    with pytest.raises(SystemExit, match=rf"no docker-ce {version}.*trixie.*29\.8\.20, 29\.8\.2, 28\.5\.2"):
        host.install(version)
    assert not host.installed


def test_nothing_is_upgraded_behind_the_clusters_back(host: Host) -> None:
    host.install("29.8.2")
    assert host.lines("apt-mark") == [f"apt-mark hold {' '.join(PACKAGES)}"]


def test_another_system_is_refused_before_anything_is_changed(host: Host) -> None:
    host.release = {"ID": "alpine"}
    with pytest.raises(SystemExit, match="Debian or Ubuntu, not alpine"):
        host.install()
    assert not host.commands and not host.mark.exists()


def test_an_engine_that_does_not_start_says_why(host: Host) -> None:
    host.starts = False
    with pytest.raises(SystemExit) as ended:
        host.install()
    last = str(ended.value).splitlines()[-1]
    assert "does not start: failed to start daemon: unknown log driver" in last and "swarm:docker.daemon" in last
    assert host.mark.exists(), "the next run has to see that it is not done"


def test_a_run_that_was_killed_is_gone_through_again(host: Host) -> None:
    def kill() -> None:
        host.installed = True
        raise KeyboardInterrupt

    host.on_install = kill
    with pytest.raises(KeyboardInterrupt):
        host.install("29.8.2")
    assert host.mark.exists() and not host.lines("apt-mark")
    host.on_install, host.commands = lambda: None, []
    host.install("29.8.2")
    assert host.lines("apt-mark") and not host.mark.exists()
    assert "systemctl restart docker.service" in host.lines("systemctl"), "it may run with an earlier daemon.json"


def test_an_engine_that_packages_start_by_themselves_is_not_started_twice(host: Host) -> None:
    host.install()
    assert not [line for line in host.lines("systemctl") if "restart" in line]
    assert not host.mark.exists()


def test_packages_left_half_installed_are_finished_first(host: Host) -> None:
    host.mark.touch()
    host.install()
    order = [" ".join(words) for words in host.commands]
    finishing = order.index("dpkg --configure -a")
    assert finishing < next(i for i, line in enumerate(order) if "install" in line.split())
    host.commands = []
    host.install()
    assert not host.lines("dpkg"), "and else the package manager is not asked for it"


def test_what_apt_says_is_told(host: Host) -> None:
    host.fails = {"apt-get": "E: Unable to locate package"}
    with pytest.raises(SystemExit, match="E: Unable to locate package"):
        host.install()


def test_a_repository_that_is_not_reached_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = {"key_url": (tmp_path / "none").as_uri(), "repository": "x", "fingerprint": "x"}
    monkeypatch.setattr(docker_install, "release", lambda: DEBIAN)
    with pytest.raises(SystemExit, match=r"Docker's repository.*file:///.*/none"):
        docker_install.add_repository(args)


# -- daemon.json where there is no engine yet -------------------------------------------------------------------------


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "docker" / "daemon.json"
    monkeypatch.setattr(host_state, "DAEMON", path)
    monkeypatch.setattr(host_state, "PENDING", tmp_path / "pending")
    monkeypatch.setattr(host_state, "UNFINISHED", tmp_path / "unfinished")
    monkeypatch.setattr(host_state, "dockerd", lambda: None)
    monkeypatch.setattr(host_state, "run", lambda *argv, **_: pytest.fail(f"{argv} without an engine"))
    return path


def test_daemon_json_is_there_before_dockerd(daemon: Path) -> None:
    text = files.daemon_text({"log-driver": "local"})
    args = {"daemon": text, "reloadable": [], "may_restart": False, "first": True, "timeout": 5}
    for _ in range(2):  # the second time after a kill: it is there, the engine is not
        assert host_state.set_daemon(args) == {"absent": True}
        assert daemon.read_text() == text


def test_an_engine_that_is_half_installed_counts_as_absent(daemon: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_state, "dockerd", lambda: "/usr/bin/dockerd")
    host_state.UNFINISHED.touch()
    args = {"daemon": "{}\n", "reloadable": [], "may_restart": True, "first": True, "timeout": 5}
    assert host_state.set_daemon(args) == {"absent": True}


def test_both_programs_mean_the_same_mark() -> None:
    assert docker_install.UNFINISHED == host_state.UNFINISHED


# -- the order, and how often the host is asked -----------------------------------------------------------------------

TARGET = Target("n1", "10.0.4.1", "ops", "ssh-ed25519 AAAA")
SPEC = HostSpec(
    daemon={"log-driver": "local"}, dns_servers=("192.168.2.4",), dns_search=(), apt_cache="http://cache:3142"
)


class Programs:
    """Remote programs as they are started: one round trip each."""

    def __init__(self, **outcome: Any) -> None:
        self.names: list[str] = []
        self.args: list[dict[str, Any]] = []
        self.outcome = outcome

    def run(self, _: Connection, name: str, args: dict[str, Any], **__: Any) -> Any:
        self.names.append(name)
        self.args.append(args)
        if name == "docker_install":
            return {"version": "29.8.2"}
        texts = {path: text for path, (text, _) in args["files"].items()}
        texts |= {files.DAEMON: args["daemon"], files.RESOLVED: args["resolved"], files.RESOLV: "nameserver x\n"}
        outcome, self.outcome = self.outcome, {}
        return {"files": texts, "resolved": True, "pending": False, **outcome}


def applied(programs: Programs, monkeypatch: pytest.MonkeyPatch, **options: Any) -> dict[str, Any]:
    monkeypatch.setattr(state, "run_script", programs.run)
    monkeypatch.setattr(caller, "run_script", programs.run)
    connection = Connection(TARGET)
    return state.apply(connection, SPEC, install=lambda: caller.install(connection, "29.8.2", timeout=300), **options)


def test_names_cache_and_daemon_json_come_first_then_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = Programs(absent=True)
    actual = applied(programs, monkeypatch, around_restart=lambda _: pytest.fail("nothing runs that could restart"))
    assert programs.names == ["host_state", "docker_install"]
    first, second = programs.args
    assert first["resolved"] and first["daemon"] and first["files"][files.APT][0]
    assert (second["version"], second["timeout"]) == ("29.8.2", 300)
    assert actual == state.wanted(SPEC)


def test_a_host_that_has_docker_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = Programs()
    assert applied(programs, monkeypatch) == state.wanted(SPEC)
    assert programs.names == ["host_state"]
