from __future__ import annotations

from typing import Any

import pytest

from proxmox_swarm.providers.undeclared import INPUTS, UndeclaredProvider
from proxmox_swarm.swarm import undeclared
from tests.unit.providers.props import DEADLINES, MANAGERS

PROVIDER = UndeclaredProvider()
STRANGER = {"id": "n9", "hostname": "stranger", "address": "10.0.4.9", "role": "manager"}


def inputs(**changes: Any) -> dict[str, Any]:
    return {
        "managers": MANAGERS,
        "cluster_id": "c1",
        "addresses": ["10.0.4.1"],
        "members": ["n1"],
        "policy": "report",
        "deadlines": DEADLINES,
        "removing": [],
        **changes,
    }


class Domain:
    def __init__(self) -> None:
        self.there: list[dict[str, str]] | None = [STRANGER]
        self.removed: list[str] = []
        self.asked: list[str] = []

    def find(self, managers: Any, cluster_id: str, addresses: Any, members: Any) -> list[dict[str, str]] | None:
        assert (cluster_id, members) == ("c1", ["n1"])
        self.asked = addresses
        return self.there

    def remove(self, managers: Any, cluster_id: str, ids: Any, addresses: Any, members: Any, **_: Any) -> list[str]:
        self.removed = list(ids)
        self.there = []
        return ["stranger"]


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> Domain:
    fake = Domain()
    monkeypatch.setattr(undeclared, "find", fake.find)
    monkeypatch.setattr(undeclared, "remove", fake.remove)
    return fake


def after_refresh(props: dict[str, Any]) -> dict[str, Any]:
    result = PROVIDER.read("undeclared", props)
    assert result.inputs == {key: (result.outs or {})[key] for key in INPUTS}
    return dict(result.outs or {})


def test_by_default_others_are_recorded_and_nothing_is_to_be_done(domain: Domain) -> None:
    created = PROVIDER.create(inputs()).outs or {}
    assert created["nodes"] == [STRANGER]
    assert not PROVIDER.diff("undeclared", created, inputs()).changes
    assert not PROVIDER.diff("undeclared", after_refresh(created), inputs()).changes
    assert domain.removed == []


def test_with_the_policy_they_are_named_in_preview_and_then_removed(
    domain: Domain, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = inputs(policy="remove")
    created = PROVIDER.create(wanted).outs or {}
    assert domain.removed == [], "no preview has named them yet"
    found = after_refresh(created)
    assert PROVIDER.diff("undeclared", found, wanted).changes
    assert "stranger: 10.0.4.9, id n9: nobody declared it: drain, demote, remove" in capsys.readouterr().err
    done = PROVIDER.update("undeclared", found, wanted).outs or {}
    assert domain.removed == ["n9"]
    assert done["nodes"] == []
    assert not PROVIDER.diff("undeclared", done, wanted).changes


def test_turning_the_policy_on_removes_what_is_recorded(domain: Domain) -> None:
    created = PROVIDER.create(inputs()).outs or {}
    wanted = inputs(policy="remove")
    assert PROVIDER.diff("undeclared", created, wanted).changes
    PROVIDER.update("undeclared", created, wanted)
    assert domain.removed == ["n9"]


def test_turning_it_off_removes_nothing(domain: Domain) -> None:
    found = after_refresh(PROVIDER.create(inputs(policy="remove")).outs or {})
    PROVIDER.update("undeclared", found, inputs())
    assert domain.removed == []


def test_a_node_that_leaves_by_the_same_plan_is_nobody_to_report(domain: Domain) -> None:
    created = PROVIDER.create(inputs(addresses=["10.0.4.1", "10.0.4.5"])).outs or {}
    assert PROVIDER.diff("undeclared", created, inputs()).changes
    done = PROVIDER.update("undeclared", created, inputs()).outs or {}
    assert domain.asked == ["10.0.4.1", "10.0.4.5"]
    assert done["addresses"] == ["10.0.4.1"]


def test_managers_that_do_not_answer_change_nothing(domain: Domain) -> None:
    created = PROVIDER.create(inputs()).outs or {}
    domain.there = None
    assert after_refresh(created)["nodes"] == [STRANGER]
