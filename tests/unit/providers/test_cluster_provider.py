from __future__ import annotations

import re
from typing import Any

import pytest
from pulumi.output import Unknown
from pulumi.runtime.rpc import UNKNOWN

from proxmox_swarm.host.target import Target
from proxmox_swarm.providers.cluster import ClusterProvider
from proxmox_swarm.providers.cluster_settings import INIT_ONLY, ClusterSettingsProvider
from proxmox_swarm.swarm import bootstrap, cluster_settings, inventory
from proxmox_swarm.swarm.bootstrap import ClusterFacts, ClusterView, InitOptions
from proxmox_swarm.swarm.errors import NoManager, SplitDeclaration, SwarmError
from tests.unit.providers.props import KEY, MANAGERS, cluster, settings

TARGETS = [Target(m["node"], m["address"], "ops", KEY) for m in MANAGERS]
CLUSTER = ClusterProvider()
SETTINGS = ClusterSettingsProvider()
FACTS = ClusterFacts("c1-and-more", "digest", created=True, init_node="app-1")
REACHED = ClusterView("ok", "", "digest", FACTS)
SILENT = ClusterView("unreachable", "nobody answers", "", None, NoManager("looking", came_back="nobody answers"))


class Swarm:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.view = REACHED
        self.error: SwarmError | None = None

    def find_or_init(self, managers: Any, init: InitOptions, *, deadline: float) -> ClusterFacts:
        self.calls.append(("find_or_init", managers, init, deadline))
        if self.error:
            raise self.error
        return FACTS

    def read_cluster(self, managers: Any, cluster_id: str) -> ClusterView:
        self.calls.append(("read_cluster", managers, cluster_id))
        return self.view


@pytest.fixture
def swarm(monkeypatch: pytest.MonkeyPatch) -> Swarm:
    fake = Swarm()
    monkeypatch.setattr(bootstrap, "find_or_init", fake.find_or_init)
    monkeypatch.setattr(bootstrap, "read_cluster", fake.read_cluster)
    return fake


def needs_update(olds: Any, news: dict[str, Any]) -> bool:
    result = CLUSTER.diff("c1", olds, news)
    assert not result.replaces
    return bool(result.changes)


def test_create_finds_or_makes_the_swarm(swarm: Swarm, capsys: pytest.CaptureFixture[str]) -> None:
    result = CLUSTER.create(cluster())
    assert swarm.calls == [
        ("find_or_init", TARGETS, InitOptions(("10.201.0.0/16",), 24, 4789, {"app-1": "10.0.9.1"}), 120.0)
    ]
    assert result.id == "c1-and-more"
    outs = result.outs or {}
    assert (outs["cluster_id"], outs["verdict"]) == ("c1-and-more", "ok")
    assert not needs_update(outs, cluster())
    assert capsys.readouterr().err == "app-1: swarm c1-a initialised\n"


def test_errors_of_the_domain_come_through_as_they_are(swarm: Swarm) -> None:
    swarm.error = SplitDeclaration("looking for the swarm", came_back="they are in different swarms")
    with pytest.raises(SplitDeclaration) as raised:
        CLUSTER.create(cluster())
    assert raised.value is swarm.error


def test_read_finds_no_change(swarm: Swarm) -> None:
    outputs = CLUSTER.create(cluster()).outs or {}
    result = CLUSTER.read("c1-and-more", outputs)
    assert (result.id, result.outs) == ("c1-and-more", outputs)
    assert swarm.calls[-1] == ("read_cluster", TARGETS, "c1-and-more")


def test_managers_that_do_not_answer_are_a_verdict_that_up_comes_back_to(swarm: Swarm) -> None:
    outputs = CLUSTER.create(cluster()).outs or {}
    swarm.view = SILENT
    result = CLUSTER.read("c1-and-more", outputs)
    assert result.id == "c1-and-more", "never gone"
    outs = result.outs or {}
    assert outs["verdict"] == "unreachable"
    assert needs_update(outs, cluster())
    with pytest.raises(NoManager, match="nobody answers"):
        CLUSTER.update("c1-and-more", outs, cluster())
    swarm.view = REACHED
    assert CLUSTER.update("c1-and-more", outs, cluster()).outs == outputs


def test_another_set_of_managers_is_remembered_in_place(swarm: Swarm) -> None:
    outputs = CLUSTER.create(cluster()).outs or {}
    news = cluster(managers=MANAGERS[:1])
    assert needs_update(outputs, news)
    updated = CLUSTER.update("c1-and-more", outputs, news).outs or {}
    assert swarm.calls[-1] == ("read_cluster", TARGETS[:1], "c1-and-more")
    assert updated["managers"] == MANAGERS[:1]
    assert not needs_update(updated, news)


def test_deleting_the_cluster_does_nothing_by_itself(swarm: Swarm) -> None:
    CLUSTER.delete("c1", cluster())
    assert swarm.calls == []


# -- its settings ------------------------------------------------------------------------------------------------------


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the swarm is set to; None when nobody answers."""
    spec: dict[str, Any] = {"actual": {"task_history": 5, "labels": {}}, "applied": [], "targets": TARGETS}

    def apply(managers: Any, cluster_id: str, wanted: dict[str, Any]) -> dict[str, Any]:
        assert (managers, cluster_id) == (spec["targets"], "c1")
        spec["applied"].append(wanted)
        spec["actual"] = dict(wanted)
        return dict(wanted)

    monkeypatch.setattr(cluster_settings, "apply", apply)
    monkeypatch.setattr(cluster_settings, "observe", lambda *_: spec["actual"])
    monkeypatch.setattr(inventory, "out_of_reach", lambda *_: [])
    return spec


def changes(olds: Any, news: dict[str, Any]) -> bool:
    result = SETTINGS.diff("settings", olds, news)
    assert not result.replaces
    return bool(result.changes)


def test_fields_are_applied_as_whole_numbers(engine: dict[str, Any]) -> None:
    result = SETTINGS.create(settings())
    assert engine["applied"] == [{"task_history": 5, "labels": {}}]
    assert type(engine["applied"][0]["task_history"]) is int
    assert not changes(result.outs, settings())


def test_drift_of_a_declared_field_shows_and_is_put_back(engine: dict[str, Any]) -> None:
    outputs = SETTINGS.create(settings()).outs or {}
    engine["actual"] = {"task_history": 9, "labels": {"by": "hand"}}
    result = SETTINGS.read("settings", outputs)
    assert result.inputs is not None
    assert result.inputs["fields"] == engine["actual"]
    assert changes(result.outs, settings())
    updated = SETTINGS.update("settings", result.outs or {}, settings()).outs
    assert engine["actual"] == {"task_history": 5, "labels": {}}
    assert not changes(updated, settings())


def test_where_no_manager_answers_the_recorded_fields_stay(engine: dict[str, Any]) -> None:
    outputs = SETTINGS.create(settings()).outs or {}
    engine["actual"] = None
    result = SETTINGS.read("settings", outputs)
    assert (result.id, result.outs) == ("settings", outputs)


CHANGED: list[tuple[str, Any, str]] = [
    (
        "address_pool",
        ["10.9.0.0/16"],
        r"cluster.addressPool is \['10.201.0.0/16'\] and cannot become \['10.9.0.0/16'\]",
    ),
    ("subnet_size", 25.0, "cluster.subnetSize is 24 and cannot become 25"),
    ("data_path_port", 4790.0, "cluster.dataPathPort is 4789 and cannot become 4790: a swarm gets it when"),
    ("data_path", "storage", "cluster.dataPath is main and cannot become storage: a node gets it when it joins"),
]


@pytest.mark.parametrize(("key", "value", "words"), CHANGED)
def test_what_only_init_can_set_is_refused_in_preview_with_the_way_out(key: str, value: Any, words: str) -> None:
    news = settings(init={**settings()["init"], key: value})
    result = SETTINGS.check(settings(), news)
    (failure,) = result.failures
    assert failure.property == "", "Pulumi would print the value of a property that is named"
    assert re.search(words, failure.reason)
    assert "Put the old value back, or build a new cluster" in failure.reason


def test_every_init_only_field_is_refused_at_once() -> None:
    news = settings(init={key: value for key, value, _ in CHANGED})
    reasons = [failure.reason for failure in SETTINGS.check(settings(), news).failures]
    assert [reason.split()[0] for reason in reasons] == [f"cluster.{name}" for name in INIT_ONLY.values()]


def moved(*numbers: int) -> list[dict[str, Any]]:
    """The managers, these at other addresses."""
    return [{**m, "address": f"10.0.9.{i}"} if i in numbers else m for i, m in enumerate(MANAGERS, 1)]


@pytest.mark.parametrize(
    ("managers", "words"),
    [
        (MANAGERS[:1], r"2 of the 3 managers would be removed or demoted \(app-2, app-3\).*Take out app-2, `up`"),
        (moved(1, 3), r"2 managers would get other addresses at once \(app-1 from 10.0.4.1 to 10.0.9.1, app-3"),
    ],
)
@pytest.mark.parametrize("host_key", [KEY, UNKNOWN, Unknown()], ids=["known", "sentinel", "unknown"])
def test_a_plan_that_would_cost_a_majority_is_refused_in_preview_with_the_steps(
    managers: list[dict[str, Any]], words: str, host_key: Any
) -> None:
    news = settings(managers=[{**manager, "host_key": host_key} for manager in managers])
    (failure,) = SETTINGS.check(settings(), news).failures
    assert re.search(words, failure.reason)
    assert failure.property == ""


@pytest.mark.parametrize(
    "news",
    [
        settings(managers=MANAGERS[:2]),
        settings(managers=moved(2)),
        settings(managers=MANAGERS[:1], guards={"fewer_managers": True}),
        settings(managers=UNKNOWN),
    ],
    ids=["one fewer", "one moved", "meant", "unknown"],
)
def test_a_plan_that_keeps_a_majority_or_is_meant_goes_on(news: dict[str, Any]) -> None:
    assert not SETTINGS.check(settings(), news).failures


def test_the_managers_that_are_wanted_are_recorded_for_the_next_plan(engine: dict[str, Any]) -> None:
    outputs = SETTINGS.create(settings()).outs or {}
    news = settings(managers=MANAGERS[:2])
    assert changes(outputs, news)
    engine["targets"] = TARGETS[:2]
    updated = SETTINGS.update("settings", outputs, news).outs or {}
    assert updated["managers"] == MANAGERS[:2]
    assert not changes(updated, news)
    assert SETTINGS.check(updated, settings(managers=MANAGERS[:1])).failures == []


@pytest.mark.parametrize(
    ("olds", "news"),
    [
        ({}, settings()),
        (settings(), settings()),
        (settings(init={"address_pool": ["10.201.0.0/16"], "subnet_size": 24, "data_path_port": 4789}), settings()),
        (settings(), settings(fields={"task_history": 9.0})),
        (settings(), settings(init=Unknown())),
        (settings(), settings(init=UNKNOWN)),
        (
            settings(),
            settings(
                init={"address_pool": Unknown(), "subnet_size": UNKNOWN, "data_path_port": 4789.0, "data_path": "main"}
            ),
        ),
        (
            settings(),
            settings(
                init={"address_pool": [Unknown()], "subnet_size": 24.0, "data_path_port": 4789.0, "data_path": "main"}
            ),
        ),
    ],
    ids=["new", "same", "numbers", "fields", "unknown", "sentinel", "unknown inside", "unknown in a list"],
)
def test_nothing_else_is_refused(olds: dict[str, Any], news: dict[str, Any]) -> None:
    result = SETTINGS.check(olds, news)
    assert not result.failures
    assert result.inputs == news
