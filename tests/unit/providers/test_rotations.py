"""What rotates, as resources: numbers that go up, and the key that only state may hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pulumi.output import Unknown
from pulumi.runtime.rpc import UNKNOWN

from proxmox_swarm.host.target import Target
from proxmox_swarm.providers.autolock import SECRET, AutolockProvider
from proxmox_swarm.providers.base import Provider
from proxmox_swarm.providers.ca_rotation import CaRotationProvider
from proxmox_swarm.providers.token_rotation import TokenRotationProvider
from proxmox_swarm.swarm import autolock, rotation
from proxmox_swarm.swarm.autolock import Lock, Seen
from proxmox_swarm.swarm.errors import NoManager, SwarmError, SwarmLocked
from tests.unit.providers.props import KEY, MANAGERS, ca, lock, token

TARGETS = [Target(m["node"], m["address"], "ops", KEY) for m in MANAGERS]
KINDS: list[tuple[Provider, Any, str]] = [
    (TokenRotationProvider(), token, "cluster.rotate.worker"),
    (CaRotationProvider(), ca, "cluster.rotate.ca"),
    (AutolockProvider(), lock, "cluster.rotate.unlockKey"),
]
each_kind = pytest.mark.parametrize(("provider", "make", "setting"), KINDS, ids=lambda v: type(v).__name__)


@each_kind
def test_a_lower_number_is_refused_in_preview_with_the_way_out(provider: Provider, make: Any, setting: str) -> None:
    (failure,) = provider.check(make(generation=3.0), make(generation=2.0)).failures
    assert failure.property == "generation"
    assert failure.reason.startswith(f"{setting} is 3 and cannot become 2")
    assert "Declare 3 to leave things as they are, or 4" in failure.reason


@each_kind
@pytest.mark.parametrize(
    ("olds", "new"), [({}, 1.0), ({"generation": 2.0}, 2.0), ({"generation": 2.0}, 9.0), ({"generation": 2.0}, UNKNOWN)]
)
def test_other_numbers_are_not(provider: Provider, make: Any, setting: str, olds: dict[str, Any], new: Any) -> None:
    result = provider.check(olds, make(generation=new))
    assert not result.failures
    assert result.inputs == make(generation=new)


@each_kind
def test_a_higher_number_is_an_update_and_nothing_else_is(provider: Provider, make: Any, setting: str) -> None:
    def changes(news: dict[str, Any]) -> bool:
        result = provider.diff("id", {**make(), "key": "k", "ca_digest": "d"}, news)
        assert not result.replaces
        return bool(result.changes)

    assert changes(make(generation=2.0))
    assert changes(make(cluster_id="another swarm"))
    assert not changes(make())
    assert not changes(make(cluster_id=Unknown(), managers=Unknown()))
    assert not changes(make(timeout=5.0))


WORDS: list[tuple[Provider, Any, dict[str, Any], dict[str, Any], str]] = [
    (TokenRotationProvider(), token, {}, {"generation": 2.0}, "new join token for workers; the old one is refused"),
    (TokenRotationProvider(), token, {}, {"cluster_id": "other"}, ""),
    (CaRotationProvider(), ca, {}, {"generation": 2.0}, "new root CA: every node gets a new certificate, both join tokens"),
    (AutolockProvider(), lock, {}, {"enabled": True}, "managers lock themselves: after a restart each waits for the key"),
    (AutolockProvider(), lock, {"enabled": True}, {}, "managers lock themselves no more"),
    (AutolockProvider(), lock, {"enabled": True}, {"enabled": True, "generation": 2.0}, "new unlock key"),
    (AutolockProvider(), lock, {}, {"generation": 2.0}, ""),
    (AutolockProvider(), lock, {"enabled": True, "verdict": "locked"}, {"enabled": True}, "unlock the managers that are"),
    (AutolockProvider(), lock, {}, {}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "make", "olds", "news", "words"), WORDS)
def test_preview_says_what_a_change_means(
    provider: Provider, make: Any, olds: Any, news: Any, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    provider.diff("id", make(**olds), make(**news))
    said = capsys.readouterr().err
    assert said.startswith(f"swarm: {words}") if words else said == ""


# -- tokens and the CA -------------------------------------------------------------------------------------------------


@pytest.fixture
def rotated(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the domain was asked for; the CA's digest is how often it was rotated."""
    calls: list[tuple[Any, ...]] = []

    def rotate_token(managers: Any, cluster_id: str, role: str) -> None:
        calls.append((managers, cluster_id, role))

    def rotate_ca(managers: Any, cluster_id: str, *, timeout: float, told: Any) -> str:
        told("app-1", "certificate of the new CA")
        calls.append((managers, cluster_id, timeout))
        return ca_digest(managers, cluster_id)

    def ca_digest(managers: Any, cluster_id: str, *, patience: float = 0) -> str:
        return f"digest {len(calls)}"

    monkeypatch.setattr(rotation, "rotate_token", rotate_token)
    monkeypatch.setattr(rotation, "rotate_ca", rotate_ca)
    monkeypatch.setattr(rotation, "ca_digest", ca_digest)
    return calls


def test_a_token_is_rotated_once_however_much_higher_the_number(rotated: list[Any]) -> None:
    provider = TokenRotationProvider()
    created = provider.create(token(generation=7.0))
    assert (created.id, rotated) == ("worker", [])
    updated = provider.update("worker", created.outs or {}, token(generation=12.0))
    assert rotated == [(TARGETS, "c1", "worker")]
    assert updated.outs == token(generation=12.0), "no token is kept"


def test_the_ca_is_rotated_once_and_its_nodes_are_told(rotated: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    provider = CaRotationProvider()
    created = provider.create(ca(generation=3.0)).outs or {}
    assert (created["ca_digest"], rotated) == ("digest 0", [])
    updated = provider.update("ca", created, ca(generation=4.0)).outs or {}
    assert rotated == [(TARGETS, "c1", 300.0)]
    assert updated["ca_digest"] == "digest 1"
    assert "app-1: certificate of the new CA" in capsys.readouterr().err
    assert provider.read("ca", updated).outs == updated


def test_where_nobody_answers_the_recorded_digest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: Any, **__: Any) -> str:
        raise NoManager("looking", came_back="nobody answers")

    monkeypatch.setattr(rotation, "ca_digest", silent)
    outputs = {**ca(), "ca_digest": "digest"}
    assert CaRotationProvider().read("ca", outputs).outs == outputs


# -- the lock ----------------------------------------------------------------------------------------------------------

LOCK = AutolockProvider()
ON = lock(enabled=True)


class Swarm:
    """A swarm's lock as the domain tells of it."""

    def __init__(self) -> None:
        self.lock = Lock(False)
        self.keys = iter(["SWMKEY-1-first", "SWMKEY-1-second", "SWMKEY-1-third"])
        self.locked: tuple[str, ...] = ()
        self.answers = True
        self.tried: list[list[str]] = []
        self.refuses: SwarmError | None = None

    def apply(self, managers: Any, cluster_id: str, *, enabled: bool, rotate: bool = False, timeout: float) -> Lock:
        assert (managers, cluster_id, timeout, self.locked) == (TARGETS, "c1", 120.0, ())
        if not enabled:
            self.lock = Lock(False)
        elif rotate or not self.lock.enabled:
            self.lock = Lock(True, next(self.keys))
        return self.lock

    def observe(self, managers: Any, cluster_id: str) -> Seen:
        return Seen(self.locked, self.lock if self.answers else None)

    def require_off(self, managers: Any, cluster_id: str) -> None:
        if self.lock.enabled:
            raise SwarmError("taking over the swarm")

    def unlock_to_a_quorum(self, managers: Any, cluster_id: str, keys: list[str], *, timeout: float) -> list[str]:
        self.tried.append(keys)
        if self.refuses:
            raise self.refuses
        names, self.locked = self.locked, ()
        return list(names)


@pytest.fixture
def swarm(monkeypatch: pytest.MonkeyPatch) -> Swarm:
    fake = Swarm()
    for name in ("apply", "observe", "require_off", "unlock_to_a_quorum"):
        monkeypatch.setattr(autolock, name, getattr(fake, name))
    return fake


def needs_update(olds: Any, news: dict[str, Any]) -> bool:
    return bool(LOCK.diff("autolock", olds, news).changes)


def made(news: dict[str, Any]) -> dict[str, Any]:
    return dict(LOCK.create(news).outs or {})


def changed(olds: dict[str, Any], news: dict[str, Any]) -> dict[str, Any]:
    assert needs_update(olds, news)
    return dict(LOCK.update("autolock", olds, news).outs or {})


def refreshed(outputs: dict[str, Any]) -> dict[str, Any]:
    result = LOCK.read("autolock", outputs)
    assert result.inputs is not None and not set(SECRET) & set(result.inputs)
    return dict(result.outs or {})


def keys(outputs: dict[str, Any]) -> tuple[str, str]:
    return outputs["key"], outputs["previous_key"]


def test_keys_are_secrets_in_state() -> None:
    assert set(SECRET) == {"key", "previous_key"}


def test_off_is_the_default_and_a_lock_that_is_there_is_refused(swarm: Swarm) -> None:
    outputs = made(lock())
    assert keys(outputs) == ("", "") and not needs_update(outputs, lock())
    assert refreshed(outputs) == outputs
    swarm.lock = Lock(True, "SWMKEY-1-theirs")
    with pytest.raises(SwarmError, match="taking over"):
        LOCK.create(lock())


def test_on_another_key_and_off_again_with_the_key_before_kept(
    swarm: Swarm, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = made(ON)
    assert keys(outputs) == ("SWMKEY-1-first", "") and not needs_update(outputs, ON)
    outputs = changed(outputs, lock(enabled=True, generation=2.0))
    assert keys(outputs) == ("SWMKEY-1-second", "SWMKEY-1-first")
    outputs = changed(outputs, lock(enabled=False, generation=2.0))
    assert keys(outputs) == ("", "SWMKEY-1-second"), "a manager that is off now is still locked with it"
    outputs = changed(outputs, lock(enabled=True, generation=3.0))
    assert keys(outputs)[1] == "SWMKEY-1-second"
    assert refreshed(outputs) == outputs
    said = capsys.readouterr().err.splitlines()
    assert [line.removeprefix("swarm: ") for line in said if "new" not in line and "after a restart" not in line] == [
        "managers lock themselves",
        "unlock key rotated",
        "managers lock themselves no more",
        "managers do not lock themselves any more",
        "managers lock themselves",
    ]


def test_a_key_rotated_by_hand_is_taken_over_by_a_refresh_and_is_no_change(swarm: Swarm) -> None:
    outputs = made(ON)
    swarm.lock = Lock(True, "SWMKEY-1-by-hand")
    outputs = refreshed(outputs)
    assert keys(outputs) == ("SWMKEY-1-by-hand", "SWMKEY-1-first")
    assert not needs_update(outputs, ON)


def test_turned_off_by_hand_it_is_turned_on_again(swarm: Swarm) -> None:
    outputs = made(ON)
    swarm.lock = Lock(False)
    outputs = refreshed(outputs)
    assert outputs["enabled"] is False and keys(outputs) == ("", "SWMKEY-1-first")
    assert keys(changed(outputs, ON)) == ("SWMKEY-1-second", "SWMKEY-1-first")


@pytest.mark.parametrize("answers", [True, False], ids=["one of them", "all of them"])
def test_locked_managers_are_a_verdict_and_up_unlocks_them(
    swarm: Swarm, answers: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = changed(made(ON), lock(enabled=True, generation=2.0))
    swarm.locked, swarm.answers = ("app-1", "app-2"), answers
    found = refreshed(outputs)
    assert found == {**outputs, "verdict": "locked"}
    capsys.readouterr()
    assert changed(found, lock(enabled=True, generation=2.0)) == outputs
    assert swarm.tried[-1] == ["SWMKEY-1-second", "SWMKEY-1-first"]
    said = capsys.readouterr().err
    assert said.splitlines()[-1] == "swarm: unlocked: app-1, app-2"


def test_nothing_else_is_done_where_a_manager_stays_locked(swarm: Swarm) -> None:
    outputs = made(ON)
    swarm.locked, swarm.refuses = ("app-1",), SwarmLocked("unlocking", came_back="no key fits")
    with pytest.raises(SwarmLocked):
        LOCK.update("autolock", refreshed(outputs), lock(enabled=True, generation=2.0))
    assert swarm.lock.key == "SWMKEY-1-first", "not rotated"


def test_who_the_managers_are_matters_while_there_is_a_lock(swarm: Swarm) -> None:
    assert needs_update(made(ON), lock(enabled=True, managers=MANAGERS[:1]))
    swarm.lock = Lock(False)
    assert not needs_update(made(lock()), lock(managers=MANAGERS[:1]))


def test_a_key_is_in_no_input(swarm: Swarm) -> None:
    result = LOCK.read("autolock", made(ON))
    assert "SWMKEY" not in json.dumps(result.inputs)
