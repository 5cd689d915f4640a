from __future__ import annotations

import datetime
import http.server
import pathlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from proxmoxer.core import AuthenticationError, ResourceException

from proxmox_swarm.proxmox import client as module
from proxmox_swarm.proxmox import ownership
from proxmox_swarm.proxmox.client import Client, Guest, ProxmoxError
from proxmox_swarm.proxmox.endpoint import first_answering
from proxmox_swarm.proxmox.hosts import absent

VM = Guest(4100, "docker-app-1", "pve01", "qemu", "running", ())
BASE = "nodes/pve01/qemu/4100"
TASK = "nodes/pve01/tasks/UPID:1/status"


class Path:
    """An API path as proxmoxer builds it: by attributes and calls."""

    def __init__(self, api: Api, words: tuple[str, ...] = ()) -> None:
        self._api, self._words = api, words

    def __getattr__(self, word: str) -> Path:
        return Path(self._api, (*self._words, word))

    def __call__(self, word: object) -> Path:
        return Path(self._api, (*self._words, str(word)))

    def get(self, **parameters: Any) -> Any:
        return self._api.answer("GET", "/".join(self._words), parameters)

    def post(self, **parameters: Any) -> Any:
        return self._api.answer("POST", "/".join(self._words), parameters)

    def put(self, **parameters: Any) -> Any:
        return self._api.answer("PUT", "/".join(self._words), parameters)

    def delete(self, **parameters: Any) -> Any:
        return self._api.answer("DELETE", "/".join(self._words), parameters)


class Api:
    """A Proxmox VE API: answers by path, the last of several stays; and what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Any]] = {"GET version": [{"version": "9.1"}], f"GET {TASK}": [ended("OK")]}
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def has(self, call: str, *answers: Any) -> None:
        self.answers[call] = list(answers)

    def answer(self, method: str, path: str, parameters: dict[str, Any]) -> Any:
        call = f"{method} {path}"
        self.asked.append((call, parameters))
        answers = self.answers[call]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(found, Exception):
            raise found
        return found

    def changes(self) -> list[tuple[str, dict[str, Any]]]:
        return [(call, parameters) for call, parameters in self.asked if not call.startswith("GET")]


def ended(status: str) -> dict[str, str]:
    return {"status": "stopped", "exitstatus": status}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    fake = Api()
    monkeypatch.setattr(module, "_login", lambda *_: Path(fake))
    monkeypatch.setattr(module, "TASK_POLL", 0.001)
    return fake


@pytest.fixture
def proxmox(api: Api) -> Client:
    return Client(["https://pve01:8006"])


# -- endpoints ---------------------------------------------------------------------------------------------------------


def test_the_first_endpoint_that_answers_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api()

    def login(endpoint: str, _: bool) -> Path:
        if "pve03" not in endpoint:
            raise AuthenticationError(f"no way at {endpoint}")
        return Path(api)

    monkeypatch.setattr(module, "_login", login)
    found = Client(["https://pve01:8006", "https://pve02:8006", "https://pve03:8006"])
    assert (found.endpoint, found.version) == ("https://pve03:8006", "9.1")


def test_when_none_answers_each_is_named_with_its_reason_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "00000000-aaaa-bbbb-cccc-000000000000"
    monkeypatch.setenv("PROXMOX_VE_API_TOKEN", f"root@pam!t={secret}")
    with pytest.raises(ProxmoxError) as failed:
        Client(["https://127.0.0.1:1", "https://127.0.0.2:1"])
    text = str(failed.value)
    assert text.startswith(
        "no Proxmox VE endpoint answered: "
        "https://127.0.0.1:1: Failed to establish a new connection: [Errno 111] Connection refused; "
        "https://127.0.0.2:1: Failed to establish a new connection: [Errno 111] Connection refused. Check "
    )
    assert "\n" not in text
    assert secret not in text


def test_without_credentials_it_says_which_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROXMOX_VE_API_TOKEN", "PROXMOX_VE_USERNAME", "PROXMOX_VE_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ProxmoxError, match="no credentials for Proxmox VE: set PROXMOX_VE_API_TOKEN"):
        Client(["https://127.0.0.1:1"])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ResourceException(401, "Unauthorized", "invalid token"), "401 Unauthorized: invalid token"),
        (requests.ReadTimeout("HTTPSConnectionPool(host='a', port=1): Read timed out."), "Read timed out."),
        (requests.ConnectionError(), "ConnectionError"),
        (requests.ConnectionError("two\n lines"), "two lines"),
    ],
)
def test_reasons_are_short(error: Exception, reason: str) -> None:
    assert module._reason(error).startswith(reason)


class _Unauthorised(http.server.BaseHTTPRequestHandler):
    """As the API answers who brings no credentials."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def https(tmp_path: pathlib.Path) -> Iterator[str]:
    """An endpoint with a certificate that nobody trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pve")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "both.pem").write_bytes(certificate + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    with http.server.HTTPServer(("127.0.0.1", 0), _Unauthorised) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_first_endpoint_that_answers_is_taken(https: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # an open port and nobody behind it
        dead = f"https://127.0.0.1:{silent.getsockname()[1]}"
        assert first_answering(["https://127.0.0.1:1", dead, https, "https://127.0.0.2:1"]) == https
        assert first_answering([dead, "https://127.0.0.2:1"]) == dead


# -- guests ------------------------------------------------------------------------------------------------------------


def test_guests_are_listed_with_what_may_be_missing(api: Api, proxmox: Client) -> None:
    api.has(
        "GET cluster/resources",
        [
            {"vmid": 4100, "name": "a", "node": "pve01", "type": "qemu", "status": "running", "tags": "swarm-lab;x"},
            {"vmid": 200, "node": "pve02", "type": "lxc"},
        ],
    )
    first, second = proxmox.guests()
    assert first == Guest(4100, "a", "pve01", "qemu", "running", ("swarm-lab", "x"))
    assert (str(second), second.status, second.tags) == ("container 200 on pve02", "unknown", ())


def test_a_container_is_read_where_containers_are(api: Api, proxmox: Client) -> None:
    api.has("GET nodes/pve02/lxc/200/config", {"description": "c"})
    assert proxmox.config(Guest(200, "", "pve02", "lxc", "", ())) == {"description": "c"}


def test_a_call_that_fails_says_what_was_tried_and_where(api: Api, proxmox: Client) -> None:
    api.has(f"GET {BASE}/config", ResourceException(500, "Internal Server Error", "no such VM"))
    with pytest.raises(ProxmoxError) as failed:
        proxmox.config(VM)
    expected = "could not read VM 4100 'docker-app-1' on pve01 at https://pve01:8006: 500 Internal Server Error"
    assert str(failed.value).startswith(expected)


@pytest.mark.parametrize(("granted", "enough"), [({"/vms": {"VM.Audit": 1}}, True), ({"/vms": {}}, False), ({}, False)])
def test_credentials_that_do_not_see_every_guest_are_refused(
    api: Api, proxmox: Client, granted: dict[str, Any], enough: bool
) -> None:
    api.has("GET access/permissions", granted)
    if enough:
        proxmox.require_sight_of_all()
    else:
        with pytest.raises(ProxmoxError, match=r"lack the right VM\.Audit"):
            proxmox.require_sight_of_all()


# -- power -------------------------------------------------------------------------------------------------------------


def running(api: Api, status: str = "running") -> None:
    api.has(f"GET {BASE}/status/current", {"status": status})
    for action in ("start", "stop", "shutdown"):
        api.has(f"POST {BASE}/status/{action}", "UPID:1")
    api.has(f"DELETE {BASE}", "UPID:1")


def test_a_power_cycle_is_off_and_on_and_not_a_reboot(api: Api, proxmox: Client) -> None:
    running(api)
    proxmox.power_cycle(VM, timeout=300)
    assert api.changes() == [
        (f"POST {BASE}/status/shutdown", {"forceStop": 1, "timeout": 150}),
        (f"POST {BASE}/status/start", {}),
    ]


def test_a_machine_that_is_off_is_only_started(api: Api, proxmox: Client) -> None:
    running(api, "stopped")
    proxmox.power_cycle(VM, timeout=300)
    assert api.changes() == [(f"POST {BASE}/status/start", {})]


def test_the_task_is_followed_to_its_end(api: Api, proxmox: Client) -> None:
    running(api)
    api.has(f"GET {TASK}", {"status": "running"}, {"status": "running"}, ended("WARNINGS: 1"))
    proxmox.power(VM, "start", timeout=10)
    assert [call for call, _ in api.asked].count(f"GET {TASK}") == 3


def test_a_task_that_fails_is_an_error_with_its_words(api: Api, proxmox: Client) -> None:
    running(api)
    api.has(f"GET {TASK}", ended("can't lock file '/var/lock/qemu-server/lock-4100.conf' - got timeout"))
    with pytest.raises(ProxmoxError, match=r"start of VM 4100 'docker-app-1' on pve01 failed: can't lock file"):
        proxmox.power(VM, "start", timeout=10)


def test_a_task_that_does_not_end_is_not_waited_for_for_ever(api: Api, proxmox: Client) -> None:
    running(api)
    api.has(f"GET {TASK}", {"status": "running"})
    with pytest.raises(ProxmoxError, match="task UPID:1 still runs after 0 s"):
        proxmox.power(VM, "start", timeout=0.01)


@pytest.mark.parametrize(("status", "stops"), [("running", 1), ("stopped", 0)])
def test_a_machine_is_stopped_and_removed_with_its_own_disks(
    api: Api, proxmox: Client, status: str, stops: int
) -> None:
    running(api, status)
    proxmox.destroy(VM, timeout=10)
    *before, last = api.changes()
    assert [call for call, _ in before] == [f"POST {BASE}/status/stop"] * stops
    assert last == (f"DELETE {BASE}", {"purge": 1, "destroy-unreferenced-disks": 1})


def test_a_lock_is_waited_for(api: Api, proxmox: Client) -> None:
    api.has(f"GET {BASE}/config", {"lock": "create"}, {"lock": "create"}, {})
    proxmox.wait_unlocked(VM, timeout=10)
    api.has(f"GET {BASE}/config", {"lock": "create"})
    with pytest.raises(ProxmoxError, match=r"still locked \(create\) after 0 s.*`qm unlock 4100`"):
        proxmox.wait_unlocked(VM, timeout=0.01)


# -- the inventory -----------------------------------------------------------------------------------------------------


def listed(api: Api) -> Callable[[], int]:
    """A cluster of two guests, one of which cannot be read; returns how often it was listed."""
    guests = [{"vmid": i, "name": f"g{i}", "node": "pve01", "type": "qemu"} for i in (1, 2)]
    api.has("GET cluster/resources", guests)
    api.has("GET access/permissions", {"/vms": {"VM.Audit": 1}})
    api.has("GET nodes", [{"node": "pve01", "status": "online"}])
    api.has("GET nodes/pve01/version", {"version": "9.1"})
    api.has("GET nodes/pve01/qemu/1/config", {"description": "one"})
    api.has("GET nodes/pve01/qemu/2/config", ResourceException(595, "No route to host", "pve01"))
    return lambda: [call for call, _ in api.asked].count("GET cluster/resources")


def test_claims_made_at_the_same_moment_share_one_reading(
    api: Api, proxmox: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "_cache", {})
    count = listed(api)
    found = ownership.inventory(proxmox)
    assert ownership.inventory(proxmox) is found
    assert count() == 1
    assert found.configs == {1: {"description": "one"}, 2: {}}
    monkeypatch.setattr(ownership, "SNAPSHOT_SECONDS", 0.0)
    ownership.inventory(proxmox)
    assert count() == 2


def test_guests_of_a_host_that_is_off_are_not_asked_for(
    api: Api, proxmox: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "_cache", {})
    listed(api)
    api.has("GET nodes", [{"node": "pve01", "status": "offline"}])
    found = ownership.inventory(proxmox)
    assert ([guest.vm_id for guest in found.guests], found.configs) == ([1, 2], {})
    assert found.away == {"pve01": "is offline"}


def test_hosts_that_nothing_can_be_asked_of_are_told_apart(api: Api, proxmox: Client) -> None:
    states = {"pve01": "online", "pve02": "offline", "pve03": "unknown", "pve04": "online", "pve05": "online"}
    api.has("GET nodes", [{"node": name, "status": state} for name, state in states.items()])
    api.has("GET nodes/pve01/version", {"version": "9.1"})
    api.has("GET nodes/pve03/version", ResourceException(595, "No route to host", ""))
    api.has("GET nodes/pve04/version", requests.ReadTimeout("Read timed out."))
    api.has("GET nodes/pve05/version", ResourceException(403, "Forbidden", "Permission check failed"))
    assert absent(proxmox, ["pve01", "pve02", "pve03", "pve04", "pve05", "pve09"]) == {
        "pve02": "is offline",
        "pve03": "does not answer (status 595)",
        "pve04": "does not answer (Read timed out.)",
        "pve09": "is no member of the Proxmox VE cluster",
    }
    api.asked.clear()
    assert absent(proxmox, []) == {} and api.asked == []


def test_a_task_is_followed_over_an_answer_that_did_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task goes on whatever one poll was like; only the deadline ends the wait."""
    lost = ProxmoxError("timed out")
    answers: list[object] = [lost, {"status": "running"}, lost, {"status": "stopped", "exitstatus": "OK"}, lost]

    def call(*_: object) -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(module, "TASK_POLL", 0.0)
    client = object.__new__(Client)
    client._api = Path(Api())  # type: ignore[assignment]
    monkeypatch.setattr(client, "_call", call)
    client._task(VM, "start", "UPID:1", 30)
    with pytest.raises(ProxmoxError, match="timed out"):
        client._task(VM, "start", "UPID:1", -1)
    assert answers == []


# -- machines that were there before -----------------------------------------------------------------------------------


def test_notes_and_tags_are_written_together_and_nothing_else(api: Api, proxmox: Client) -> None:
    api.has(f"PUT {BASE}/config", None)
    proxmox.set_notes(VM, description="by hand\nours", tags=["swarm-prod", "prod"])
    assert api.changes() == [(f"PUT {BASE}/config", {"description": "by hand\nours", "tags": "prod;swarm-prod"})]


def test_the_guest_agent_tells_addresses_by_mac_address(api: Api, proxmox: Client) -> None:
    ipv4 = {"ip-address": "192.168.4.30", "ip-address-type": "ipv4", "prefix": 24}
    ipv6 = {"ip-address": "fe80::1", "ip-address-type": "ipv6", "prefix": 64}
    interfaces = [
        {"name": "ens18", "hardware-address": "bc:24:11:00:41:00", "ip-addresses": [ipv4, ipv6]},
        {"name": "ens19", "hardware-address": "bc:24:11:00:42:00"},
    ]
    api.has(f"GET {BASE}/agent/network-get-interfaces", {"result": interfaces})
    assert proxmox.addresses(VM) == {"BC:24:11:00:41:00": {"192.168.4.30"}, "BC:24:11:00:42:00": set()}


def test_an_agent_that_does_not_answer_tells_nothing(api: Api, proxmox: Client) -> None:
    api.has(f"GET {BASE}/agent/network-get-interfaces", ResourceException(500, "QEMU guest agent is not running", ""))
    assert proxmox.addresses(VM) is None


# -- tasks of earlier runs ---------------------------------------------------------------------------------------------


def at_work(vm_id: int, **more: Any) -> dict[str, Any]:
    return {"upid": f"UPID:{vm_id}", "type": "qmdestroy", "id": str(vm_id), **more}


def test_tasks_at_work_on_our_machines_are_waited_for(proxmox: Client, api: Api) -> None:
    api.has("GET nodes/pve01/tasks", [at_work(4100), at_work(900)], [at_work(4100, endtime=7), at_work(900)])
    api.has("GET nodes/pve02/tasks", [])
    proxmox.wait_for_tasks({"pve02", "pve01"}, {4100, 4200}, timeout=5)
    asked = [call for call, parameters in api.asked if parameters == {"source": "active"}]
    assert asked == ["GET nodes/pve01/tasks"] * 2 + ["GET nodes/pve02/tasks"]


def test_a_task_that_does_not_end_is_named(proxmox: Client, api: Api) -> None:
    api.has("GET nodes/pve01/tasks", [at_work(4100)])
    with pytest.raises(ProxmoxError, match=r"qmdestroy of VM 4100 on pve01, begun by an earlier run, has not ended"):
        proxmox.wait_for_tasks({"pve01"}, {4100}, timeout=0.01)
