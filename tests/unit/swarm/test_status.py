"""The verdict on a swarm, and what is found wrong with it, whoever answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType

import pytest

from proxmox_swarm.host.facts import Disk
from proxmox_swarm.swarm import hand_drain, look, membership
from proxmox_swarm.swarm.member import MemberSpec
from proxmox_swarm.swarm.status import GIB, DeclaredNode, Status
from tests.unit.swarm.world import Swarm, World

NAMES = ("a", "b", "c", "d", "e")


def declared(
    world: World, names: tuple[str, ...] = NAMES, ids: Mapping[str, str] = MappingProxyType({})
) -> list[DeclaredNode]:
    return [
        DeclaredNode(
            name=name,
            address=world.target(name).address,
            host="pve01",
            vm_id=100 + index,
            role="manager" if name in "abc" else "worker",
            availability="active",
            labels={},
            target=world.target(name),
            mounts=("/var/lib/data",) if name == "d" else (),
            node_id=ids.get(name, ""),
        )
        for index, name in enumerate(names)
    ]


@pytest.fixture
def swarm(world: World) -> Swarm:
    return world.build(["a", "b", "c"], ["d", "e"])


def seen(world: World, swarm: Swarm, **change: object) -> Status:
    return look.look(declared(world), swarm.id, access=world, **change)  # type: ignore[arg-type]


def problems(status: Status) -> list[tuple[str, str]]:
    return [(problem.kind, problem.subject) for problem in status.problems]


def test_a_swarm_where_all_is_well_is_whole(world: World, swarm: Swarm) -> None:
    world.add_service(swarm, "web", {"d": 1, "e": 1})
    status = seen(world, swarm)
    assert status.verdict == "whole", status.problems
    assert status.summary == "managers 3 of 3, can lose 1; nodes 5 of 5 ok; services 1 of 1 whole"
    assert status.problems == ()
    assert [node.verdict for node in status.nodes] == ["ok"] * 5
    assert {node.engine for node in status.nodes} == {"active"}


def test_a_manager_that_is_off_leaves_none_to_spare(world: World, swarm: Swarm) -> None:
    world["b"].on = False
    world.pass_time(20)
    status = seen(world, swarm)
    assert status.verdict == "degraded"
    assert status.managers == "managers 2 of 3, NONE TO SPARE"
    assert problems(status) == [("machine", "b")]
    assert status.problems[0].text == "unreachable: no answer; the swarm has it as down"
    assert status.nodes[1].state == "down unreachable"


def test_a_machine_that_does_not_run_is_no_reachable_manager_though_the_leader_believes_so(
    world: World, swarm: Swarm
) -> None:
    status = seen(world, swarm)
    one = status.with_power({"b": "stopped", "d": "stopped", "c": "running"})
    assert (one.verdict, one.managers) == ("whole", "managers 2 of 3, NONE TO SPARE")
    two = status.with_power({"b": "stopped", "c": "absent"})
    assert two.verdict == "no-quorum"
    assert two.managers == "managers 1 of 3, 2 needed"
    assert problems(two)[0] == ("quorum", "")


def test_without_a_majority_there_is_no_quorum_and_each_engine_tells_what_it_knows(world: World, swarm: Swarm) -> None:
    world["b"].on = world["c"].on = False
    status = seen(world, swarm)
    assert status.verdict == "no-quorum"
    assert "1 of 3 declared managers answer, 2 needed" in status.summary
    assert (status.quorum, status.services) == (None, None)
    assert problems(status) == [("quorum", ""), ("machine", "b"), ("machine", "c")]
    assert "does not have a leader" in status.problems[0].text
    assert {n.name: n.verdict for n in status.nodes if n.engine} == {
        "a": "leaderless",
        "d": "leaderless",
        "e": "leaderless",
    }


def test_nobody_answers(world: World, swarm: Swarm) -> None:
    for name in NAMES:
        world[name].on = False
    status = seen(world, swarm)
    assert status.verdict == "no-quorum"
    assert "0 of 3 declared managers answer" in status.summary
    assert [node.verdict for node in status.nodes] == ["unreachable"] * 5
    assert not any(node.answers for node in status.nodes)


def test_a_look_ends_in_its_time_whoever_hangs(world: World, swarm: Swarm, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = world.host_facts
    monkeypatch.setattr(
        world, "host_facts", lambda target, mounts: time.sleep(5) if target.node == "e" else facts(target, mounts)
    )
    begun = time.monotonic()
    status = seen(world, swarm, limit=0.5)
    assert time.monotonic() - begun < 2
    assert status.nodes[4].verdict == "ok"
    assert status.nodes[4].certificate is None
    assert status.nodes[3].certificate is not None


def test_an_engine_that_is_down_is_told_from_a_machine_that_is(world: World, swarm: Swarm) -> None:
    world["d"].engine_up = False
    status = seen(world, swarm)
    assert problems(status) == [("engine", "d")]
    assert "Docker daemon" in status.problems[0].text and "ends as it starts" not in status.problems[0].text
    world["d"].unit = "failed"
    assert seen(world, swarm).problems[0].text.endswith("; its dockerd ends as it starts")


@pytest.mark.parametrize("state", ["locked", "pending", "error"])
def test_an_engine_that_is_in_trouble_says_so(world: World, swarm: Swarm, state: str) -> None:
    world["c"].state = state
    world.pass_time(20)
    status = seen(world, swarm)
    assert status.verdict == "degraded"
    assert problems(status) == [("locked" if state == "locked" else "member", "c")]
    assert status.nodes[2].verdict == state


def test_nodes_that_left_were_removed_or_are_in_another_swarm_are_told_apart(world: World, swarm: Swarm) -> None:
    world.engine(world.target("d")).swarm_leave()
    e = world.node_of(world["e"])
    assert e is not None
    del swarm.nodes[e.id]
    world.rebuild("c")
    other = world.engine(world.target("c"))
    other.swarm_init({"AdvertiseAddr": "10.0.0.3:2377"})
    status = seen(world, swarm)
    verdicts = {node.name: node.verdict for node in status.nodes}
    assert verdicts == {"a": "ok", "b": "ok", "c": "foreign", "d": "left", "e": "removed"}
    assert {kind for kind, _ in problems(status)} == {"member"}


def test_a_node_that_is_not_as_declared_and_one_that_was_never_brought_up(world: World, swarm: Swarm) -> None:
    node = world.node_of(world["d"])
    assert node is not None
    node.spec["Availability"] = "pause"
    nodes = declared(world)
    nodes.append(DeclaredNode("f", "10.0.0.9", "pve01", 109, "worker", "active", {}, None))
    status = look.look(nodes, swarm.id, access=world)
    assert problems(status) == [("member", "f"), ("drifted", "d")]
    assert "availability pause, declared active" in status.problems[1].text


def test_a_member_nobody_declared_is_told(world: World, swarm: Swarm) -> None:
    status = look.look(declared(world, ("a", "b", "c", "d")), swarm.id, access=world)
    assert status.verdict == "degraded"
    assert problems(status) == [("undeclared", "e")]
    assert status.nodes[-1].state == "ready, not declared"


def test_what_an_earlier_machine_left_behind_is_told_apart_from_strangers(world: World, swarm: Swarm) -> None:
    world.rebuild("d")
    world.pass_time(20)
    world.engine(world.target("d")).swarm_join(
        {"AdvertiseAddr": "10.0.0.4:2377", "RemoteAddrs": ["10.0.0.1:2377"], "JoinToken": swarm.token("worker")}
    )
    status = seen(world, swarm)
    assert [node.verdict for node in status.nodes] == ["ok"] * 5 + ["ghost"]
    assert problems(status) == [("member", "d")]
    assert status.nodes[-1].state == "down, left behind"


def recorded(world: World) -> dict[str, str]:
    """Each node's id, as the outputs of the last `up` have it."""
    return {name: world[name].certificate[1] for name in NAMES}


def test_a_worker_in_another_ones_name_is_told_in_the_words_of_a_refresh(world: World, swarm: Swarm) -> None:
    ids = recorded(world)
    world.pass_time(60)
    world["e"].certificate = world["d"].certificate
    world.pass_time(60)
    status = look.look(declared(world, ids=ids), swarm.id, access=world)
    assert status.verdict == "degraded"
    assert problems(status) == [("member", "e")]
    e = status.nodes[4]
    assert (e.verdict, e.entry and e.entry.node_id, len(status.nodes)) == ("removed", ids["e"], 5)
    spec = MemberSpec(world.target("e"), "worker")
    refreshed = membership.observe(spec, world.targets("a"), swarm.id, ids["e"], access=world)
    assert (e.verdict, e.detail) == (refreshed.verdict, refreshed.detail)


def test_a_manager_whose_place_was_taken_is_told_in_the_words_of_a_refresh(world: World, swarm: Swarm) -> None:
    ids = recorded(world)
    world.pass_time(60)
    world["d"].certificate = world["c"].certificate
    swarm.nodes[ids["c"]].address = world.target("d").address
    world.pass_time(60)
    for known in (ids, {}):
        status = look.look(declared(world, ids=known), swarm.id, access=world)
        c, d = status.nodes[2:4]
        assert (c.verdict, d.verdict) == ("removed", "drifted")
        assert c.detail == f"its engine takes itself for node {ids['c']}, which the swarm has as c at 10.0.0.4"
        assert [(n.verdict, n.entry.node_id) for n in status.nodes[5:] if n.entry] == [("ghost", ids["d"])]


def test_engines_that_are_one_node_are_told_where_nothing_is_left_to_tell_whose_it_is(
    world: World, swarm: Swarm
) -> None:
    ids = recorded(world)
    world["e"].certificate = world["d"].certificate
    del swarm.nodes[ids["e"]]
    world.pass_time(60)
    status = look.look(declared(world, ids=ids), swarm.id, access=world)
    assert [node.verdict for node in status.nodes] == ["ok"] * 4 + ["twin"]
    assert status.problems[0].text == f"twin: its engine takes itself for node {ids['d']}, as does that of d"
    unknown = look.look(declared(world), swarm.id, access=world)
    assert [node.verdict for node in unknown.nodes] == ["ok"] * 3 + ["twin"] * 2


def test_a_member_at_another_address_than_declared_is_itself_and_no_stranger(world: World, swarm: Swarm) -> None:
    """As behind address translation: who it is, its engine says."""
    node = world.node_of(world["d"])
    assert node is not None
    node.address = "172.16.0.9"
    assert seen(world, swarm).verdict == "whole"


def test_a_service_that_is_not_spread_evenly_is_no_fault_and_told(world: World, swarm: Swarm) -> None:
    world.add_service(swarm, "web", {"d": 4})
    status = seen(world, swarm)
    assert (status.verdict, status.uneven) == ("whole", ("web",))
    assert any("not spread evenly" in note and "web" in note for note in status.notes)


def test_a_drain_by_hand_and_a_rotation_of_the_ca_are_no_faults(world: World, swarm: Swarm) -> None:
    hand_drain.drain(world.targets("a"), swarm.id, world.target("d"), "new fan", timeout=30, access=world)
    swarm.next_pem = "the next CA"
    status = seen(world, swarm)
    assert status.verdict == "whole"
    assert status.nodes[3].state == "ready drain by hand: new fan"
    assert "d is drained by hand: new fan" in status.notes
    assert any("CA rotation" in note for note in status.notes)


@pytest.mark.parametrize(
    ("issued", "left", "said"),
    [(-80, 10, "expires in 10 days and was not renewed"), (-90, -1, "HAS EXPIRED"), (-70, 20, None)],
)
def test_a_certificate_that_was_not_renewed_in_time_is_told(
    world: World, swarm: Swarm, issued: int, left: int, said: str | None
) -> None:
    world.now = 1e9
    world["d"].issued, world["d"].expires = issued * 86400, left * 86400
    status = seen(world, swarm)
    assert problems(status) == ([("certificate", "d")] if said else [])
    assert said is None or said in status.problems[0].text


@pytest.mark.parametrize(
    ("disk", "said"),
    [
        (Disk("/", 50 * GIB, 2 * GIB), "2.0 GiB (4 %) free at /"),
        (Disk("/var/lib/data", 0, 0, mounted=False), "no disk is mounted at /var/lib/data"),
        (Disk("/", 500 * GIB, 20 * GIB), None),
        (Disk("/", 20 * GIB, 4 * GIB), None),
    ],
)
def test_a_disk_short_of_room_or_not_mounted_is_told(world: World, swarm: Swarm, disk: Disk, said: str | None) -> None:
    world["d"].disks = (disk,)
    status = seen(world, swarm)
    assert problems(status) == ([("disk", "d")] if said else [])
    assert said is None or said in status.problems[0].text


def test_without_asking_hosts_the_managers_list_is_told(world: World, swarm: Swarm) -> None:
    world["d"].on = False
    world.pass_time(20)
    world.calls.clear()
    status = seen(world, swarm, hosts=False)
    assert [node.state for node in status.nodes][3:] == ["down", "ready"]
    assert problems(status) == [("member", "d")]
    assert {name for name, _, _ in world.calls} <= {"a", "b", "c"}
