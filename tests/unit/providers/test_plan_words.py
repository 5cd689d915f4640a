from __future__ import annotations

from typing import Any

import pytest
from pulumi.output import Unknown

from proxmox_swarm.providers import plan_words
from proxmox_swarm.providers.cluster_settings import ClusterSettingsProvider
from proxmox_swarm.providers.member import MemberProvider
from proxmox_swarm.swarm import cluster_settings, inventory
from tests.unit.providers.props import MANAGERS, manager, member, settings


def found(**changes: Any) -> dict[str, Any]:
    """A member's outputs as a refresh left them: what was found, beside what is declared."""
    declared = {"role": "manager", "availability": "active", "labels": {"zone": "a"}}
    return {**member(), "node_id": "n2", "engine_id": "e2", "detail": "", "declared": declared, **changes}


WORDS = [
    ("nothing", found(), member(), ""),
    ("label", found(), member(labels={"zone": "b", "disk": "ssd"}), "labels: disk=ssd, zone=b"),
    ("label gone", found(), member(labels={}), "labels: without zone"),
    ("promotion", found(role="worker"), member(), "promote"),
    ("demotion", found(), member(role="worker"), "demote"),
    ("drain", found(), member(availability="drain"), "drain"),
    ("back to work", found(availability="drain"), member(), "activate"),
    (
        "power cycle",
        found(),
        member(hardware={**member()["hardware"], "cpu": 8.0}),
        "drain, power off and on (processors), activate; meanwhile 2 of 3 managers reachable, 2 needed, NONE TO SPARE",
    ),
    (
        "power cycle of a worker, for all there is",
        found(role="worker"),
        member(
            role="worker",
            hardware={"cpu": 8.0, "memory": 4.0, "boot": 40.0, "gateways": ["10.0.4.253", ""], "mtus": [9000.0, 0.0]},
        ),
        "drain, power off and on (processors, memory, boot disk, gateway, MTU), activate",
    ),
    (
        "another gateway",
        found(role="worker"),
        member(role="worker", hardware={**member()["hardware"], "gateways": ["10.0.4.253", ""]}),
        "drain, power off and on (gateway), activate",
    ),
    (
        "rebuilding",
        found(),
        member(machine=Unknown()),
        "drain, demote, leave; its machine is replaced; joins as manager;"
        " meanwhile 2 of 3 managers reachable, 2 needed, NONE TO SPARE",
    ),
    (
        "a worker's rebuilding",
        found(role="worker"),
        member(role="worker", machine="4999"),
        "drain, leave; its machine is replaced; joins as worker",
    ),
    (
        "left",
        found(verdict="left", detail="its engine is in no swarm"),
        member(),
        "left (its engine is in no swarm): joins again",
    ),
    (
        "drift is put back, not told twice",
        found(verdict="drifted", detail="availability pause, declared active", availability="pause"),
        member(),
        "drifted (availability pause, declared active): put back",
    ),
    (
        "drift and a change",
        found(verdict="drifted", detail="labels {}, declared {'zone': 'a'}", labels={}),
        member(labels={"zone": "b"}),
        "drifted (labels {}, declared {'zone': 'a'}): put back; labels: zone=b",
    ),
]


@pytest.mark.parametrize(("olds", "news", "words"), [w[1:] for w in WORDS], ids=[w[0] for w in WORDS])
def test_a_change_in_words(olds: dict[str, Any], news: dict[str, Any], words: str) -> None:
    assert plan_words.of_member(olds, news) == words


CYCLE = {"hardware": {"cpu": 8.0, "memory": 8.0}}
REBUILD = {"machine": Unknown()}
FIVE = [*MANAGERS, manager(4), manager(5)]


@pytest.mark.parametrize(
    ("change", "away", "margin"),
    [
        (CYCLE, ["app-3"], "1 of 3 managers reachable, 2 needed, NO QUORUM: refused until app-3 is back"),
        (REBUILD, ["app-3"], "1 of 3 managers reachable, 2 needed, NO QUORUM: refused until app-3 is back"),
        (CYCLE, ["app-2"], "2 of 3 managers reachable, 2 needed, NONE TO SPARE"),
        (CYCLE, ["elsewhere"], "2 of 3 managers reachable, 2 needed, NONE TO SPARE"),
        ({**CYCLE, "managers": FIVE}, ["app-5"], "3 of 5 managers reachable, 3 needed, NONE TO SPARE"),
        (
            {**REBUILD, "managers": FIVE},
            ["app-4", "app-5"],
            "2 of 5 managers reachable, 3 needed, NO QUORUM: refused until app-4, app-5 are back",
        ),
    ],
)
def test_the_margin_counts_managers_that_are_away(change: dict[str, Any], away: list[str], margin: str) -> None:
    assert plan_words.of_member(found(), member(**change), away).endswith(f"; meanwhile {margin}")


def test_what_a_refresh_found_away_is_told_at_every_manager_before_its_own_turn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_settings, "observe", lambda *_: {"task_history": 5, "labels": {}})
    monkeypatch.setattr(inventory, "out_of_reach", lambda *_: ["app-3"])
    provider = ClusterSettingsProvider()
    inputs = provider.read("settings", settings()).inputs or {}
    assert not provider.diff("settings", inputs, settings()).changes
    assert not provider.check(inputs, settings()).failures
    MemberProvider().diff("app-2", found(), member(**CYCLE))
    third = {**manager(3), "verdict": "not_ready", "detail": "the leader does not reach this manager"}
    MemberProvider().diff("app-3", found(**third), member(**manager(3)))
    MemberProvider().diff("app-2", found(), member(**CYCLE))
    before, _, after = capsys.readouterr().err.splitlines()
    assert before.endswith("refused until app-3 is back") and after.endswith("NONE TO SPARE")

    monkeypatch.setattr(inventory, "out_of_reach", lambda *_: [])
    assert "away" not in (provider.read("settings", inputs).inputs or {})


def test_each_verdict_has_its_words() -> None:
    from typing import get_args

    from proxmox_swarm.swarm.member import Verdict

    assert set(plan_words.VERDICTS) == set(get_args(Verdict)) - {"ok"}


def test_preview_is_told_under_the_nodes_name(capsys: pytest.CaptureFixture[str]) -> None:
    MemberProvider().diff("app-2", found(verdict="left", detail="gone"), member())
    assert capsys.readouterr().err == "app-2: left (gone): joins again\n"
    MemberProvider().diff("app-2", found(), member(managers=[*MANAGERS]))
    assert capsys.readouterr().err == ""
