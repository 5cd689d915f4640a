from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from proxmox_swarm.host.errors import Unreachable
from proxmox_swarm.host.target import Target
from proxmox_swarm.providers import wanted
from proxmox_swarm.providers.cluster_settings import ClusterSettingsProvider
from proxmox_swarm.providers.member import INPUTS, Member, MemberProvider
from proxmox_swarm.proxmox import power
from proxmox_swarm.proxmox.client import Guest, ProxmoxError
from proxmox_swarm.proxmox.ownership import Marker
from proxmox_swarm.swarm import maintenance, membership
from proxmox_swarm.swarm.errors import QuorumAtRisk
from proxmox_swarm.swarm.member import MemberSpec, MemberState
from tests.unit.providers.props import KEY, MANAGERS, manager, member, settings

OK = MemberState("ok", "", "n2", "manager", "active", {"zone": "a"}, engine_id="e2")
TARGETS = [Target(m["node"], m["address"], "ops", KEY) for m in MANAGERS]
SPEC = MemberSpec(TARGETS[1], "manager", "active", {"zone": "a"}, 4789)
PROVIDER = MemberProvider()


class Domain:
    """Stands for the domain: remembers each call, answers with ``state`` or raises ``error``."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.state = OK
        self.error: Exception | None = None

    def named(self, name: str) -> Callable[..., MemberState]:
        def call(*args: Any, **more: Any) -> MemberState:
            self.calls.append((name, args, more))
            if self.error:
                raise self.error
            return self.state

        return call


@pytest.fixture(autouse=True)
def nothing_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run declares is kept for its process, which is this one."""
    monkeypatch.setattr(wanted, "_managers", None)


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> Domain:
    fake = Domain()
    for name in ("join_or_adopt", "observe", "converge", "remove"):
        monkeypatch.setattr(membership, name, fake.named(name))
    monkeypatch.setattr(maintenance, "with_node_out", fake.named("with_node_out"))
    return fake


def created(domain: Domain) -> dict[str, Any]:
    """A member's outputs once it has been made."""
    outputs = PROVIDER.create(member()).outs
    assert outputs is not None
    domain.calls.clear()
    return outputs


def needs_update(olds: dict[str, Any], news: dict[str, Any]) -> bool:
    result = PROVIDER.diff("app-2", olds, news)
    assert not result.replaces
    return bool(result.changes)


def test_create_joins_and_its_id_is_the_nodes_name(domain: Domain) -> None:
    result = PROVIDER.create(member())
    assert result.id == "app-2"
    assert domain.calls == [("join_or_adopt", (SPEC, TARGETS, "c1"), {"join_timeout": 120.0, "role_timeout": 60.0})]
    outs = result.outs or {}
    assert (outs["node_id"], outs["engine_id"], outs["verdict"], outs["detail"]) == ("n2", "e2", "ok", "")
    assert not needs_update(outs, member())


def test_outputs_hold_all_that_delete_needs(domain: Domain) -> None:
    outputs = created(domain)
    PROVIDER.delete("app-2", outputs)
    expected = {"drain_timeout": 600.0, "role_timeout": 60.0, "retiring": []}
    assert domain.calls == [("remove", (SPEC, TARGETS, "c1", "n2"), expected)]


@pytest.mark.parametrize(
    ("declared", "leaving"),
    [
        (MANAGERS[:2], TARGETS[2:]),
        ([manager(9)], TARGETS),
        # Somebody else's by now: what the leader does not reach there is not the one that goes.
        ([*MANAGERS[:2], {**MANAGERS[2], "node": "app-9"}], []),
    ],
)
def test_who_goes_and_who_is_demoted_knows_which_managers_this_run_does_not_declare(
    domain: Domain, declared: list[dict[str, Any]], leaving: list[Target]
) -> None:
    outputs = created(domain)
    assert not ClusterSettingsProvider().check({}, settings(managers=declared)).failures
    PROVIDER.delete("app-2", outputs)
    PROVIDER.update("app-2", outputs, member(role="worker", managers=MANAGERS[:1]))
    assert [more["retiring"] for _, _, more in domain.calls] == [leaving, leaving]


def test_outputs_are_declared_on_the_class_and_in_the_inputs() -> None:
    """Else Pulumi would not hand them to the program."""
    assert {"node_id", "engine_id", "verdict", "detail", "role", "availability", "labels"} <= set(
        Member.__annotations__
    )


def test_read_finds_no_change(domain: Domain) -> None:
    outputs = created(domain)
    result = PROVIDER.read("app-2", outputs)
    assert result.id == "app-2"
    assert result.outs == outputs
    assert result.inputs == {key: outputs[key] for key in INPUTS if key in outputs}
    (call,) = domain.calls
    assert call == ("observe", (SPEC, TARGETS, "c1", "n2"), {"last": OK})


@pytest.mark.parametrize(
    "found",
    [
        {"verdict": "drifted", "role": "worker"},
        {"verdict": "drifted", "availability": "drain"},
        {"verdict": "drifted", "labels": {"zone": "a", "by": "hand"}},
        {"verdict": "unreachable"},
        {"verdict": "left"},
        {"verdict": "rebuilt", "engine_id": "e9"},
        {"verdict": "removed"},
        {"verdict": "foreign"},
        {"verdict": "not_ready"},
    ],
)
def test_whatever_became_of_it_shows_and_is_put_right_in_place(domain: Domain, found: dict[str, Any]) -> None:
    outputs = created(domain)
    domain.state = replace(OK, detail="in words", **found)
    result = PROVIDER.read("app-2", outputs)
    assert result.id == "app-2", "never gone"
    assert result.outs is not None
    assert result.inputs is not None
    assert {key: result.inputs[key] for key in found if key != "engine_id"} == {
        key: value for key, value in found.items() if key != "engine_id"
    }
    assert result.outs["detail"] == "in words"
    assert needs_update(result.outs, member())
    domain.state = OK
    domain.calls.clear()
    updated = PROVIDER.update("app-2", result.outs, member()).outs
    ((name, args, _),) = domain.calls
    assert name == "converge"
    assert args[:3] == (SPEC, TARGETS, "c1")
    assert args[3].verdict == found["verdict"]
    assert args[3].node_id == "n2"
    assert updated == outputs


def test_a_second_refresh_still_compares_with_what_is_declared(domain: Domain) -> None:
    outputs = created(domain)
    domain.state = replace(OK, verdict="drifted", role="worker", availability="drain", labels={})
    for _ in range(2):
        outputs = PROVIDER.read("app-2", outputs).outs or {}
    assert [args[0] for _, args, _ in domain.calls] == [SPEC, SPEC]
    assert outputs["role"] == "worker"
    assert needs_update(outputs, member())


def test_a_state_from_before_that_was_kept_is_read_as_it_is(domain: Domain) -> None:
    outputs = created(domain)
    del outputs["declared"], outputs["engine_id"], outputs["detail"]
    PROVIDER.read("app-2", outputs)
    ((_, args, more),) = domain.calls
    assert args[0] == SPEC
    assert more["last"].engine_id == ""


@pytest.mark.parametrize(
    "change",
    [
        {"role": "worker"},
        {"availability": "drain"},
        {"labels": {}},
        {"labels": {}, "managers": MANAGERS[:2]},
    ],
)
def test_an_edit_converges_without_a_power_cycle(domain: Domain, change: dict[str, Any]) -> None:
    outputs = created(domain)
    news = member(**change)
    assert needs_update(outputs, news)
    domain.state = replace(OK, **{key: value for key, value in change.items() if key != "managers"})
    updated = PROVIDER.update("app-2", outputs, news).outs or {}
    assert [name for name, _, _ in domain.calls] == ["converge"]
    assert not needs_update(updated, news)
    assert updated["declared"] == {key: news[key] for key in ("role", "availability", "labels")}


def test_other_managers_are_written_down_without_a_word_to_the_node(domain: Domain) -> None:
    outputs = created(domain)
    news = member(managers=MANAGERS[:2])
    assert needs_update(outputs, news)
    updated = PROVIDER.update("app-2", outputs, news).outs or {}
    assert domain.calls == []
    assert updated == {**outputs, "managers": MANAGERS[:2]}
    assert not needs_update(updated, news)


@pytest.mark.parametrize("provider_call", ["create", "read", "update", "delete"])
def test_errors_of_the_domain_come_through_as_they_are(domain: Domain, provider_call: str) -> None:
    outputs = created(domain)
    domain.error = QuorumAtRisk("demoting", where="app-2 (10.0.4.2)", came_back="1 of 3 left", do_now="Wait.")
    calls: dict[str, Callable[[], Any]] = {
        "create": lambda: PROVIDER.create(member()),
        "read": lambda: PROVIDER.read("app-2", outputs),
        "update": lambda: PROVIDER.update("app-2", outputs, member()),
        "delete": lambda: PROVIDER.delete("app-2", outputs),
    }
    with pytest.raises(QuorumAtRisk) as raised:
        calls[provider_call]()
    assert raised.value is domain.error


MARKER = str(Marker("swarm", "prod", "app-2", "c0ffee"))


class Api:
    """A Proxmox VE with one VM."""

    def __init__(self, vm_id: int = 4101, description: str = MARKER) -> None:
        self.guest = Guest(vm_id, "app-2", "pve02", "qemu", "running", ())
        self.description = description
        self.cycled: list[tuple[int, float]] = []

    def __call__(self, endpoints: list[str], *, insecure: bool) -> Api:
        assert (endpoints, insecure) == (["https://pve01:8006"], False)
        return self

    def guests(self) -> tuple[Guest, ...]:
        return (Guest(100, "web", "pve01", "qemu", "running", ()), self.guest)

    def config(self, guest: Guest) -> dict[str, str]:
        assert guest is self.guest
        return {"description": self.description}

    def power_cycle(self, guest: Guest, *, timeout: float) -> None:
        self.cycled.append((guest.vm_id, timeout))


def test_hardware_is_taken_over_by_a_power_cycle_with_the_node_out(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = created(domain)
    api = Api()
    monkeypatch.setattr(power, "Client", api)
    steps: list[str] = []

    def out(target: Target, managers: Any, cluster_id: str, action: Callable[[], None], **timeouts: float) -> None:
        assert (target, managers, cluster_id) == (SPEC.target, TARGETS, "c1")
        assert timeouts == {"drain_timeout": 600.0, "back_timeout": 300.0, "retiring": []}
        steps.append("out")
        action()
        steps.append("back")

    monkeypatch.setattr(maintenance, "with_node_out", out)
    news = member(hardware={"cpu": 8.0, "memory": 8.0})
    assert needs_update(outputs, news)
    updated = PROVIDER.update("app-2", outputs, news).outs or {}
    assert steps == ["out", "back"]
    assert api.cycled == [(4101, 300.0)]
    assert [name for name, _, _ in domain.calls] == ["converge"]
    assert not needs_update(updated, news)


@pytest.mark.parametrize(
    ("api", "words"),
    [
        (Api(vm_id=999), "VM 4101 is not on Proxmox VE any more"),
        (Api(description="somebody else's"), "Nothing of it was touched"),
        (
            Api(description=str(Marker("swarm", "prod", "app-3", "c0ffee"))),
            "VM 4101 'app-2' on pve02 is not its machine",
        ),
    ],
)
def test_only_its_own_machine_is_power_cycled(
    domain: Domain, monkeypatch: pytest.MonkeyPatch, api: Api, words: str
) -> None:
    outputs = created(domain)
    monkeypatch.setattr(power, "Client", api)
    monkeypatch.setattr(maintenance, "with_node_out", lambda *args, **_: args[3]())
    with pytest.raises(ProxmoxError, match=words):
        PROVIDER.update("app-2", outputs, member(hardware={"cpu": 8.0, "memory": 8.0}))
    assert api.cycled == []
    assert domain.calls == [], "and nothing else is done"


def test_progress_names_the_node_and_holds_no_key(domain: Domain, capsys: pytest.CaptureFixture[str]) -> None:
    PROVIDER.create(member())
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "app-2: manager active\n"


def test_a_host_that_does_not_answer_fails_the_update(domain: Domain) -> None:
    outputs = created(domain)
    domain.error = Unreachable("connecting by SSH", where="app-2 (10.0.4.2)", came_back="refused", do_now="Check.")
    with pytest.raises(Unreachable, match=r"app-2 \(10.0.4.2\)"):
        PROVIDER.update("app-2", {**outputs, "verdict": "unreachable"}, member())
