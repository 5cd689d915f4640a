"""Whether services run as they should, judged from tasks as engines list them (shapes and texts as 26.1.5 gave them)."""

from __future__ import annotations

from typing import Any

import pytest

from proxmox_swarm.swarm.services import ServiceStatus, judge

REJECTED = {"State": "rejected", "Message": "preparing", "Err": "No such image: nowhere:1"}


def node(name: str, state: str = "ready", availability: str = "active", **labels: str) -> dict[str, Any]:
    return {
        "ID": name,
        "Spec": {"Role": "worker", "Availability": availability, "Labels": labels},
        "Description": {"Hostname": name},
        "Status": {"State": state},
    }


NODES = [node("a"), node("b"), node("c")]
_serial = iter(range(100000))


def service(mode: dict[str, Any], **spec: Any) -> dict[str, Any]:
    more = {key: spec.pop(key) for key in ("JobStatus", "UpdateStatus") if key in spec}
    return {"ID": "s", "Spec": {"Name": "web", "Mode": mode, "TaskTemplate": spec}, **more}


def task(
    state: str | dict[str, Any], on: str = "", slot: int = 0, desired: str = "running", **more: Any
) -> dict[str, Any]:
    status = dict(state) if isinstance(state, dict) else {"State": state}
    moment = f"2026-11-21T12:{next(_serial):06d}"
    made = {"ServiceID": "s", "DesiredState": desired, "CreatedAt": moment, "Status": {"Timestamp": moment, **status}}
    return {**made, **({"NodeID": on} if on else {}), **({"Slot": slot} if slot else {}), **more}


def judged(found: dict[str, Any], *tasks: dict[str, Any], nodes: list[dict[str, Any]] = NODES) -> ServiceStatus:
    (status,) = judge([found], tasks, nodes)
    return status


def test_as_many_running_as_wanted_is_whole() -> None:
    status = judged(service({"Replicated": {"Replicas": 2}}), task("running", "a", 1), task("running", "b", 2))
    assert (status.running, status.wanted, status.whole, status.reason) == (2, 2, True, "")


def test_an_update_that_starts_first_counts_a_slot_once() -> None:
    tasks = [task("running", "a", 1), task("running", "b", 1), task("running", "b", 2)]
    assert judged(service({"Replicated": {"Replicas": 2}}), *tasks).running == 2


def test_tasks_on_a_node_that_is_down_do_not_run_whatever_their_record_says() -> None:
    nodes = [node("a", "down"), node("b")]
    status = judged(
        service({"Replicated": {"Replicas": 2}}), task("running", "a", 1), task("running", "b", 2), nodes=nodes
    )
    assert (status.running, status.whole, status.reason) == (1, False, "a is down")


def test_the_newest_error_is_quoted_with_where_and_when() -> None:
    tasks = [
        task({"State": "failed", "Err": "task: non-zero exit (1)"}, "a", 1, "shutdown"),
        task(REJECTED, "b", 1, "shutdown"),
        task("preparing", "c", 1),
    ]
    status = judged(service({"Replicated": {"Replicas": 1}}), *tasks)
    assert status.reason.startswith("rejected on b at 2026-11-21 12:")
    assert status.reason.endswith('UTC: "No such image: nowhere:1"')
    assert not status.whole


def test_errors_of_slots_that_run_again_are_past() -> None:
    tasks = [task(REJECTED, "a", 1, "shutdown"), task("running", "a", 1), task("preparing", "b", 2)]
    assert judged(service({"Replicated": {"Replicas": 2}}), *tasks).reason == "1 preparing"


def test_a_task_without_a_node_says_why() -> None:
    why = "no suitable node (scheduling constraints not satisfied on 3 nodes)"
    status = judged(service({"Replicated": {"Replicas": 1}}), task({"State": "pending", "Err": why}, slot=1))
    assert status.reason.startswith("pending at") and status.reason.endswith(f'"{why}"')


def test_no_replicas_wanted_is_whole() -> None:
    assert judged(service({"Replicated": {"Replicas": 0}})).whole


def test_a_task_that_ended_well_and_is_not_to_start_again_is_done() -> None:
    once = {"Replicated": {"Replicas": 1}}
    ended = task("complete", "a", 1, "shutdown")
    assert judged(service(once, RestartPolicy={"Condition": "on-failure"}), ended).whole
    assert not judged(service(once), ended).whole


def test_an_update_that_stands_still_is_told_even_where_all_run() -> None:
    paused = {"State": "paused", "Message": "update paused due to failure or early termination of task x"}
    status = judged(service({"Replicated": {"Replicas": 1}}, UpdateStatus=paused), task("running", "a", 1))
    assert not status.whole
    assert "update paused due to failure" in status.reason


def test_a_global_service_wants_a_task_on_each_node_that_the_swarm_made_one_for() -> None:
    nodes = [*NODES, node("d", "down"), node("e", availability="drain")]
    tasks = [
        *(task("running", name) for name in "abc"),
        task("running", "d", desired="shutdown"),
        task("shutdown", "e", desired="shutdown"),
    ]
    status = judged(service({"Global": {}}), *tasks, nodes=nodes)
    assert (status.running, status.wanted, status.whole) == (3, 3, True)


def test_a_global_task_that_failed_and_is_not_started_again_is_missed() -> None:
    never = service({"Global": {}}, RestartPolicy={"Condition": "none"})
    tasks = [
        task("running", "a"),
        task("running", "b"),
        task({"State": "failed", "Err": "exit 1"}, "c", desired="shutdown"),
    ]
    status = judged(never, *tasks)
    assert (status.running, status.wanted, status.whole) == (2, 3, False)
    assert "failed on c" in status.reason


JOB = {"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 3}}


@pytest.mark.parametrize(
    ("tasks", "completed", "whole"),
    [
        ([("complete", 1), ("complete", 2), ("complete", 3)], 3, True),
        ([("complete", 1), ("running", 2), ("preparing", 3)], 1, True),
        ([("complete", 1), ("failed", 2), ("complete", 2), ("running", 3)], 2, True),
        ([("complete", 1), ("failed", 2), ("running", 2)], 1, False),
        ([("failed", 1)], 0, False),
    ],
)
def test_a_job_is_whole_while_nothing_failed_that_was_not_completed(
    tasks: list[tuple[str, int]], completed: int, whole: bool
) -> None:
    made = [task(state, "a", slot, "complete", JobIteration={}) for state, slot in tasks]
    status = judged(service(JOB, JobStatus={"JobIteration": {}}), *made)
    assert (status.completed, status.wanted, status.whole) == (completed, 3, whole)
    assert status.progress == f"{completed} of 3 completed"
    assert bool(status.reason) is not whole


def test_earlier_runs_of_a_job_do_not_count() -> None:
    old = [task("complete", "a", slot, "complete", JobIteration={}) for slot in (1, 2, 3)]
    status = judged(service(JOB, JobStatus={"JobIteration": {"Index": 40}}), *old)
    assert (status.completed, status.whole) == (0, True)


def test_a_job_on_every_node_is_done_when_each_has_completed_it() -> None:
    tasks = [
        task("complete", "a", desired="complete"),
        task({"State": "failed", "Err": "exit 1"}, "b", desired="complete"),
    ]
    status = judged(service({"GlobalJob": {}}, JobStatus={"JobIteration": {}}), *tasks)
    assert (status.completed, status.wanted, status.whole) == (1, 2, False)
    assert "failed on b" in status.reason


def test_a_quoted_error_is_one_line_of_bounded_length() -> None:
    long = task({"State": "failed", "Err": "first\nsecond " + "x" * 1000}, "a", 1, "shutdown")
    reason = judged(service({"Replicated": {"Replicas": 1}}), long).reason
    assert "first second xxx" in reason
    assert "\n" not in reason
    assert len(reason) < 330
