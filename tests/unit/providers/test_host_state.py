from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from proxmox_swarm.host import connection, data_disk, docker_install
from proxmox_swarm.host import state as host_state
from proxmox_swarm.host.connection import Connection
from proxmox_swarm.host.errors import DiskAbsent, EngineConfigRefused, Failure, HostKeyMismatch, Unreachable
from proxmox_swarm.host.state import HostSpec
from proxmox_swarm.host.target import Target
from proxmox_swarm.providers import wanted
from proxmox_swarm.providers.base import plain
from proxmox_swarm.providers.host_state import HostStateProvider
from proxmox_swarm.proxmox import power
from proxmox_swarm.swarm import maintenance
from tests.unit.providers.props import KEY, MANAGERS, host

TARGET = Target("app-2", "10.0.4.2", "ops", KEY)
PROVIDER = HostStateProvider()
DISK = {"serial": "data-app-2", "mount": "/srv/data", "size": 50.0}
AS_DECLARED = {**plain(host()["wanted"]), "apt_cache": None}


class Host:
    """Stands for the host domain: steps in the order they were taken, and what the host is set to."""

    def __init__(self) -> None:
        self.firsts: list[bool] = []
        self.steps: list[Any] = []
        self.actual: dict[str, Any] = AS_DECLARED
        self.error: Failure | None = None
        self.restarts = False
        self.has_docker = True
        self.shows_disk = True
        self.leaving: list[Target] = []

    def ensure(self, _: Connection, serial: str, mount: str, size: int, *, timeout: float) -> None:
        self.steps.append(("disk", serial, mount, size))
        if not self.shows_disk:
            raise DiskAbsent("mounting", where="app-2", came_back="no disk")

    def power_cycle(self, node: str, vm_id: int, endpoints: list[str], *, insecure: bool, timeout: float) -> None:
        assert (node, vm_id, endpoints, insecure, timeout) == ("app-2", 4101, ["https://pve01:8006"], False, 300.0)
        self.steps.append("power cycle")
        self.shows_disk = True

    def connect(self, target: Target, timeout: float) -> Connection:
        assert (target, timeout) == (TARGET, 15.0)
        if self.error:
            raise self.error
        return Connection(target)

    def apply(
        self,
        ssh: Connection,
        spec: HostSpec,
        *,
        around_restart: Callable[..., None],
        install: Callable[[], object],
        first: bool,
    ) -> dict[str, Any]:
        self.firsts.append(first)
        self.steps.append(("apply", spec))
        if not self.has_docker:
            install()
        if self.restarts:
            around_restart(lambda: self.steps.append("restart"))
        return self.actual

    def restart_engine(self, target: Target, managers: Any, restart: Callable[[], None], **more: Any) -> None:
        assert target == TARGET
        assert [m.address for m in managers] == [m["address"] for m in MANAGERS]
        assert more == {"drain_timeout": 600.0, "back_timeout": 300.0, "retiring": self.leaving}
        self.steps.append("drain")
        restart()
        self.steps.append("activate")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Host:
    fake = Host()
    monkeypatch.setattr(connection, "connect", fake.connect)
    monkeypatch.setattr(connection, "wait_for_ssh", lambda t, d: fake.steps.append(("wait", t, d)))
    monkeypatch.setattr(data_disk, "ensure", fake.ensure)
    monkeypatch.setattr(data_disk, "release", lambda _, mount: fake.steps.append(("release", mount)))
    monkeypatch.setattr(power, "power_cycle", fake.power_cycle)
    monkeypatch.setattr(
        docker_install, "install", lambda _, version, timeout: fake.steps.append(("docker", version, timeout))
    )
    monkeypatch.setattr(host_state, "observe", lambda *_: fake.actual)
    monkeypatch.setattr(host_state, "apply", fake.apply)
    monkeypatch.setattr(maintenance, "restart_engine", fake.restart_engine)
    return fake


SPEC = HostSpec(
    daemon={"log-opts": {"max-file": "3"}, "default-address-pools": [{"base": "172.20.0.0/16", "size": 24}]},
    dns_servers=("192.168.2.4",),
    dns_search=(),
    apt_cache=None,
)


def needs_update(olds: Any, news: dict[str, Any]) -> bool:
    result = PROVIDER.diff("app-2", olds, news)
    assert not result.replaces
    return bool(result.changes)


def test_create_waits_mounts_and_applies_installing_on_the_way(machine: Host) -> None:
    machine.has_docker = False
    result = PROVIDER.create(host(disk=DISK, docker="29.8.2"))
    assert result.id == "app-2"
    disk = ("disk", "data-app-2", "/srv/data", 50)
    assert machine.steps == [("wait", TARGET, 300.0), disk, ("apply", SPEC), ("docker", "29.8.2", 300.0)]
    assert not needs_update(result.outs, host(disk=DISK))


def test_whole_numbers_reach_daemon_json_as_whole_numbers(machine: Host) -> None:
    PROVIDER.create(host())
    (spec,) = [step[1] for step in machine.steps if step[0] == "apply"]
    assert '"size": 24}' in json.dumps(spec.daemon)


def test_without_a_data_disk_none_is_looked_for_and_the_engine_that_is_there_will_do(machine: Host) -> None:
    PROVIDER.create(host())
    assert [step[0] for step in machine.steps] == ["wait", "apply"]


def test_no_version_means_the_newest(machine: Host) -> None:
    machine.has_docker = False
    PROVIDER.create(host())
    assert machine.steps[-1] == ("docker", None, 300.0)


def test_read_as_declared_is_no_change(machine: Host) -> None:
    outputs = PROVIDER.create(host()).outs or {}
    result = PROVIDER.read("app-2", outputs)
    assert (result.id, result.outs) == ("app-2", outputs)
    assert not needs_update(result.outs, host())


@pytest.mark.parametrize(
    "found",
    [
        {"daemon": {}},
        {"dns_servers": ["8.8.8.8"]},
        {"dns_search": ["lan"]},
        {"apt_cache": "http://by-hand:3142"},
        {"extra": {"/etc/docker/daemon.json": "(not loaded yet: dockerd has to restart)"}},
    ],
)
def test_drift_shows_by_field_and_is_put_back(machine: Host, found: dict[str, Any]) -> None:
    outputs = PROVIDER.create(host()).outs or {}
    machine.actual = {**AS_DECLARED, **found}
    result = PROVIDER.read("app-2", outputs)
    assert result.outs is not None
    assert result.inputs is not None
    assert result.inputs["wanted"] == machine.actual
    assert needs_update(result.outs, host())
    machine.steps.clear()
    machine.actual = AS_DECLARED
    updated = PROVIDER.update("app-2", result.outs, host()).outs
    assert machine.steps == [("apply", SPEC)], "what is declared is applied, not what was found"
    assert not needs_update(updated, host())


@pytest.mark.parametrize(
    "error",
    [
        Unreachable("connecting by SSH", where="app-2 (10.0.4.2)", came_back="no answer\nmore", do_now="Check."),
        HostKeyMismatch("checking the host key", where="app-2 (10.0.4.2)"),
    ],
)
def test_a_host_that_cannot_be_asked_keeps_what_was_recorded(
    machine: Host, capsys: pytest.CaptureFixture[str], error: Failure
) -> None:
    outputs = PROVIDER.create(host()).outs or {}
    capsys.readouterr()
    machine.error = error
    result = PROVIDER.read("app-2", outputs)
    assert result.id == "app-2"
    assert not needs_update(result.outs, host())
    said = capsys.readouterr().err
    assert said.startswith("app-2: host settings not read: ")
    assert "app-2 (10.0.4.2)" in said
    assert said.count("\n") == 1


def test_only_a_new_machine_is_seen_for_the_first_time(machine: Host) -> None:
    outputs = PROVIDER.create(host()).outs or {}
    PROVIDER.update("app-2", outputs, host(wanted={"daemon": {"debug": True}}))
    assert machine.firsts == [True, False]


def test_a_restart_of_the_engine_drains_the_node_and_knows_which_managers_are_to_go(
    machine: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = PROVIDER.create(host()).outs or {}
    machine.steps.clear()
    machine.restarts = True
    machine.leaving = [Target(MANAGERS[2]["node"], MANAGERS[2]["address"], "ops", KEY)]
    monkeypatch.setattr(wanted, "_managers", {m["node"]: m["address"] for m in MANAGERS[:2]})
    PROVIDER.update("app-2", outputs, host(wanted={"daemon": {"debug": True}}))
    assert machine.steps[1:] == ["drain", "restart", "activate"]


def test_a_new_data_disk_is_mounted_by_an_update(machine: Host) -> None:
    outputs = PROVIDER.create(host()).outs or {}
    machine.steps.clear()
    assert needs_update(outputs, host(disk=DISK))
    PROVIDER.update("app-2", outputs, host(disk=DISK))
    assert [step[0] for step in machine.steps] == ["disk", "apply"]


def test_a_new_data_disk_that_a_running_machine_does_not_show_takes_a_power_cycle_with_the_node_out(
    machine: Host,
) -> None:
    outputs = PROVIDER.create(host()).outs or {}
    machine.steps.clear()
    machine.shows_disk = False
    PROVIDER.update("app-2", outputs, host(disk=DISK))
    disk = ("disk", "data-app-2", "/srv/data", 50)
    assert machine.steps[:-1] == [disk, "drain", "power cycle", "activate", ("wait", TARGET, 300.0), disk]


def test_a_new_machine_without_its_data_disk_is_not_power_cycled(machine: Host) -> None:
    machine.shows_disk = False
    with pytest.raises(DiskAbsent):
        PROVIDER.create(host(disk=DISK))
    assert "power cycle" not in machine.steps


@pytest.mark.parametrize(
    ("news", "released"),
    [({}, ["/srv/data"]), ({"disk": {**DISK, "mount": "/data"}}, ["/srv/data"]), ({"disk": DISK}, [])],
)
def test_a_mount_that_is_no_longer_declared_is_let_go(machine: Host, news: dict[str, Any], released: list[str]) -> None:
    outputs = PROVIDER.create(host(disk=DISK)).outs or {}
    machine.steps.clear()
    PROVIDER.update("app-2", outputs, host(**news))
    assert [step[1] for step in machine.steps if step[0] == "release"] == released


def test_errors_of_the_domain_come_through_as_they_are(machine: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    error = EngineConfigRefused(
        "loading the new daemon.json", where="app-2 (10.0.4.2)", came_back="bad", do_now="Mend."
    )

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(host_state, "apply", refuse)
    for call in (lambda: PROVIDER.create(host()), lambda: PROVIDER.update("app-2", host(), host())):
        with pytest.raises(EngineConfigRefused) as raised:
            call()
        assert raised.value is error


def test_delete_leaves_the_host_alone(machine: Host) -> None:
    PROVIDER.delete("app-2", host())
    assert machine.steps == []
