from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import asyncssh
import jsonschema
import pytest
import yaml

from proxmox_swarm.providers.first_boot import SECRET, FirstBootProvider
from tests.unit.providers.props import boot

PROVIDER = FirstBootProvider()
SCHEMA = "usr/lib/python3/dist-packages/cloudinit/config/schemas/schema-cloud-config-v1.json"


def created(**changes: Any) -> dict[str, Any]:
    outputs = PROVIDER.create(boot(**changes)).outs
    assert outputs is not None
    return outputs


@pytest.fixture(scope="module")
def outputs() -> dict[str, Any]:
    return created(keys=["ssh-ed25519 AAAA someone: with a colon", "ssh-rsa BBBB 'quoted' # not a comment"])


@pytest.fixture(scope="module")
def document(outputs: dict[str, Any]) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(outputs["user_data"])
    return loaded


def test_both_halves_of_the_host_key_belong_together(outputs: dict[str, Any], document: dict[str, Any]) -> None:
    private = asyncssh.import_private_key(outputs["host_private_key"])
    public = asyncssh.import_public_key(outputs["host_public_key"])
    assert private.public_data == public.public_data
    assert outputs["host_public_key"].split()[0] == "ssh-ed25519"
    assert len(outputs["host_public_key"].split()) == 2
    assert document["ssh_keys"] == {
        "ed25519_private": outputs["host_private_key"],
        "ed25519_public": outputs["host_public_key"],
    }


def test_each_machine_has_a_key_of_its_own() -> None:
    assert created()["host_public_key"] != created()["host_public_key"]


def test_the_digest_is_that_of_the_text(outputs: dict[str, Any]) -> None:
    assert outputs["digest"] == hashlib.sha256(outputs["user_data"].encode()).hexdigest()[:12]


def test_what_is_private_is_declared_secret(outputs: dict[str, Any]) -> None:
    private = outputs["host_private_key"]
    holding = {key for key, value in outputs.items() if private.splitlines()[1] in str(value)}
    assert holding == set(SECRET) == {"user_data", "host_private_key"}


def test_a_higher_generation_renders_anew_and_keeps_the_host_key() -> None:
    before = created()
    news = boot(generation=2.0, keys=["ssh-ed25519 CCCC another"])
    assert PROVIDER.diff("app-2", before, news).changes
    after = PROVIDER.update("app-2", before, news).outs or {}
    assert (after["host_public_key"], after["host_private_key"]) == (
        before["host_public_key"],
        before["host_private_key"],
    )
    ((*_, path, text),) = yaml.safe_load(after["user_data"])["bootcmd"]
    assert (path, text) == ("/etc/docker/daemon.json", '{\n  "log-driver": "json-file"\n}\n')
    assert yaml.safe_load(after["user_data"])["users"][0]["ssh_authorized_keys"] == ["ssh-ed25519 CCCC another"]
    assert after["digest"] != before["digest"]
    assert not PROVIDER.diff("app-2", after, news).changes


def test_the_same_inputs_and_key_render_the_same_text() -> None:
    before = created()
    assert PROVIDER.update("app-2", before, boot()).outs == before


def test_each_generation_has_a_text_of_its_own_since_preview_shows_a_new_one() -> None:
    before = created()
    after = PROVIDER.update("app-2", before, boot(generation=2.0)).outs or {}
    assert (
        after["user_data"] == before["user_data"].replace("# generation 1\n", "# generation 2\n") != before["user_data"]
    )
    assert after["digest"] != before["digest"]


def test_read_and_delete_touch_nothing(outputs: dict[str, Any]) -> None:
    result = PROVIDER.read("app-2", dict(outputs))
    assert (result.id, result.outs) == ("app-2", outputs)
    PROVIDER.delete("app-2", dict(outputs))


# -- the user-data itself ----------------------------------------------------------------------------------------------


def test_it_is_cloud_config(outputs: dict[str, Any]) -> None:
    assert outputs["user_data"].startswith("#cloud-config\n")
    assert len(outputs["user_data"].encode()) < 16 * 1024, "larger ones do not fit every data source"


def test_one_user_who_has_keys_and_no_password(document: dict[str, Any]) -> None:
    (user,) = document["users"]
    assert user == {
        "name": "ops",
        "shell": "/bin/bash",
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "lock_passwd": True,
        "ssh_authorized_keys": ["ssh-ed25519 AAAA someone: with a colon", "ssh-rsa BBBB 'quoted' # not a comment"],
    }
    assert document["disable_root"] is True
    assert document["ssh_pwauth"] is False


def test_the_machine_shows_our_host_key_and_no_other(document: dict[str, Any]) -> None:
    assert document["ssh_deletekeys"] is True
    assert list(document["ssh_keys"]) == ["ed25519_private", "ed25519_public"]


def test_it_holds_the_minimum_and_of_day_two_only_the_engines_first_configuration(document: dict[str, Any]) -> None:
    assert [path for *_, path, _ in document["bootcmd"]] == ["/etc/docker/daemon.json"]
    assert set(document) == {
        "hostname",
        "prefer_fqdn_over_hostname",
        "manage_etc_hosts",
        "users",
        "bootcmd",
        "disable_root",
        "ssh_pwauth",
        "ssh_deletekeys",
        "ssh_keys",
        "runcmd",
    }
    assert document["hostname"] == "app-2"


def test_the_command_at_the_end_is_a_shell_that_is_given_one_script(document: dict[str, Any]) -> None:
    ((shell, flag, script),) = document["runcmd"]
    assert (shell, flag) == ("sh", "-c")
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    if shutil.which("shellcheck"):
        found = subprocess.run(
            ["shellcheck", "--shell=sh", "--exclude=SC2034", "-"],
            input=script,
            text=True,
            capture_output=True,
            check=False,
        )
        assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(("installed", "expected"), [(True, []), (False, ["update", "install", "start"])])
def test_the_agent_is_installed_only_where_it_is_absent(
    document: dict[str, Any], tmp_path: Path, installed: bool, expected: list[str]
) -> None:
    log = tmp_path / "log"
    for name in ["apt-get", "systemctl", *(["qemu-ga"] if installed else [])]:
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "$1" >>{log}\n')
        program.chmod(0o755)
    subprocess.run(document["runcmd"][0], env={"PATH": str(tmp_path)}, executable="/bin/sh", check=True)
    assert (log.read_text().split() if log.exists() else []) == expected


def schemas() -> list[str]:
    """cloud-init's own schema: of this machine, and of the newest machine image of the lab's that is at hand."""
    found = []
    here = Path("/") / SCHEMA
    if here.exists():
        found.append(here.read_text())
    from proxmox_swarm.lab.image import cache

    images = sorted(cache.cache_root().glob("*/image.raw"), key=lambda path: path.stat().st_mtime)
    debugfs = shutil.which("debugfs", path=f"{os.defpath}:/usr/sbin:/sbin")
    if images and debugfs:
        shown = subprocess.run(
            [debugfs, "-R", f"cat /{SCHEMA}", str(images[-1])], capture_output=True, text=True, check=False
        )
        if shown.stdout.startswith("{"):
            found.append(shown.stdout)
    return found


def test_cloud_inits_own_schema_accepts_it(document: dict[str, Any]) -> None:
    found = schemas()
    if not found:
        pytest.skip("neither cloud-init nor an image of the lab's is on this machine")
    for text in found:
        schema = json.loads(text)
        checker = jsonschema.Draft4Validator(schema)
        assert [f"{list(e.path)}: {e.message}" for e in checker.iter_errors(document)] == []
        wrong = {**document, "users": "nobody", "ssh_pwauth": []}
        assert list(checker.iter_errors(wrong)), "the schema checks nothing"


def test_what_day_two_has_made_of_a_file_stays_when_cloud_init_does_all_of_it_again(
    document: dict[str, Any], tmp_path: Path
) -> None:
    """It does where the network configuration has changed: Proxmox VE makes the instance's id out of that."""
    ((shell, flag, script, _, text),) = document["bootcmd"]
    file = tmp_path / "etc" / "docker" / "daemon.json"

    def boot_once() -> None:
        subprocess.run([shell, flag, script, str(file), text], check=True)

    boot_once()
    assert file.read_text() == text
    file.write_text("day two")
    boot_once()
    assert file.read_text() == "day two"
