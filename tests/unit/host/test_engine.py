"""The engine over SSH: one kept stream, errors told apart, restarts of dockerd survived."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxmox_swarm.host.errors import Unreachable
from proxmox_swarm.swarm.engine import Engine
from proxmox_swarm.swarm.errors import EngineError
from tests.unit.host.ssh_server import FakeDocker, Server

INFO = {"Swarm": {"LocalNodeState": "inactive"}}


@pytest.fixture
def engine(server: Server, docker: FakeDocker) -> Engine:
    docker.answers["GET /info"] = (200, json.dumps(INFO))
    return Engine(server.target())


def test_all_requests_share_a_stream(engine: Engine, docker: FakeDocker) -> None:
    docker.answers |= {"GET /nodes": (200, "[]"), "POST /swarm/join": (200, ""), "GET /swarm": (200, '{"ID": "x"}')}
    for _ in range(3):
        assert engine.info() == INFO
        assert engine.nodes() == []
        assert engine.swarm_inspect() == {"ID": "x"}
        engine.swarm_join({"JoinToken": "SWMTKN-1-a-b"})
    assert docker.connections == 1


def test_bodies_and_queries_arrive_as_the_api_wants_them(engine: Engine, docker: FakeDocker) -> None:
    docker.answers |= {
        "POST /nodes/n/update?version=7": (200, ""),
        "DELETE /nodes/n?force=true": (200, ""),
        "POST /swarm/leave?force=false": (200, ""),
        "POST /swarm/init": (200, '"node-id"\n'),
        "POST /swarm/update?version=3&rotateWorkerToken=true": (200, ""),
        "GET /tasks?filters=%7B%22node%22%3A+%5B%22n%22%5D%7D": (200, "[]"),
    }
    engine.node_update("n", 7, {"Role": "worker"})
    engine.node_remove("n", force=True)
    engine.swarm_leave()
    assert engine.swarm_init({"ListenAddr": "x"}) == "node-id"
    engine.swarm_update(3, {}, rotateWorkerToken=True)
    assert engine.tasks({"node": ["n"]}) == []
    assert docker.requests[0] == ("POST /nodes/n/update?version=7", '{"Role": "worker"}')


def test_many_threads_at_once_do_not_block_each_other(engine: Engine, docker: FakeDocker, server: Server) -> None:
    with ThreadPoolExecutor(12) as threads:
        assert list(threads.map(lambda _: engine.info(), range(36))) == [INFO] * 36
    assert server.most_sessions <= 9 and server.logins == 1


def test_an_http_error_keeps_status_and_text_and_loses_tokens(engine: Engine, docker: FakeDocker) -> None:
    docker.answers["POST /swarm/join"] = (400, '{"message": "invalid join token SWMTKN-1-aaaa-bbbb"}')
    with pytest.raises(EngineError, match=r"POST /swarm/join on n1 \(127.0.0.1\): invalid join token") as caught:
        engine.swarm_join({"JoinToken": "SWMTKN-1-aaaa-bbbb"})
    assert caught.value.status == 400 and "bbbb" not in str(caught.value)


def test_a_restart_of_dockerd_between_requests_is_not_noticed(engine: Engine, docker: FakeDocker) -> None:
    assert engine.info() == INFO
    docker.stop()
    docker.start()
    assert engine.info() == INFO


def test_an_engine_that_is_down_says_what_the_host_said(engine: Engine, docker: FakeDocker, server: Server) -> None:
    server.program("docker", "#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2; exit 1\n")
    with pytest.raises(Unreachable, match=r"GET /info on n1 .*Cannot connect to the Docker daemon.*systemctl status"):
        engine.info()
    server.program("sudo", "#!/bin/sh\necho 'sudo: a password is required' >&2; exit 1\n")
    with pytest.raises(Unreachable, match="a password is required"):
        engine.info()


def test_an_answer_that_breaks_off_is_an_engine_that_does_not_answer(engine: Engine, docker: FakeDocker) -> None:
    docker.missing = 10
    with pytest.raises(Unreachable, match=r"GET /info on n1 "):
        engine.info()
    docker.missing = 0
    assert engine.info() == INFO


def test_a_host_that_is_down_is_told_as_such_and_at_once(engine: Engine, server: Server) -> None:
    engine.info()
    server.stop()
    with pytest.raises(Unreachable, match=r"connecting by SSH on n1 .*Connection refused"):
        engine.info()
    server.start()
    assert engine.info() == INFO


def test_the_local_socket_is_ours_alone(engine: Engine) -> None:
    engine.info()
    path = Path(engine.socket.removeprefix("unix://"))
    assert stat.S_ISSOCK(path.stat().st_mode) and path.parent.stat().st_mode & 0o777 == 0o700
    assert len(str(path)) < 100, "the limit of a socket's name is 108 bytes"
