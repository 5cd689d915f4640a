"""Tasks, faults, ids, pools, HA, hosts, and who may ask."""

from __future__ import annotations

import asyncio
import json

import pytest

from proxmox_swarm.lab.host_power import HostPower
from proxmox_swarm.lab.pve.faults import Fault
from proxmox_swarm.lab.pve.state import HOSTS
from tests.unit.lab_api.support import SECRET, Api, Cluster, vm_parameters

TIMEOUT = "can't lock file '/var/lock/qemu-server/lock-{}.conf' - got timeout"


def test_tasks_go_on_by_themselves_and_keep_their_times(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        upid = (await api.call("POST", "nodes/pve01/qemu", vmid=100)).data
        parts = upid.split(":")
        assert (parts[0], parts[1], parts[5:]) == ("UPID", "pve01", ["qmcreate", "100", "root@pam!swarm", ""])
        assert [len(p) for p in parts[2:5]] == [8, 8, 8]
        path = f"nodes/pve01/tasks/{upid.replace('!', '%21')}"
        status = await api.get(f"{path}/status")
        assert (status["status"], status["exitstatus"]) == ("stopped", "OK")
        assert (await api.get(f"{path}/log"))[-1]["t"] == "TASK OK"
        (listed,) = await api.get("nodes/pve01/tasks", vmid=100)
        assert listed["upid"] == upid and listed["endtime"] >= listed["starttime"]
        assert await api.get("nodes/pve02/tasks") == []
        assert (await api.call("GET", "nodes/pve01/tasks/UPID:x/status")).status == 400

    cluster.run(scenario)
    events = [e for e in cluster.record() if e["event"].startswith("task")]
    assert [e["event"] for e in events] == ["task-start", "task-end"]
    assert events[1]["exitstatus"] == "OK" and events[1]["ended"] >= events[1]["started"]


def test_a_lock_timeout_at_create_is_an_answer_and_leaves_nothing(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        api.pve.faults.add(Fault("lock-timeout", task="qmcreate", host="pve02"))
        assert (await api.call("POST", "nodes/pve01/qemu", vmid=101)).status == 200
        refused = await api.call("POST", "nodes/pve02/qemu", vmid=100)
        assert (refused.status, refused.reason) == (500, TIMEOUT.format(100))
        assert await api.task("POST", "nodes/pve02/qemu", vmid=100) == "OK"

    cluster.run(scenario)
    assert any(e.get("exitstatus") == TIMEOUT.format(100) for e in cluster.record())


def test_tasks_fail_and_slow_down_on_request(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        await api.download()
        await api.create()
        start = "nodes/pve01/qemu/4100/status/start"
        api.pve.faults.add(Fault("lock-timeout", task="qmstart", count=2))
        api.pve.faults.add(Fault("fail", task="resize", message="no space left on {node}"))
        assert await api.task("POST", start) == TIMEOUT.format(4100)
        assert await api.task("POST", start) == TIMEOUT.format(4100)
        resize = {"disk": "scsi0", "size": "50G"}
        assert await api.task("PUT", "nodes/pve01/qemu/4100/resize", **resize) == "no space left on pve01"
        api.pve.faults.add(Fault("slow", task="qmstart", seconds=0.7))
        began = asyncio.get_running_loop().time()
        assert await api.task("POST", start) == "OK"
        assert asyncio.get_running_loop().time() - began >= 0.7
        assert api.pve.faults.rules() == []

    cluster.run(scenario)


def test_a_host_whose_api_is_down_answers_for_nothing_and_is_online(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        api.pve.faults.add(Fault("api-down", host="pve02"))
        down = await api.call("GET", "nodes/pve02/status")
        assert (down.status, down.reason) == (595, "No route to host")
        assert await _hosts(api) == {"pve01": "online", "pve02": "online", "pve03": "online"}
        api.pve.faults.clear()
        assert (await api.call("GET", "nodes/pve02/status")).status == 200
        unknown = await api.call("GET", "nodes/pve09/status")
        assert unknown.reason.startswith("hostname lookup 'pve09' failed")

    cluster.run(scenario)


class Ssh:
    """The hosts' SSH servers, as far as their power goes."""

    def __init__(self) -> None:
        self.listening = set(HOSTS)

    async def open(self, host: str) -> None:
        self.listening.add(host)

    async def shut(self, host: str) -> None:
        self.listening.discard(host)


def test_a_host_without_power_is_offline_and_its_machines_come_back_with_it(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        ssh = Ssh()
        power = HostPower(api.pve, ssh)  # type: ignore[arg-type]
        await _two_machines(api)
        assert await api.create(4102, "pve02", onboot=0) == "OK"

        api.pve.faults.add(Fault("host-down", host="pve02"))
        await power.down("pve02")

        assert (await api.call("GET", "nodes/pve02/qemu/4101/config")).status == 595
        assert await _hosts(api) == {"pve01": "online", "pve02": "offline", "pve03": "online"}
        assert [n.get("online") for n in await api.get("cluster/status")] == [None, 1, 0, 1]
        listed = {line["vmid"]: line for line in await api.get("cluster/resources", type="vm")}
        assert listed[4101] == {
            "id": "qemu/4101", "type": "qemu", "vmid": 4101, "node": "pve02", "status": "unknown", "tags": "swarm-lab"
        }  # fmt: skip
        assert listed[4100]["status"] == "running"
        storages = await api.get("cluster/resources", type="storage")
        assert {s["node"] for s in storages if s["status"] == "unknown"} == {"pve02"}
        assert (sorted(api.machines.specs), ssh.listening) == ([4100], {"pve01", "pve03"})
        there = await api.call("POST", "nodes/pve03/qemu", **vm_parameters(4101))
        assert there.reason == "unable to create VM 4101 - VM 4101 already exists on node 'pve02'"

        api.pve.faults.mend_host("pve02")
        await power.up("pve02")
        assert await _hosts(api) == {"pve01": "online", "pve02": "online", "pve03": "online"}
        assert (sorted(api.machines.specs), ssh.listening) == ([4100, 4101], set(HOSTS))

    cluster.run(scenario)


def test_tasks_of_a_host_end_with_its_power(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        await _two_machines(api)
        api.pve.faults.add(Fault("slow", task="qmstart", host="pve02", seconds=60))
        upid = (await api.call("POST", "nodes/pve02/qemu/4101/status/start")).data
        api.pve.faults.add(Fault("host-down", host="pve02"))
        await HostPower(api.pve, Ssh()).down("pve02")  # type: ignore[arg-type]
        assert api.pve.tasks.get(upid).exit_status == "interrupted by signal"

    cluster.run(scenario)


def test_a_host_that_is_lost_is_out_of_the_cluster_with_all_it_had(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        power = HostPower(api.pve, Ssh())  # type: ignore[arg-type]
        await _two_machines(api)
        api.pve.faults.add(Fault("host-lost", host="pve02"))
        await power.lose("pve02")

        assert await _hosts(api) == {"pve01": "online", "pve03": "online"}
        assert [entry["name"] for entry in await api.get("cluster/status")] == ["lab", "pve01", "pve03"]
        assert [line["vmid"] for line in await api.get("cluster/resources", type="vm")] == [4100]
        assert (await api.call("GET", "nodes/pve02/status")).reason.startswith("hostname lookup 'pve02' failed")
        await api.download("pve03")
        assert await api.create(4101, "pve03") == "OK"

        api.pve.faults.mend_host("pve02")
        await power.up("pve02")
        assert await api.get("nodes/pve02/qemu") == []
        assert await api.get("nodes/pve02/storage/local/content") == []

    cluster.run(scenario)


def test_only_hosts_there_are_lose_their_power(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        with pytest.raises(ValueError, match="no host 'pve09'"):
            await HostPower(api.pve, Ssh()).down("pve09")  # type: ignore[arg-type]

    cluster.run(scenario)


async def _hosts(api: Api) -> dict[str, str]:
    return {n["node"]: n["status"] for n in await api.get("nodes")}


async def _two_machines(api: Api) -> None:
    for vmid, node in ((4100, "pve01"), (4101, "pve02")):
        await api.download(node)
        assert await api.create(vmid, node) == "OK"
        assert await api.task("POST", f"nodes/{node}/qemu/{vmid}/status/start") == "OK"


def test_who_may_ask(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        good = dict(api.headers)
        api.headers = {}
        assert (await api.call("GET", "version")).status == 401
        api.headers = {"Authorization": good["Authorization"][:-1] + "0"}
        assert (await api.call("GET", "version")).status == 401
        api.headers = {"Authorization": "PVEAPIToken=root@pam!other=" + SECRET}
        assert (await api.call("GET", "version")).status == 401
        api.headers = good
        assert (await api.get("version"))["release"] == "9.2"
        assert (await api.get("access/permissions", path="/vms"))["/vms"]["VM.Allocate"] == 1

    cluster.run(scenario)


def test_what_is_not_there_is_said(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        unserved = await api.call("GET", "cluster/ceph/status")
        assert (unserved.status, unserved.reason) == (501, "the lab does not serve GET /cluster/ceph/status")
        assert (await api.call("GET", "nothing")).status == 501
        assert "not implemented" in (await api.call("DELETE", "version")).reason
        bad = await api.call("POST", "nodes/pve01/qemu", vmid=5, colour="red")
        assert (bad.status, bad.reason) == (400, "Parameter verification failed.")
        assert set(bad.body["errors"]) == {"vmid", "colour"}
        assert api.pve.record.counts["unserved"] == 1

    cluster.run(scenario)


def test_ids_and_resources(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        assert await api.get("cluster/nextid") == 100
        await api.download()
        await api.create(100)
        assert await api.get("cluster/nextid") == 101
        await api.call("POST", "pools", poolid="swarm")
        await api.call("PUT", "pools?poolid=swarm", vms="100")
        (vm,) = await api.get("cluster/resources", type="vm")
        assert {k: vm[k] for k in ("id", "node", "name", "status", "tags", "pool", "maxcpu")} == {
            "id": "qemu/100", "node": "pve01", "name": "vm100", "status": "stopped", "tags": "swarm-lab", "pool": "swarm",
            "maxcpu": 4,
        }  # fmt: skip
        kinds = {r["type"] for r in await api.get("cluster/resources")}
        assert kinds == {"qemu", "node", "storage", "pool"}

    cluster.run(scenario)


def test_pools(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        for name in ("a", "b"):
            assert (await api.call("POST", "pools", poolid=name, comment="c")).status == 200
        assert "already exists" in (await api.call("POST", "pools", poolid="a")).reason
        await api.task("POST", "nodes/pve01/qemu", vmid=100, pool="a")
        (pool,) = await api.get("pools", poolid="a")
        assert [m["id"] for m in pool["members"]] == ["qemu/100"]
        refused = await api.call("PUT", "pools?poolid=b", vms="100")
        assert "belongs already to pool 'a'" in refused.reason
        assert (await api.call("PUT", "pools?poolid=b", vms="100", allow__move=1)).status == 200
        assert "is not empty" in (await api.call("DELETE", "pools?poolid=b")).reason
        await api.task("DELETE", "nodes/pve01/qemu/100")
        assert (await api.call("DELETE", "pools?poolid=b")).status == 200
        assert [p["poolid"] for p in await api.get("pools")] == ["a"]
        assert (await api.call("GET", "pools", poolid="b")).reason == "pool 'b' does not exist"

    cluster.run(scenario)


def test_ha(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        await api.task("POST", "nodes/pve01/qemu", vmid=100)
        await api.call("POST", "cluster/ha/resources/", sid="vm:100", state="started", comment="c")
        entry = await api.get("cluster/ha/resources/vm:100")
        assert {k: entry[k] for k in ("sid", "type", "state", "comment")} == {
            "sid": "vm:100", "type": "vm", "state": "started", "comment": "c"
        }  # fmt: skip
        assert (await api.get("nodes/pve01/qemu/100/status/current"))["ha"] == {"managed": 1, "state": "started"}
        await api.call("PUT", "cluster/ha/resources/vm:100", state="ignored", delete="comment")
        entry = await api.get("cluster/ha/resources/vm:100")
        assert entry["state"] == "ignored" and "comment" not in entry
        rule = {"rule": "spread", "type": "resource-affinity", "affinity": "negative", "resources": "vm:100"}
        await api.call("POST", "cluster/ha/rules/", **rule)
        assert (await api.get("cluster/ha/rules/spread"))["resources"] == "vm:100"
        await api.task("DELETE", "nodes/pve01/qemu/100", purge=1)
        assert (await api.call("GET", "cluster/ha/resources/vm:100")).reason == "no such resource 'vm:100'"
        assert await api.get("cluster/ha/rules") == []

    cluster.run(scenario)


def test_the_record_holds_no_secret(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        await api.download()
        await api.create(cipassword="hunter2")
        assert (await api.get("nodes/pve01/qemu/4100/config"))["cipassword"] == "**********"

    cluster.run(scenario)
    text = json.dumps(cluster.record())
    assert "hunter2" not in text and SECRET not in text and "Authorization" not in text
    created = next(e for e in cluster.record() if e["event"] == "request" and e["path"].endswith("/pve01/qemu"))
    assert created["params"]["cipassword"] == "…" and created["params"]["name"] == "vm4100"


def test_many_vms_at_once_get_their_own_disks(cluster: Cluster) -> None:
    async def scenario(api: Api) -> None:
        await api.download()
        ids = range(4100, 4120)
        statuses = await asyncio.gather(*(api.create(vmid) for vmid in ids))
        assert set(statuses) == {"OK"}
        volids = {v["volid"] for v in await api.get("nodes/pve01/storage/local-lvm/content")}
        assert volids == {f"local-lvm:vm-{i}-{part}" for i in ids for part in ("disk-0", "cloudinit")}
        taken = await asyncio.gather(*(api.call("POST", "nodes/pve01/qemu", **vm_parameters(5000)) for _ in range(5)))
        assert sorted(a.status for a in taken) == [200, 500, 500, 500, 500]

    cluster.run(scenario)
