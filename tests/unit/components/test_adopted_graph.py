"""Nodes that were there before: imported, with nothing made for them, until a higher generation rebuilds them."""

from __future__ import annotations

import inspect
from typing import Any

import pulumi_proxmoxve as pve
import pytest

from proxmox_swarm.cli import preview
from proxmox_swarm.components.adopted_machine import AS_FOUND, NO_IMPORT
from proxmox_swarm.settings import Settings
from tests.unit.components.graph import Graph, bring_up, build, prod, rolling

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAKYnp5dx6trJn0rTM0UWOuFSqsr5+X12QS2CeTCtPs6"
#: Arguments of a VM that say how the provider goes about it, not what the machine is.
OF_THE_PROVIDER = {
    "delete_unreferenced_disks_on_destroy",
    "migrate",
    "purge_on_destroy",
    "reboot",
    "reboot_after_update",
    "stop_on_destroy",
    *(f"timeout_{step}" for step in ("clone", "create", "migrate", "move_disk", "reboot", "shutdown_vm", "start_vm")),
    "timeout_stop_vm",
}


def adopting(*names: str, **more: Any) -> Settings:
    """Production with nodes that were there before."""

    def change(nodes: Any) -> Any:
        return {
            name: {**node, "data": 0, "hostKey": KEY, **more} if name in names else node for name, node in nodes.items()
        }

    return prod(nodes=change)


def adopted(*names: str, established: bool = False, **more: Any) -> Graph:
    return build(adopting(*names, **more), established=established)


@pytest.mark.parametrize("established", [False, True])
def test_nothing_is_made_for_an_adopted_machine_and_no_urn_is_another(established: bool) -> None:
    graph = adopted("docker-infra-1", established=established)
    usual = (rolling if established else bring_up)()
    gone = {"FirstBoot docker-infra-1", "FileLegacy docker-infra-1", "VmLegacy docker-infra-1-data"}
    assert set(usual.resources) - set(graph.resources) == gone
    assert set(graph.urns()) < set(usual.urns())


def test_only_adopted_machines_are_imported_under_a_name_that_never_changes() -> None:
    graph = adopted("docker-app-2", "docker-infra-1")
    imported = {key: r.request.importId for key, r in graph.resources.items() if r.request.importId}
    assert imported == {"VmLegacy docker-app-2": "adopted/4101", "VmLegacy docker-infra-1": "adopted/4200"}
    moved = adopted("docker-infra-1", host="pve02")
    assert moved["VmLegacy docker-infra-1"].request.importId == "adopted/4200"


def test_a_preview_without_a_way_to_the_api_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert preview.NO_IMPORT == NO_IMPORT
    monkeypatch.setenv(NO_IMPORT, "1")
    assert adopted("docker-app-2")["VmLegacy docker-app-2"].request.importId == ""


def test_of_an_adopted_machine_every_property_is_left_as_found_or_ours_knowingly() -> None:
    graph = adopted("docker-app-2")
    vm = graph["VmLegacy docker-app-2"]
    assert set(vm.request.ignoreChanges) == set(AS_FOUND)
    ours = {"name", "nodeName", "vmId", "started", "agent", "cpu", "memory", "stopOnDestroy", "rebootAfterUpdate"}
    assert set(vm.inputs) == ours
    assert (vm.inputs["cpu"], vm.inputs["memory"]) == ({"cores": 4.0}, {"dedicated": 8192.0})
    arguments = {
        name
        for name in inspect.signature(pve.VmLegacy._internal_init).parameters
        if name not in ("self", "resource_name", "opts", "__props__", "__self__")
    }
    known = {path.split(".")[0] for path in AS_FOUND} | ours
    unknown = {name for name in arguments - OF_THE_PROVIDER if _camel(name) not in known}
    assert unknown == set(), "the provider has new arguments: decide whether they are left as found"


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def test_a_new_image_rebuilds_no_adopted_machine() -> None:
    trigger = adopted("docker-app-2")["VmLegacy docker-app-2"].request.replacement_trigger.string_value
    assert trigger == "adopted"


def test_an_adopted_machine_is_claimed_by_what_is_known_of_it() -> None:
    mac = {"macs": {"main": "BC:24:11:00:41:01"}}
    claim = adopted("docker-app-2", **mac)["Claim docker-app-2"]
    assert claim.inputs["vm_ids"] == [4101.0]
    assert claim.inputs["adopted"] == {
        "cpu": 4.0,
        "memory": 8192.0,
        "tag": "swarm-prod",
        "nics": [
            {"bridge": "vmbr0", "vlan": 4.0, "address": "192.168.4.31", "mac": "BC:24:11:00:41:01"},
            {"bridge": "vmbr0", "vlan": 12.0, "address": "192.168.12.31", "mac": None},
        ],
    }
    assert claim.request.protect
    assert "adopted" not in bring_up()["Claim docker-app-2"].inputs


def test_the_declared_host_key_is_known_wherever_the_node_is_spoken_to() -> None:
    graph = adopted("docker-app-2")
    assert graph["HostState docker-app-2"].inputs["host_key"] == KEY
    assert graph["Member docker-app-2"].inputs["host_key"] == KEY
    assert graph["Member docker-infra-1"].inputs["managers"][1]["host_key"] == KEY
    assert graph["Member docker-infra-1"].inputs["managers"][0]["host_key"] == "ssh-ed25519 docker-app-1"


def test_of_daemon_json_only_what_is_written_in_the_settings_is_declared_for_it() -> None:
    graph = adopted("docker-app-2")
    pools = {"default-address-pools": [{"base": "172.20.0.0/16", "size": 24.0}]}
    assert graph["HostState docker-app-2"].inputs["wanted"]["daemon"] == pools
    assert "log-driver" in graph["HostState docker-app-1"].inputs["wanted"]["daemon"]
    for kind in ("HostState", "Member"):
        assert graph[f"{kind} docker-app-2"].inputs["adopted"] is True
        assert "adopted" not in graph[f"{kind} docker-app-1"].inputs


def test_the_image_goes_only_to_hosts_that_make_machines() -> None:
    every = [*(f"docker-app-{i}" for i in (1, 2, 3)), *(f"docker-infra-{i}" for i in (1, 2, 3)), "swarmpit-mgmt"]
    assert [file.name for file in adopted(*every).of("File")] == []
    on_pve02 = [name for name in every if name.endswith("-2")]
    assert sorted(file.name for file in adopted(*on_pve02).of("File")) == ["image-pve01", "image-pve03"]


def test_a_higher_generation_makes_it_a_node_like_any_other_with_the_host_key_it_had() -> None:
    graph = build(adopting("docker-app-2", generation=2, discard=["scsi1"]), established=True)
    assert set(graph.resources) == set(rolling().resources)
    vm = graph["VmLegacy docker-app-2"].request
    assert vm.importId == ""
    assert "generation 2" in vm.replacement_trigger.string_value
    assert graph["FirstBoot docker-app-2"].inputs["former"] == {
        "node": "docker-app-2",
        "address": "192.168.4.31",
        "user": "ansible",
        "host_key": KEY,
    }
    claim = graph["Claim docker-app-2"].inputs
    assert (claim["rebuilt"], claim["discard"], claim.get("adopted")) == (True, ["scsi1"], None)
    assert "former" not in graph["FirstBoot docker-app-1"].inputs
