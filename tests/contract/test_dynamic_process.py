"""The process that Pulumi starts for our resources, spoken to as its engine does, without a CLI and without any node.

Catches what in-process tests cannot: pickling, what the wire does to values, threads, and the shape of errors.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2
from google.protobuf.json_format import MessageToDict, ParseDict
from pulumi.dynamic.dynamic import serialize_provider
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc
from pulumi.runtime.rpc import UNKNOWN

from proxmox_swarm.providers.base import Provider
from proxmox_swarm.providers.claim import ClaimProvider
from proxmox_swarm.providers.cluster import ClusterProvider
from proxmox_swarm.providers.cluster_settings import ClusterSettingsProvider
from proxmox_swarm.providers.first_boot import FirstBootProvider
from proxmox_swarm.providers.host_state import HostStateProvider
from proxmox_swarm.providers.member import MemberProvider
from tests.contract.waiting_provider import SECONDS, WaitingProvider

ROOT = Path(__file__).parents[2]
TOKEN = "lab@pve!canary=00000000-aaaa-bbbb-cccc-000000000000"
DEADLINES = {"boot": 1, "join": 1, "drain": 1, "role": 1}
CALL_TIMEOUT = 60.0

Props = Mapping[str, Any]


class Plugin:
    """A running ``pulumi.dynamic``; one call a method of the resource provider protocol."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.said: list[str] = []
        port = int(process.stdout.readline())
        threading.Thread(target=self._listen, daemon=True).start()
        self._stub = provider_pb2_grpc.ResourceProviderStub(grpc.insecure_channel(f"127.0.0.1:{port}"))
        configure = provider_pb2.ConfigureRequest(
            args=struct({"swarm:proxmox": '{"endpoints": []}'}), acceptSecrets=True
        )
        self._stub.Configure(configure, timeout=CALL_TIMEOUT)

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)

    def check(self, provider: Provider, olds: Props, news: Props) -> Any:
        request = provider_pb2.CheckRequest(urn="u", olds=wired(provider, olds), news=wired(provider, news))
        return self._stub.Check(request, timeout=CALL_TIMEOUT)

    def diff(self, provider: Provider, olds: Props, news: Props) -> tuple[bool, list[str]]:
        request = provider_pb2.DiffRequest(id="i", urn="u", olds=wired(provider, olds), news=wired(provider, news))
        answer = self._stub.Diff(request, timeout=CALL_TIMEOUT)
        assert answer.changes in (answer.DIFF_NONE, answer.DIFF_SOME)
        return answer.changes == answer.DIFF_SOME, list(answer.replaces)

    def create(self, provider: Provider, props: Props) -> tuple[str, dict[str, Any]]:
        request = provider_pb2.CreateRequest(urn="u", properties=wired(provider, props))
        answer = self._stub.Create(request, timeout=CALL_TIMEOUT)
        return answer.id, MessageToDict(answer.properties)

    def read(self, provider: Provider, id_: str, props: Props) -> tuple[str, dict[str, Any], dict[str, Any]]:
        request = provider_pb2.ReadRequest(id=id_, urn="u", properties=wired(provider, props))
        answer = self._stub.Read(request, timeout=CALL_TIMEOUT)
        return answer.id, MessageToDict(answer.properties), MessageToDict(answer.inputs)

    def update(self, provider: Provider, id_: str, olds: Props, news: Props) -> dict[str, Any]:
        request = provider_pb2.UpdateRequest(id=id_, urn="u", olds=wired(provider, olds), news=wired(provider, news))
        return MessageToDict(self._stub.Update(request, timeout=CALL_TIMEOUT).properties)

    def delete(self, provider: Provider, id_: str, props: Props) -> None:
        request = provider_pb2.DeleteRequest(id=id_, urn="u", properties=wired(provider, props))
        self._stub.Delete(request, timeout=CALL_TIMEOUT)


def struct(values: Props) -> struct_pb2.Struct:
    message: struct_pb2.Struct = ParseDict({k: v for k, v in values.items() if v is not None}, struct_pb2.Struct())
    return message


def wired(provider: Provider, props: Props) -> struct_pb2.Struct:
    return struct({**props, "__provider": serialize_provider(provider)} if props else {})


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plugin]:
    home = tmp_path_factory.mktemp("home")
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PROXMOX_", "PULUMI_", "SSH_"))
    }
    environment |= {
        "HOME": str(home),
        "PROXMOX_SWARM_LOCKS": str(home),
        "PROXMOX_VE_API_TOKEN": TOKEN,
        "PULUMI_PROJECT": "swarm",
    }
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "pulumi.dynamic", "127.0.0.1:1"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Plugin(process)
    finally:
        process.terminate()
        process.wait(timeout=10)


# -- what is declared for nodes that nobody answers for ----------------------------------------------------------------

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAKYnp5dx6trJn0rTM0UWOuFSqsr5+X12QS2CeTCtPs6"


def node(number: int) -> dict[str, Any]:
    """A node on this machine's own network, where no SSH server with this key is."""
    return {"node": f"app-{number}", "address": f"127.0.0.{70 + number}", "user": "ops", "host_key": KEY}


MANAGERS = [node(1), node(2), node(3)]

BOOT = {"node": "app-1", "user": "ops", "keys": ["ssh-ed25519 AAAA someone"], "generation": 1, "daemon": {}}
MEMBER = {
    **node(2),
    "managers": MANAGERS,
    "cluster_id": "c1",
    "role": "manager",
    "availability": "active",
    "labels": {"zone": "a"},
    "machine": "4101",
    "hardware": {"cpu": 4, "memory": 8},
    "data_path_port": 4789,
    "deadlines": DEADLINES,
    "proxmox": {"endpoints": ["https://127.0.0.71:8006"], "insecure": False, "vm_id": 4101},
    "verdict": "ok",
}
MEMBER_MADE = {**MEMBER, "node_id": "n2", "engine_id": "e2", "detail": ""}
HOST = {
    **node(2),
    "managers": MANAGERS,
    "machine": "4101",
    "wanted": {
        "daemon": {"default-address-pools": [{"base": "172.20.0.0/16", "size": 24}]},
        "dns_servers": ["10.0.0.1"],
    },
    "deadlines": DEADLINES,
}
CLUSTER = {
    "managers": MANAGERS,
    "init": {"address_pool": ["10.201.0.0/16"], "subnet_size": 24, "data_path_port": 4789},
    "join_timeout": 1,
    "verdict": "ok",
}
CLUSTER_MADE = {**CLUSTER, "cluster_id": "c1"}
SETTINGS = {
    "managers": MANAGERS,
    "cluster_id": "c1",
    "fields": {"task_history": 5, "labels": {}},
    "init": CLUSTER["init"],
}
CLAIM = {
    "project": "swarm",
    "stack": "prod",
    "node": "app-2",
    "vm_ids": [4101],
    "addresses": ["10.0.4.2"],
    "endpoints": ["https://127.0.0.71:8006", "https://127.0.0.72:8006"],
    "insecure": False,
    "owner": "ours",
}
CLAIM_MADE = {**CLAIM, "claim": "c0ffee", "marker": "proxmox-swarm project=swarm stack=prod node=app-2 claim=c0ffee"}

#: Each kind: its provider, what is declared, what was recorded, and an input that is only known later.
KINDS: list[tuple[Provider, Props, Props, str]] = [
    (FirstBootProvider(), BOOT, BOOT, "generation"),
    (ClaimProvider(), CLAIM, CLAIM_MADE, "addresses"),
    (ClusterProvider(), CLUSTER, CLUSTER_MADE, "managers"),
    (ClusterSettingsProvider(), SETTINGS, SETTINGS, "cluster_id"),
    (HostStateProvider(), HOST, HOST, "host_key"),
    (MemberProvider(), MEMBER, MEMBER_MADE, "cluster_id"),
]
each_kind = pytest.mark.parametrize(
    ("provider", "declared", "recorded", "later"), KINDS, ids=[type(kind[0]).__name__ for kind in KINDS]
)


# -- check and diff: what a preview calls ------------------------------------------------------------------------------


@each_kind
def test_check_hands_the_inputs_on(
    plugin: Plugin, provider: Provider, declared: Props, recorded: Props, later: str
) -> None:
    for olds in ({}, declared):
        answer = plugin.check(provider, olds, declared)
        assert not answer.failures
        assert answer.inputs == wired(provider, declared)


@each_kind
def test_check_hands_unknown_inputs_on(
    plugin: Plugin, provider: Provider, declared: Props, recorded: Props, later: str
) -> None:
    news = {**declared, later: UNKNOWN}
    answer = plugin.check(provider, declared, news)
    assert not answer.failures
    assert MessageToDict(answer.inputs)[later] == UNKNOWN


@each_kind
def test_what_was_recorded_is_no_change(
    plugin: Plugin, provider: Provider, declared: Props, recorded: Props, later: str
) -> None:
    assert plugin.diff(provider, recorded, declared) == (False, [])


@each_kind
def test_an_unknown_input_is_no_change(
    plugin: Plugin, provider: Provider, declared: Props, recorded: Props, later: str
) -> None:
    assert plugin.diff(provider, recorded, {**declared, later: UNKNOWN}) == (False, [])


@pytest.mark.parametrize("provider", [MemberProvider(), HostStateProvider()], ids=lambda p: type(p).__name__)
def test_a_machine_that_is_replaced_replaces_what_lives_on_it(plugin: Plugin, provider: Provider) -> None:
    declared = MEMBER if isinstance(provider, MemberProvider) else HOST
    assert plugin.diff(provider, declared, {**declared, "machine": UNKNOWN}) == (True, ["machine"])


def test_an_unknown_inside_a_list_is_no_change(plugin: Plugin) -> None:
    managers = [{**MANAGERS[0], "host_key": UNKNOWN}, *MANAGERS[1:]]
    assert plugin.diff(MemberProvider(), MEMBER_MADE, {**MEMBER, "managers": managers}) == (False, [])


def test_an_edit_is_a_change_in_place(plugin: Plugin) -> None:
    assert plugin.diff(MemberProvider(), MEMBER_MADE, {**MEMBER, "labels": {"zone": "b"}}) == (True, [])


def test_what_only_init_can_set_is_refused_by_check(plugin: Plugin) -> None:
    news = {**SETTINGS, "init": {"address_pool": ["10.9.0.0/16"], "subnet_size": 24, "data_path_port": 4790}}
    failures = plugin.check(ClusterSettingsProvider(), SETTINGS, news).failures
    assert [failure.property for failure in failures] == ["", ""]  # else Pulumi prints all of the value first
    assert "cluster.addressPool is " in failures[0].reason
    assert "cluster.dataPathPort is 4789 and cannot become 4790" in failures[1].reason


# -- a resource from its making to its end -----------------------------------------------------------------------------


def test_a_first_boot_lives_its_whole_life(plugin: Plugin) -> None:
    provider = FirstBootProvider()
    id_, made = plugin.create(provider, BOOT)
    assert id_ == "app-1"
    assert made["host_public_key"].startswith("ssh-ed25519 ")
    assert made["host_private_key"].startswith("-----BEGIN OPENSSH " + "PRIVATE KEY-----\n")
    assert made["user_data"].startswith("#cloud-config\n")
    assert re.fullmatch("[0-9a-f]{12}", made["digest"])
    assert made["__provider"] == serialize_provider(provider)
    assert plugin.read(provider, id_, made)[:2] == (id_, made)
    assert plugin.diff(provider, made, {**BOOT, "keys": ["ssh-ed25519 BBBB another"]}) == (False, [])
    news = {**BOOT, "keys": ["ssh-ed25519 BBBB another"], "generation": 2}
    assert plugin.diff(provider, made, news) == (True, [])
    after = plugin.update(provider, id_, made, news)
    assert after["host_private_key"] == made["host_private_key"]
    assert after["host_public_key"] == made["host_public_key"]
    assert "BBBB" in after["user_data"]
    assert after["digest"] != made["digest"]
    plugin.delete(provider, id_, after)
    assert made["host_private_key"].splitlines()[1] not in "".join(plugin.said)


def test_many_first_boots_at_once_get_keys_of_their_own(plugin: Plugin) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: plugin.create(FirstBootProvider(), {**BOOT, "node": f"n{n}"}), range(8)))
    assert [id_ for id_, _ in made] == [f"n{n}" for n in range(8)]
    assert len({outputs["host_public_key"] for _, outputs in made}) == 8


# -- nobody answers ----------------------------------------------------------------------------------------------------


def test_reading_what_does_not_answer_is_a_verdict_and_never_gone(plugin: Plugin) -> None:
    reads: dict[str, Callable[[], tuple[str, dict[str, Any], dict[str, Any]]]] = {
        "member": lambda: plugin.read(MemberProvider(), "app-2", MEMBER_MADE),
        "cluster": lambda: plugin.read(ClusterProvider(), "c1", CLUSTER_MADE),
        "settings": lambda: plugin.read(ClusterSettingsProvider(), "settings", SETTINGS),
        "host": lambda: plugin.read(HostStateProvider(), "app-2", HOST),
        "claim": lambda: plugin.read(ClaimProvider(), "app-2", CLAIM_MADE),
    }
    with ThreadPoolExecutor() as pool:
        found = dict(zip(reads, pool.map(lambda read: read(), reads.values()), strict=True))
    assert {key: id_ for key, (id_, _, _) in found.items()} == {
        "member": "app-2",
        "cluster": "c1",
        "settings": "settings",
        "host": "app-2",
        "claim": "app-2",
    }
    _, member, inputs = found["member"]
    assert member["verdict"] == inputs["verdict"] == "unreachable"
    assert member["detail"], "why, in words"
    assert_no_secrets(member["detail"])
    recorded = ("role", "availability", "labels", "node_id", "engine_id", "managers", "cluster_id")
    assert {key: member[key] for key in recorded} == {key: MEMBER_MADE[key] for key in recorded}
    assert plugin.diff(MemberProvider(), member, MEMBER) == (True, [])

    _, cluster, _ = found["cluster"]
    assert cluster["verdict"] == "unreachable"
    assert plugin.diff(ClusterProvider(), cluster, CLUSTER) == (True, [])

    for kind, provider, declared in (
        ("settings", ClusterSettingsProvider(), SETTINGS),
        ("host", HostStateProvider(), HOST),
        ("claim", ClaimProvider(), CLAIM),
    ):
        assert plugin.diff(provider, found[kind][1], declared) == (False, []), kind
    assert found["claim"][1]["claim"] == "c0ffee"


FAILING: dict[str, tuple[Provider, Props, list[str]]] = {
    "member": (MemberProvider(), MEMBER, ["app-2 (127.0.0.72)"]),
    "cluster": (ClusterProvider(), CLUSTER, [f"app-{n} (127.0.0.7{n})" for n in (1, 2, 3)]),
    "settings": (ClusterSettingsProvider(), SETTINGS, [f"app-{n} (127.0.0.7{n})" for n in (1, 2, 3)]),
    "host": (HostStateProvider(), HOST, ["app-2 (127.0.0.72)"]),
    "claim": (ClaimProvider(), CLAIM, ["https://127.0.0.71:8006", "https://127.0.0.72:8006"]),
}


def failure(call: Callable[[], object]) -> str:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return str(raised.value.details())  # type: ignore[attr-defined]


def test_a_create_that_fails_says_in_one_line_which_node_at_which_address(plugin: Plugin) -> None:
    with ThreadPoolExecutor() as pool:
        calls = [lambda p=provider, d=declared: plugin.create(p, d) for provider, declared, _ in FAILING.values()]
        texts = dict(zip(FAILING, pool.map(failure, calls), strict=True))
    for kind, (_, _, places) in FAILING.items():
        text = texts[kind]
        assert "\n" not in text.strip(), kind
        assert "Traceback" not in text, kind
        assert all(place in text for place in places), f"{kind}: {text}"
    assert_no_secrets("\n".join(texts.values()) + "".join(plugin.said))


def test_an_update_or_delete_that_fails_says_so_too(plugin: Plugin) -> None:
    unreachable = {**MEMBER_MADE, "verdict": "unreachable"}
    calls = [
        lambda: plugin.update(MemberProvider(), "app-2", unreachable, MEMBER),
        lambda: plugin.delete(MemberProvider(), "app-2", MEMBER_MADE),
        lambda: plugin.update(HostStateProvider(), "app-2", HOST, HOST),
        lambda: plugin.update(ClusterProvider(), "c1", CLUSTER_MADE, CLUSTER),
    ]
    with ThreadPoolExecutor() as pool:
        texts = list(pool.map(failure, calls))
    for text in texts:
        assert "\n" not in text.strip()
        assert "Traceback" not in text
        assert re.search(r"app-\d \(127\.0\.0\.7\d\)", text), text
    assert_no_secrets("\n".join(texts) + "".join(plugin.said))


def assert_no_secrets(text: str) -> None:
    for secret in (TOKEN, TOKEN.partition("=")[2], "PRIVATE KEY", "SWMTKN", "SWMKEY"):
        assert secret not in text


def test_operations_that_wait_do_not_hold_up_the_others(plugin: Plugin) -> None:
    """Pulumi's own four threads would need four rounds for sixteen, and answer nothing else meanwhile."""
    provider = WaitingProvider()
    plugin.check(provider, {}, {"name": "first"})  # the process loads it
    with ThreadPoolExecutor(17) as pool:
        started = time.monotonic()
        waiting = [pool.submit(plugin.create, provider, {"name": str(number)}) for number in range(16)]
        time.sleep(SECONDS / 4)
        plugin.check(provider, {}, {"name": "between"})
        assert time.monotonic() - started < SECONDS
        assert [future.result()[0] for future in waiting] == ["waited"] * 16
        assert time.monotonic() - started < 3 * SECONDS
