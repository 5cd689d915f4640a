from __future__ import annotations

from typing import Any

import pytest
from pulumi.output import Unknown

from proxmox_swarm.providers import plan_words
from proxmox_swarm.providers.member import MemberProvider
from tests.unit.providers.props import MANAGERS, member


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
        member(hardware={"cpu": 8.0, "memory": 8.0}),
        "drain, power off and on, activate; meanwhile 2 of 3 managers reachable, 2 needed, NONE TO SPARE",
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


def test_each_verdict_has_its_words() -> None:
    from typing import get_args

    from proxmox_swarm.swarm.member import Verdict

    assert set(plan_words.VERDICTS) == set(get_args(Verdict)) - {"ok"}


def test_preview_is_told_under_the_nodes_name(capsys: pytest.CaptureFixture[str]) -> None:
    MemberProvider().diff("app-2", found(verdict="left", detail="gone"), member())
    assert capsys.readouterr().err == "app-2: left (gone): joins again\n"
    MemberProvider().diff("app-2", found(), member(managers=[*MANAGERS]))
    assert capsys.readouterr().err == ""
