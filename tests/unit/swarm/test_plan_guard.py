"""What a preview says of a plan for the managers, whatever was recorded and whatever is wanted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxmox_swarm.swarm.plan_guard import objections, steps
from proxmox_swarm.swarm.quorum import majority

managers = st.lists(st.sampled_from("abcdefghi"), max_size=7, unique=True)


def at(names: str | list[str], network: int = 1) -> dict[str, str]:
    return {name: f"10.0.{network}.{ord(name)}" for name in names}


@given(managers, managers)
def test_exactly_the_loss_of_a_majority_is_refused(recorded: list[str], wanted: list[str]) -> None:
    lost = len(set(recorded) - set(wanted))
    refused = list(objections(at(recorded), at(wanted)))
    assert bool(refused) is (bool(recorded and wanted) and lost >= majority(len(recorded)))
    for reason in refused:
        assert all(name in reason for name in set(recorded) - set(wanted))
    assert list(objections(at(recorded), at(wanted), fewer=True)) == []


@given(managers.filter(bool), managers.filter(bool))
def test_the_steps_that_are_told_work(recorded: list[str], wanted: list[str]) -> None:
    before = recorded
    found = steps(recorded, wanted)
    for after in found:
        assert after
        assert set(after) != set(before), "each step does something"
        assert not list(objections(at(before), at(after)))
        before = after
    assert set(before) == set(wanted)
    assert len(found) <= len(recorded) + len(wanted)


@given(managers, managers, managers)
def test_exactly_several_new_addresses_are_refused_whatever_is_meant(
    recorded: list[str], wanted: list[str], elsewhere: list[str]
) -> None:
    new = {**at(wanted), **{name: address for name, address in at(elsewhere, 2).items() if name in wanted}}
    moved = set(recorded) & set(wanted) & set(elsewhere)
    refused = list(objections(at(recorded), new, fewer=True))
    assert bool(refused) is (len(moved) > 1)
    for reason in refused:
        assert all(f"{name} from 10.0.1.{ord(name)} to 10.0.2.{ord(name)}" in reason for name in moved)


@pytest.mark.parametrize(
    ("recorded", "wanted", "told"),
    [
        (
            "abc",
            "a",
            "2 of the 3 managers would be removed or demoted (b, c): a majority. Take out b, `up`; then take out c, `up` "
            "(an even number in between wants guards: {evenManagers: true}). Or let one `up` take them out one at a time: "
            "guards: {fewerManagers: true}.",
        ),
        (
            "abc",
            "ade",
            "2 of the 3 managers would be removed or demoted (b, c): a majority. Take out b and put in d, `up`; then take "
            "out c and put in e, `up`. Or let one `up` take them out one at a time: guards: {fewerManagers: true}.",
        ),
        (
            "abcde",
            "a",
            "4 of the 5 managers would be removed or demoted (b, c, d, e): a majority. Take out b, c, `up`; then take out "
            "d, `up`; then take out e, `up` (an even number in between wants guards: {evenManagers: true}). Or let one "
            "`up` take them out one at a time: guards: {fewerManagers: true}.",
        ),
        (
            "a",
            "b",
            "1 of the 1 managers would be removed or demoted (a): a majority. Put in b, `up`; then take out a, `up` (an "
            "even number in between wants guards: {evenManagers: true}). Or, if it is meant: guards: {fewerManagers: true}.",
        ),
    ],
)
def test_in_words(recorded: str, wanted: str, told: str) -> None:
    assert list(objections(at(recorded), at(wanted))) == [told]


def test_several_addresses_in_words() -> None:
    assert list(objections({"a": "10.0.0.1", "b": "10.0.0.2"}, {"a": "10.0.0.3", "b": "10.0.0.4"})) == [
        "2 managers would get other addresses at once (a from 10.0.0.1 to 10.0.0.3, b from 10.0.0.2 to 10.0.0.4): each is "
        "rebuilt for it and has to find the others where they are. Change a, `up`, then b, with an `up` after each."
    ]
