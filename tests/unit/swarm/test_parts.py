"""Tokens, retries, the lock."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxmox_swarm.host.deadline import Clock, Deadline
from proxmox_swarm.swarm import leadership
from proxmox_swarm.swarm.errors import EngineError, LockBusy, SwarmError
from proxmox_swarm.swarm.lock import cluster_lock, lock_folder
from proxmox_swarm.swarm.parallel import as_answered
from proxmox_swarm.swarm.ports import PortSpec, _in_words
from proxmox_swarm.swarm.retry import Retry, classify, persist
from proxmox_swarm.swarm.tokens import ca_digest36, join_token, redact
from tests.unit.swarm.world import NO_LEADER, SEQUENCE, TIMED_OUT, FakeEngine, World

#: Of the form and length of a real one, and nobody's: 50 digits of a digest, 25 of a secret.
TOKEN = "SWMTKN-1-" + "0123456789" * 5 + "-" + "abcde" * 5


@given(st.text())
def test_the_digest_is_the_hash_in_base_36(pem: str) -> None:
    digest = ca_digest36(pem)
    assert len(digest) == 50 and int(digest, 36) == int(hashlib.sha256(pem.encode()).hexdigest(), 16)


@pytest.mark.parametrize(
    "secret",
    [
        TOKEN,
        TOKEN.replace("SWMTKN-1", "SWMTKN-2-1"),
        "SWMKEY-1-" + "Ab3" * 14 + "x",
        "-----BEGIN OPENSSH " + "PRIVATE KEY-----\nb3BlbnNzaC1rZXkt\n-----END OPENSSH PRIVATE KEY-----",
        "-----BEGIN EC " + "PRIVATE KEY-----\nMHcCAQEEI",
    ],
)
def test_secrets_do_not_survive_in_any_text(secret: str) -> None:
    text = redact(f"docker said: {secret}; more\nsecond line {secret}")
    assert secret not in text and "docker said" in text
    assert not any(part in text for part in secret.split("-")[3:] + secret.splitlines()[1:] if len(part) > 8)
    error = SwarmError(f"joining with {secret}", came_back=f"{secret}\n{secret}", do_now=f"docker swarm join {secret}")
    assert secret not in f"{error} {error!r} {error.args} {vars(error)}"


def test_a_token_that_does_not_fit_the_root_ca_is_not_used(world: World) -> None:
    swarm = world.build(["a"])
    engine = world.engine(world.target("a"))
    assert join_token(engine, "worker", Deadline.after(5, world.clock)) == swarm.token("worker")
    assert join_token(engine, "manager", Deadline.after(5, world.clock)) == swarm.token("manager")

    class Rotating(FakeEngine):
        def swarm_inspect(self) -> dict:
            return {**super().swarm_inspect(), "TLSInfo": {"TrustRoot": "the next pem"}}

    with pytest.raises(SwarmError, match="CA rotation") as caught:
        join_token(Rotating(world, world.target("a")), "worker", Deadline.after(5, world.clock))
    assert "w" * 25 not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (500, SEQUENCE, Retry.REREAD),
        (500, NO_LEADER, Retry.LEADERLESS),
        (500, "rpc error: code = DeadlineExceeded desc = context deadline exceeded", Retry.LEADERLESS),
        (
            503,
            "This node is not a swarm manager. Manager is being prepared or has trouble connecting",
            Retry.LEADERLESS,
        ),
        (503, TIMED_OUT, Retry.JOINING),
        (400, "attempting to demote the last manager of the swarm", Retry.NEVER),
        (404, "node x not found", Retry.NEVER),
        (503, "This node is already part of a swarm.", Retry.NEVER),
    ],
)
def test_errors_fall_into_classes(status: int, text: str, kind: Retry) -> None:
    assert classify(EngineError(status, text)) is kind


def test_only_what_may_be_tried_again_is(world: World) -> None:
    tries: list[float] = []

    def fails(status: int, text: str) -> None:
        tries.append(world.now)
        raise EngineError(status, text)

    for status, text, least, most in ((404, "gone", 1, 1), (500, SEQUENCE, 11, 11), (500, NO_LEADER, 10, 100)):
        tries.clear()
        with pytest.raises(EngineError, match=text[:20]):
            persist(lambda s=status, t=text: fails(s, t), Deadline.after(600, world.clock))
        assert least <= len(tries) <= most
    assert 85 < world.now - tries[0] < 95, "a leader is waited for a minute and a half"


def test_a_lock_is_taken_again_by_its_holder_and_by_nobody_else() -> None:
    seen: list[str] = []

    def other() -> None:
        try:
            with cluster_lock("swarm", "removing e", patience=0.2):
                seen.append("both")
        except LockBusy as error:
            seen.append(str(error))

    with cluster_lock("swarm", "joining d"), cluster_lock("swarm", "promoting d"):
        with cluster_lock("another swarm", "joining x"):
            pass
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(seen) == 1 and f"process {os.getpid()}: joining d" in seen[0] and "removing e" in seen[0]
    with cluster_lock("swarm", "joining e"):
        pass


def test_a_lock_holds_against_other_processes_and_ends_with_them(tmp_path: Path) -> None:
    program = (
        "import time\n"
        "from proxmox_swarm.swarm.lock import cluster_lock\n"
        "with cluster_lock('swarm', 'at work'):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(LockBusy, match=f"process {process.pid}: at work"),
            cluster_lock("swarm", "mine", patience=0.1),
        ):
            pass
        process.kill()
        start = time.monotonic()
        with cluster_lock("swarm", "mine", patience=5):
            assert time.monotonic() - start < 2
    finally:
        process.kill()
        process.wait()
    assert lock_folder().stat().st_mode & 0o077 == 0


def test_a_lock_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    folder = lock_folder()
    folder.chmod(0o777)
    with pytest.raises(LockBusy, match="open to others"):
        lock_folder()


def test_polling_looks_once_more_after_the_deadline() -> None:
    now = [0.0]
    clock = Clock(lambda: now[0], lambda seconds: now.__setitem__(0, now[0] + seconds))
    looks: list[float] = []
    assert Deadline.after(1, clock).poll(lambda: looks.append(now[0]), 0.4) is None
    assert looks == pytest.approx([0, 0.4, 0.8, 1.0])
    assert Deadline.after(0, clock).poll(lambda: "yes") == "yes"


@pytest.mark.parametrize("head_start", [0.0, 5.0])
def test_a_question_that_fails_is_not_waited_for_forever(head_start: float) -> None:
    def ask(name: str) -> str:
        raise LookupError(name)

    with pytest.raises(LookupError, match="a"):
        list(as_answered(ask, ["a"], head_start=head_start))


def test_closed_ports_are_named_with_their_direction(world: World) -> None:
    d, a = world.target("d"), world.target("a")
    spec = PortSpec(manager=True, data_path_port=7789)
    assert (spec.tcp, spec.udp) == ((2377, 7946), (7946, 7789))
    outward = {
        "closed": [["10.0.0.1", 2377, "no answer"], ["10.0.0.2", 7946, "Connection refused"]],
        "busy": [["udp", 7789, "Address already in use"], ["tcp", 7946, "Address already in use"]],
    }
    inward = {"closed": [["tcp", 7946, "no answer"], ["udp", 7789, "no answer"], ["udp", 7946, "no answer"]]}
    assert _in_words(d, a, spec, inward, outward) == [
        "2377/tcp d → a: no answer",
        "7946/tcp d → 10.0.0.2: Connection refused",
        "7946/tcp on d itself: Address already in use",
        "7946/udp a → d: no answer",
    ]
    elsewhere = PortSpec(manager=False, data_path_port=7789, data_path="10.0.9.4")
    assert _in_words(d, a, elsewhere, inward, {"closed": [], "busy": []})[1] == "7789/udp a → d at 10.0.9.4: no answer"


def test_who_shares_a_lock_excludes_only_who_wants_it_alone() -> None:
    def other(shared: bool) -> str:
        try:
            with cluster_lock("swarm", "the other", patience=0.2, shared=shared):
                return "held"
        except LockBusy as error:
            return error.came_back

    with ThreadPoolExecutor(1) as thread:
        with cluster_lock("swarm", "joining d", shared=True), cluster_lock("swarm", "joining d", shared=True):
            assert thread.submit(other, True).result() == "held"
            assert "several processes, on workers" in thread.submit(other, False).result()
            with pytest.raises(RuntimeError, match="shared by this thread"), cluster_lock("swarm", "alone"):
                pass
        with cluster_lock("swarm", "demoting b"), cluster_lock("swarm", "joining d", shared=True):
            assert "demoting b" in thread.submit(other, True).result()
        assert thread.submit(other, False).result() == "held"


@pytest.mark.parametrize(("leaders", "seconds"), [("aaaa", 0), ("bbbbbbbbbbbbbbbb", 5), ("bbcbcccccccccccccccccc", 7)])
def test_after_a_change_of_leader_it_is_waited_until_the_new_one_stays(leaders: str, seconds: float) -> None:
    now = [0.0]
    clock = Clock(lambda: now[0], lambda seconds: now.__setitem__(0, now[0] + seconds))
    seen = iter(leaders)

    class Engine:
        def nodes(self) -> list[dict[str, object]]:
            return [{"ID": next(seen), "ManagerStatus": {"Leader": True}}, {"ID": "d"}]

    leadership.settle(Engine(), "a", clock)  # type: ignore[arg-type]
    assert now[0] == seconds
