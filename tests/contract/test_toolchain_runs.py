"""The tools work together: CLI, Python language host, dynamic providers and the Proxmox VE plugin, without a network."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from proxmox_swarm import toolchain
from proxmox_swarm.toolchain import versions

PROJECT = "name: proof\nruntime: python\n"

DYNAMIC = """
import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult


class GreetingProvider(ResourceProvider):
    def create(self, props):
        return CreateResult(props["name"], {**props, "text": "hello " + props["name"]})

    def diff(self, id, olds, news):
        return DiffResult(changes=olds["name"] != news["name"])

    def update(self, id, olds, news):
        return UpdateResult({**news, "text": "hello again " + news["name"]})


class Greeting(Resource, module="proof", name="Greeting"):
    text: pulumi.Output[str]

    def __init__(self, resource, name):
        super().__init__(GreetingProvider(), resource, {"name": name, "text": None})
"""

DYNAMIC_MAIN = """
import pulumi
from greeting import Greeting

pulumi.export("text", Greeting("g", pulumi.Config().require("name")).text)
"""

PROXMOX_MAIN = """
import pulumi
import pulumi_proxmoxve as pve

# The plugin makes no call before the first resource is made or read, so a preview needs no Proxmox VE.
provider = pve.Provider("pve", endpoint="https://192.0.2.1:8006", api_token="a@pve!t=00000000-0000-0000-0000-000000000000",
                        ssh={"username": "root", "nodes": [{"name": "pve1", "address": "192.0.2.1", "port": 22}]})
opts = pulumi.ResourceOptions(provider=provider)
image = pve.download.File("image", content_type="import", datastore_id="local", node_name="pve1",
                          url="https://192.0.2.1/x.qcow2", file_name="x.qcow2", checksum="ab" * 64,
                          checksum_algorithm="sha512", overwrite=False, opts=opts)
data = pve.FileLegacy("data", content_type="snippets", datastore_id="local", node_name="pve1",
                      source_raw={"data": "#cloud-config", "file_name": "x.yaml"}, opts=opts)
pool = pve.PoolLegacy("pool", pool_id="swarm", opts=opts)
vm = pve.VmLegacy("vm", name="m1", node_name="pve1", vm_id=4011, tags=["swarm"], stop_on_destroy=True, pool_id=pool.pool_id,
                  agent={"enabled": True, "timeout": "5m", "wait_for_ip": {"ipv4": True}},
                  cpu={"cores": 2, "type": "host"}, memory={"dedicated": 2048},
                  disks=[{"datastore_id": "local-lvm", "interface": "scsi0", "import_from": image.id, "size": 20,
                          "iothread": True, "discard": "on"}],
                  network_devices=[{"bridge": "vmbr0", "vlan_id": 4, "mac_address": "BC:24:11:04:00:11"}],
                  initialization={"datastore_id": "local-lvm", "user_data_file_id": data.id,
                                  "ip_configs": [{"ipv4": {"address": "10.0.4.11/24", "gateway": "10.0.4.1"}}]},
                  opts=opts)
pve.Haresource("ha", resource_id=vm.vm_id.apply(lambda i: f"vm:{int(i)}"), state="started", opts=opts)
pve.Harule("spread", rule="spread", type="resource-affinity", affinity="negative", resources=["vm:4011", "vm:4012"],
           opts=opts)
"""

Run = Callable[..., str]


@pytest.fixture
def pulumi(tmp_path: Path) -> Run:
    """A project directory with its own home and local backend; call it with the arguments of ``pulumi``."""
    tools = toolchain.ensure(print)
    home, state = tmp_path / "home", tmp_path / "state"
    state.mkdir()
    tools.link_plugins(home)
    (tmp_path / "Pulumi.yaml").write_text(PROJECT)
    environment = {
        **os.environ,
        **tools.env(),
        "PULUMI_HOME": str(home),
        "PULUMI_BACKEND_URL": state.as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": "only for this test",
    }

    def run(*arguments: str) -> str:
        done = subprocess.run(
            ["pulumi", *arguments, "--non-interactive"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"pulumi {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    run("stack", "init", "proof")
    return run


def test_a_dynamic_provider_by_reference_is_created_and_updated(pulumi: Run, tmp_path: Path) -> None:
    (tmp_path / "greeting.py").write_text(DYNAMIC)
    (tmp_path / "__main__.py").write_text(DYNAMIC_MAIN)
    pulumi("config", "set", "name", "swarm")
    pulumi("up", "--yes", "--skip-preview")
    assert json.loads(pulumi("stack", "output", "--json")) == {"text": "hello swarm"}
    pulumi("preview", "--expect-no-changes")
    pulumi("config", "set", "name", "raft")
    pulumi("up", "--yes", "--skip-preview")
    assert json.loads(pulumi("stack", "output", "--json")) == {"text": "hello again raft"}
    pulumi("destroy", "--yes", "--skip-preview")


def test_the_plugin_plans_every_resource_in_use(pulumi: Run, tmp_path: Path) -> None:
    (tmp_path / "__main__.py").write_text(PROXMOX_MAIN)
    steps = json.loads(pulumi("preview", "--json"))["steps"]
    planned = {(step["op"], step["newState"]["type"]) for step in steps}
    assert planned == {
        ("create", "pulumi:pulumi:Stack"),
        ("create", "pulumi:providers:proxmoxve"),
        ("create", "proxmoxve:download/file:File"),
        ("create", "proxmoxve:index/fileLegacy:FileLegacy"),
        ("create", "proxmoxve:index/poolLegacy:PoolLegacy"),
        ("create", "proxmoxve:index/vmLegacy:VmLegacy"),
        ("create", "proxmoxve:index/haresource:Haresource"),
        ("create", "proxmoxve:index/harule:Harule"),
    }


def test_the_cli_knows_the_linked_plugin(pulumi: Run) -> None:
    plugins = {(plugin["name"], plugin["version"]) for plugin in json.loads(pulumi("plugin", "ls", "--json"))}
    assert plugins == {("proxmoxve", versions.pinned().proxmoxve)}
