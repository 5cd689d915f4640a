"""What we write is what we read back, and a hand edit shows."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxmox_swarm.host import files, state
from proxmox_swarm.host.errors import EngineConfigRefused
from proxmox_swarm.host.state import RELOADABLE, HostSpec

words = st.lists(st.from_regex(r"[a-z0-9][a-z0-9.:-]{0,20}", fullmatch=True), max_size=4)
SPEC = HostSpec({"log-driver": "json-file"}, ("192.168.2.4",), ("lab.example",), "http://cache.example:3142")


def found(spec: HostSpec, *, resolved: bool = True, **changes: str | None) -> dict:
    texts: dict[str, str | None] = {
        files.DAEMON: files.daemon_text(spec.daemon),
        files.RESOLVED: files.resolved_text(spec.dns_servers, spec.dns_search) if resolved else None,
        files.RESOLV: "nameserver 127.0.0.53\n" if resolved else files.resolv_text(spec.dns_servers, spec.dns_search),
        files.APT: files.apt_text(spec.apt_cache),
        files.WRAPPER: files.WRAPPER_TEXT,
    }
    by_name = {name: getattr(files, name) for name in ("DAEMON", "RESOLVED", "RESOLV", "APT", "WRAPPER")}
    texts |= {by_name[name]: text for name, text in changes.items()}
    return {"files": texts, "resolved": resolved, "pending": False}


@given(words, words)
def test_name_servers_are_read_back_as_written(servers: list[str], search: list[str]) -> None:
    assert files.read_resolved(files.resolved_text(servers, search)) == (servers, search)
    assert files.read_resolv(files.resolv_text(servers, search)) == (servers, search)


@pytest.mark.parametrize("resolved", [True, False])
@pytest.mark.parametrize("spec", [SPEC, HostSpec({}, (), (), None), HostSpec({"debug": True}, ("::1",), (), None)])
def test_a_host_in_order_is_observed_exactly_as_wanted(spec: HostSpec, resolved: bool) -> None:
    assert state._values(found(spec, resolved=resolved), spec) == state.wanted(spec)


@pytest.mark.parametrize(
    ("change", "field", "actual"),
    [
        ({"DAEMON": '{"debug": true}'}, "daemon", {"debug": True}),
        ({"DAEMON": "{broken"}, "daemon", "{broken"),
        ({"DAEMON": None}, "daemon", {}),
        ({"RESOLVED": "[Resolve]\nDNS=9.9.9.9\n"}, "dns_servers", ["9.9.9.9"]),
        ({"RESOLVED": None}, "dns_servers", []),
        ({"APT": None}, "apt_cache", None),
        ({"APT": 'Acquire::http::Proxy "http://other:1";\n'}, "apt_cache", "http://other:1"),
        ({"WRAPPER": None}, "extra", {files.WRAPPER: "(absent)"}),
        ({"WRAPPER": "#!/bin/sh\n"}, "extra", {files.WRAPPER: "#!/bin/sh\n"}),
    ],
)
def test_a_hand_edit_shows_in_its_field(change: dict, field: str, actual: object) -> None:
    values = state._values(found(SPEC, **change), SPEC)
    assert values[field] == actual
    assert {key for key, value in values.items() if state.wanted(SPEC).get(key) != value} <= {
        field,
        "extra",
        "dns_search",
    }


def test_a_line_added_to_a_file_of_ours_shows_with_its_text() -> None:
    text = files.resolved_text(SPEC.dns_servers, SPEC.dns_search) + "DNSSEC=yes\n"
    values = state._values(found(SPEC, RESOLVED=text), SPEC)
    assert values["extra"] == {files.RESOLVED: text}
    assert values["dns_servers"] == ["192.168.2.4"]


def test_a_resolv_conf_that_nobody_asked_us_to_set_is_not_ours() -> None:
    spec = HostSpec({}, (), (), None)
    assert state._values(found(spec, resolved=False, RESOLV="nameserver 10.0.0.1\n"), spec) == state.wanted(spec)


def test_live_restore_is_refused_with_the_reason_before_anything_is_touched() -> None:
    class Nobody:
        target = "n1 (10.0.0.1)"

    with pytest.raises(EngineConfigRefused, match=r"live-restore.*does not start in a swarm"):
        state.apply(Nobody(), HostSpec({"live-restore": True}, (), (), None))
    assert "live-restore" not in RELOADABLE


@pytest.mark.parametrize(
    ("uid", "expected"), [("0", "/usr/bin/docker a b\n"), ("1000", "sudo -n -- /usr/bin/docker a b\n")]
)
def test_the_docker_wrapper_goes_through_sudo_unless_root(tmp_path: Path, uid: str, expected: str) -> None:
    for name, text in (("id", f"echo {uid}"), ("sudo", 'echo sudo "$@"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    wrapper = files.WRAPPER_TEXT.replace("exec /usr/bin/docker", "echo /usr/bin/docker")
    done = subprocess.run(
        ["sh", "-c", wrapper, "docker", "a", "b"],
        capture_output=True,
        text=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
    )
    assert done.stdout.splitlines(keepends=True)[0] == expected


def test_of_a_machine_that_was_there_before_only_declared_keys_are_looked_at() -> None:
    spec = HostSpec({"log-driver": "json-file", "mtu": 1400}, (), (), None, keep=True)
    other = found(spec, DAEMON='{"log-driver": "journald", "debug": true}', WRAPPER="#!/bin/sh\n")
    assert state._values(other, spec) == {**state.wanted(spec), "daemon": {"log-driver": "journald"}}
    missing = found(spec, DAEMON='{"log-driver": "json-file", "mtu": 1400, "debug": true}', WRAPPER=None)
    assert state._values(missing, spec) == {**state.wanted(spec), "extra": {files.WRAPPER: "(absent)"}}
