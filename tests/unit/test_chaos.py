"""The rounds of `make chaos`: the same for a seed, always something that settings take; what counts as a lost quorum."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml

from proxmox_swarm.settings import load, read_stack_file
from tests.chaos import quorum, rounds
from tests.chaos.__main__ import run
from tests.chaos.declaration import BASE, Declaration
from tests.chaos.rounds import Outcome, Round
from tests.lab import test_chaos
from tests.lab.support import stack_file
from tests.lab.watch import Moment

THREE = frozenset({"a", "b", "c"})


@pytest.fixture(scope="module")
def included(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the lab writes itself: image and keys, of nobody."""
    file = tmp_path_factory.mktemp("lab") / "settings.yaml"
    image = {"url": "http://192.168.2.4/image.raw", "sha512": "0" * 128, "size": 3}
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA me@desk"
    file.write_text(yaml.safe_dump({"proxmox": {"image": image}, "access": {"keys": [key]}}))
    return file


def test_the_same_seed_gives_the_same_rounds_and_another_one_others() -> None:
    def told(seed: str, count: int) -> list[tuple[str, object]]:
        return [(str(this), this.change.declared.settings()) for this in rounds.plan(seed, count)]

    assert told("4711", 40) == told("4711", 40)
    assert told("4711", 10) == told("4711", 40)[:10]
    assert told("4711", 10) != told("4712", 10)


def test_every_kind_of_change_and_fault_is_drawn() -> None:
    drawn = list(rounds.plan("all", 400))
    faults = Counter(this.fault.kind for this in drawn)
    assert set(faults) == {"cli", "group", "terminal", "machine", "dockerd", "link", "api", "all-apis"}
    words = Counter(this.change.what.split()[0] for this in drawn)
    assert {"label", "drain", "pause", "active", "promote", "rebuild", "add", "remove", "cluster", "by"} <= set(words)
    assert any(this.moment.step is None for this in drawn) and any(this.moment.step for this in drawn)


def test_the_short_run_has_the_hard_changes_with_three_kinds_of_faults() -> None:
    """A power cycle, a rebuild and managers that move: where the draws change, another seed has to be found."""
    drawn = list(rounds.plan(test_chaos.SEED, test_chaos.ROUNDS))
    assert {this.change.what.split()[0] for this in drawn} == {"promote", "rebuild", "memory"}
    assert len({this.fault.kind for this in drawn}) == test_chaos.ROUNDS


def test_whatever_is_declared_is_taken_by_settings(
    tmp_path: Path, included: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROXMOX_SWARM_LAB", str(included.parent))
    for this in rounds.plan("settings", 25):
        declared = this.change.declared
        file = stack_file(declared.settings(), tmp_path / "Pulumi.lab.yaml")
        settings = load(read_stack_file(file, "swarm"), project="swarm", stack="lab", base=tmp_path)
        assert {name: node.role for name, node in settings.nodes.items()} == {
            name: node.role for name, node in declared.nodes.items()
        }
        for name, node in settings.nodes.items():
            wanted = declared.nodes[name]
            assert (node.address, node.vm_id, node.availability) == (wanted.address, wanted.id, wanted.availability)
            assert (dict(node.labels), node.generation) == (dict(wanted.labels), wanted.generation)


def test_the_base_is_the_stack_of_the_repository() -> None:
    assert Declaration(BASE.nodes).settings()["nodes"].keys() == BASE.nodes.keys()
    assert (len(BASE.managers), len(BASE.workers)) == (3, 4) and BASE.spread()


def moment(at: float, reachable: str, in_raft: int | None) -> Moment:
    return Moment(at, frozenset(reachable), in_raft, leader_known=in_raft is not None)


@pytest.mark.parametrize(
    ("seen", "victim", "expected"),
    [
        ([moment(0, "abc", 3), moment(1, "ab", 3), moment(9, "abc", 3)], "", ""),
        ([moment(0, "abc", 3), moment(30, "a", 3)], "", "1 of 3 managers reachable, 2 needed"),
        # two were away, one of them because it was struck: the round took the majority away
        ([moment(0, "abc", 3), moment(4, "ab", 3), moment(6, "a", 3)], "b", ""),
        ([moment(0, "abc", 3), moment(4, "ab", 2), moment(6, "a", 2)], "b", ""),
        # all were there when it was struck, and another one was taken away long afterwards
        ([moment(4, "abc", 3), moment(6, "ac", 3), moment(40, "ac", 3), moment(41, "a", 3)], "b", "1 of 3"),
        # or at once, when nobody could know yet
        ([moment(4, "abc", 3), moment(6, "ac", 3), moment(7, "a", 3)], "b", ""),
        # an election is not a loss, unless it does not end
        ([moment(0, "abc", 3), moment(6, "bc", None), moment(30, "bc", 3)], "a", ""),
        ([moment(0, "abc", 3), moment(6, "bc", None), moment(70, "bc", None)], "a", "no leader for 64 s"),
    ],
)
def test_a_lost_quorum_counts_unless_the_fault_took_the_majority(
    seen: list[Moment], victim: str, expected: str
) -> None:
    told = quorum.trouble(seen, victim, struck=5.0 if victim else 0.0)
    assert told.startswith(expected) if expected else told == ""


class Stage:
    """An arena in which some rounds fail."""

    def __init__(self, *failing: int) -> None:
        self.failing = failing
        self.played: list[int] = []

    def play(self, this: Round) -> Outcome:
        self.played.append(this.number)
        return Outcome(
            ["b is not in the swarm"] if this.number in self.failing else [], ["a note"], 10.0 + this.number, 1
        )


def test_a_run_tells_each_failure_with_how_to_repeat_it(capsys: pytest.CaptureFixture[str]) -> None:
    stage = Stage(2)
    assert run(stage, "4711", 3) is False
    said = capsys.readouterr().out
    assert stage.played == [1, 2, 3]
    second = list(rounds.plan("4711", 2))[1]
    assert str(second.change.what) in said and str(second.fault) in said and str(second.moment) in said
    assert "FAILED, 12 s, 1 `up`; a note\n           - b is not in the swarm\n" in said
    assert "again: make chaos SEED=4711 ROUND=2" in said
    assert "seed 4711: 3 rounds, failed: 2; worst time to converge 13 s" in said


def test_a_run_without_failures_says_so_and_one_round_can_be_played_alone(capsys: pytest.CaptureFixture[str]) -> None:
    stage = Stage()
    assert run(stage, "4711", 30, only=7) is True
    assert stage.played == [7]
    assert "1 rounds, all passed" in capsys.readouterr().out
