"""``recover`` and ``restore``: by which managers they judge, that a person is asked and when, and the files they keep."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from proxmox_swarm.cli import backup as backup_command
from proxmox_swarm.cli import main
from proxmox_swarm.cli import recovery as module
from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.cli.recovery import Choices
from proxmox_swarm.host.errors import HostError
from proxmox_swarm.swarm import lock
from proxmox_swarm.swarm.backup_file import read_backup
from proxmox_swarm.swarm.errors import NoManager, RecoveryRefused, SwarmError
from tests.unit.cli.lost_stack import FIRST, MANAGERS, ROOT, SECOND, THIRD, VM_ID, Lost, lost_stack


@pytest.fixture
def lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lost:
    return lost_stack(tmp_path, monkeypatch)


# A person is asked


def test_a_person_says_yes(lost: Lost) -> None:
    lost.recover()
    assert lost.asked == [
        f"This cannot be taken back. Type {lost.answer}, the beginning of the swarm's id, to go on",
    ]
    assert lost.raft == [THIRD]
    assert [line.split()[0] for line in lost.said] == [
        *MANAGERS,
        *["survivor", "What", "backup", "forced", "verified", "nodes", "next:"],
    ]
    assert lost.said[0] == f"{FIRST}  192.168.4.30  does not answer: no answer; machine stopped"
    assert read_backup(lost.file)[1] == f"state of {THIRD}".encode()


@pytest.mark.parametrize("answer", ["", "no", "yes", "abc"])
def test_a_person_says_anything_else(lost: Lost, answer: str) -> None:
    lost.answer = answer
    with pytest.raises(CommandError, match="not confirmed: nothing was changed"):
        lost.recover()
    assert lost.disks.log == [] and not lost.file.exists()
    assert len(lost.raft) == 3


def test_yes_by_option_asks_nobody_and_says_the_same(lost: Lost) -> None:
    lost.recover(yes=True)
    assert lost.asked == []
    assert lost.raft == [THIRD]
    assert [line.split()[0] for line in lost.said].count("survivor") == 1
    assert lost.said[0].startswith(FIRST)


def test_without_a_terminal_what_was_found_is_told_and_nothing_done(
    lost: Lost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", open("/dev/null"))  # noqa: SIM115, PTH123
    with pytest.raises(CommandError, match="nobody is here to be asked: --yes, if you mean it"):
        module.recover("prod", ROOT, lost.file, Choices(), lost.said.append, main.ask)
    assert f"survivor  {THIRD}" in lost.text
    assert lost.disks.log == []


def test_at_a_terminal_the_question_is_put_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "prompt", lambda question: f"answer to {question}")
    assert main.ask("this") == "answer to this"


def test_the_cluster_s_lock_is_free_while_a_person_is_asked(lost: Lost) -> None:
    taken: list[str] = []

    def other() -> None:
        with lock.cluster_lock(lost.swarm.id, "another operation", patience=0):
            taken.append("free")

    def at_the_same_time() -> None:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    lost.while_asking = at_the_same_time
    lost.recover()
    assert taken == ["free"]


def test_what_came_back_while_a_person_was_asked_is_seen(lost: Lost) -> None:
    def back() -> None:
        lost.world[FIRST].on = lost.world[SECOND].on = True

    lost.while_asking = back
    with pytest.raises(RecoveryRefused, match="has a leader and takes decisions"):
        lost.recover()
    assert lost.disks.log == []


def test_nobody_is_forced_whom_the_person_was_not_asked_about(lost: Lost) -> None:
    lost.world[SECOND].on, lost.world[SECOND].engine_up = True, False
    lost.world.quorate = lambda _: False
    lost.disks.positions = {THIRD: (60, 2, 60)}

    def newer() -> None:
        lost.disks.positions[SECOND] = (90, 3, 90)

    lost.while_asking = newer
    with pytest.raises(CommandError, match=rf"changed while you were asked: now {SECOND} .* Nothing was changed"):
        lost.recover()
    assert lost.disks.log == []


def test_a_recovery_that_was_forced_before_is_finished_without_asking(lost: Lost) -> None:
    lost.disks.fail_at = "finish"
    with pytest.raises(HostError):
        lost.recover()
    lost.disks.fail_at = ""
    lost.asked.clear()
    lost.recover()
    assert lost.asked == []
    assert "was forced before" in lost.text and not lost.disks.recovering


# By whom it is judged


@pytest.mark.parametrize("engine_up", [True, False])
@pytest.mark.parametrize("edit", ["taken out", "demoted"])
def test_managers_edited_away_since_the_last_up_count(lost: Lost, edit: str, engine_up: bool) -> None:
    """They run unseen, with a quorum of their own: a force would split the swarm."""
    for name in (FIRST, SECOND):
        lost.declare(name, **({} if edit == "taken out" else {"role": "worker"}))
        lost.power[VM_ID[name]] = "running"
    lost.world[THIRD].engine_up = engine_up
    with pytest.raises(
        RecoveryRefused, match=rf"not shown to be off: {FIRST} .*no answer; running\); {SECOND} .*running\)"
    ):
        lost.recover(yes=True)
    assert lost.disks.log == []


def test_managers_edited_away_that_are_off_are_no_obstacle(lost: Lost) -> None:
    lost.declare(FIRST)
    lost.declare(SECOND, role="worker")
    lost.recover(yes=True)
    assert lost.raft == [THIRD]


def test_a_survivor_that_was_edited_away_is_still_the_survivor(lost: Lost) -> None:
    lost.declare(THIRD)
    lost.recover(yes=True)
    assert lost.raft == [THIRD]


def test_where_only_its_declaration_tells_its_address_for_overlay_traffic_it_has_to_be_declared(lost: Lost) -> None:
    lost.settings = replace(lost.settings, cluster=replace(lost.settings.cluster, data_path="storage"))
    lost.declare(THIRD)
    with pytest.raises(CommandError, match=rf"{THIRD} .*put the node back in Pulumi.prod.yaml"):
        lost.recover()
    assert lost.disks.log == [] and lost.asked == []


def test_an_edited_machine_id_does_not_hide_the_machine_that_runs(lost: Lost) -> None:
    lost.declare(FIRST, vm_id=9100)
    lost.power[4100] = "running"
    with pytest.raises(RecoveryRefused, match=rf"not shown to be off: {FIRST} .*running"):
        lost.recover(yes=True)
    lost.power[4100], lost.power[9100] = "stopped", "running"
    with pytest.raises(RecoveryRefused, match=rf"not shown to be off: {FIRST} .*running"):
        lost.recover(yes=True)
    lost.power[9100] = "absent"
    lost.recover(yes=True)
    assert lost.raft == [THIRD]


def test_a_manager_whose_address_was_edited_is_asked_at_both(lost: Lost) -> None:
    nic = lost.settings.nodes[FIRST].nics[0]
    lost.declare(FIRST, nics=(replace(nic, address="192.168.4.99"),))
    lost.declare(THIRD, nics=(replace(nic, address="192.168.4.98"),))
    lost.power[VM_ID[FIRST]] = lost.power[VM_ID[THIRD]] = "running"
    with pytest.raises(RecoveryRefused) as refused:
        lost.recover(yes=True)
    assert f"{FIRST} (192.168.4.99)" in str(refused.value) and f"{FIRST} (192.168.4.30)" in str(refused.value)
    assert f"{THIRD} (" not in str(refused.value), "it answers where it was brought up"
    lost.world[FIRST].on = True
    with pytest.raises(RecoveryRefused, match="has a leader"):
        lost.recover(yes=True)
    assert lost.disks.log == []


def test_a_declared_manager_whose_machine_runs_and_that_was_never_brought_up_is_not_shown_to_be_off(lost: Lost) -> None:
    """An `up` that was killed may have joined it."""
    lost.declare("docker-infra-2", role="manager")
    del lost.keys["docker-infra-2"]
    lost.power[4201] = "running"
    with pytest.raises(RecoveryRefused, match=r"not shown to be off: docker-infra-2 .*no host key of it.*running"):
        lost.recover(yes=True)
    lost.power[4201] = "absent"
    lost.recover(yes=True)
    assert lost.raft == [THIRD]


# The files


def test_a_recovery_run_again_keeps_the_first_backup_and_names_the_second(lost: Lost) -> None:
    lost.disks.fail_at = "force"
    with pytest.raises(SwarmError):
        lost.recover(yes=True)
    first = lost.file.read_bytes()
    lost.disks.fail_at = ""
    lost.disks.recovering = {THIRD}
    lost.recover(yes=True)
    assert lost.file.read_bytes() == first
    assert f"backup    {lost.file}.2: what {THIRD} has now" in lost.text
    assert read_backup(Path(f"{lost.file}.2"))[0].node == THIRD


def test_a_backup_onto_a_file_that_is_there_is_refused_before_anything_is_stopped(lost: Lost) -> None:
    lost.file.write_text("the only one")
    with pytest.raises(CommandError, match=rf"{lost.file} is there already.*Nothing was done"):
        backup_command.take_backup("prod", ROOT, lost.file, "", stop_decisions=False, say=lost.said.append)
    assert lost.file.read_text() == "the only one" and lost.disks.log == []


# Restoring


@pytest.fixture
def kept(lost: Lost) -> Lost:
    lost.all_but_a_backup()
    return lost


def test_a_backup_is_put_back_when_a_person_says_yes(kept: Lost) -> None:
    kept.restore()
    assert len(kept.asked) == 1
    assert kept.disks.log == [("put", THIRD), ("force", THIRD), ("finish", THIRD)]
    assert kept.text.count("backup    of 2026-01-01") == 1
    assert f"restored  {THIRD} is the leader" in kept.text


def test_a_backup_is_not_put_back_when_a_person_does_not(kept: Lost) -> None:
    kept.answer = "no"
    with pytest.raises(CommandError, match="not confirmed"):
        kept.restore()
    assert kept.disks.log == []


def test_no_backup_is_put_back_while_managers_edited_away_may_run(kept: Lost) -> None:
    kept.declare(FIRST)
    kept.power[VM_ID[FIRST]] = "running"
    with pytest.raises(RecoveryRefused, match=rf"not shown to be off: {FIRST} "):
        kept.restore(yes=True)
    assert kept.disks.log == []


def test_without_any_state_recover_names_the_backup(kept: Lost) -> None:
    with pytest.raises(NoManager, match=r"No manager has its raft state. `proxmox-swarm restore`"):
        kept.recover(yes=True)
