"""Verification as Proxmox VE does it, texts included."""

from __future__ import annotations

from typing import Any

import pytest

from proxmox_swarm.lab.pve.schema import Operation
from tests.unit.lab_api.support import SCHEMA


def operation(method: str, path: str) -> Operation:
    found = SCHEMA.operation(method, path)
    assert found is not None
    return found


CREATE = operation("POST", "/nodes/{node}/qemu")
BASE = {"node": "pve01", "vmid": "4100"}
NOT_DEFINED = "property is not defined in schema and the schema does not allow additional properties"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("vmid", "99", "value must have a minimum value of 100"),
        ("vmid", "abc", "type check ('integer') failed - got 'abc'"),
        ("vmid", "4100.0", "type check ('integer') failed - got '4100.0'"),
        ("onboot", "2", "type check ('boolean') failed - got '2'"),
        ("bios", "uefi", "value 'uefi' does not have a value in the enumeration 'seabios, ovmf'"),
        ("serial0", "pty", "value does not match the regex pattern"),
        ("serial4", "socket", NOT_DEFINED),
        ("scsi31", "tank:1", NOT_DEFINED),
        ("net32", "virtio", NOT_DEFINED),
        ("colour", "red", NOT_DEFINED),
        ("name", "no_underscore", "invalid format - value does not look like a valid DNS name\n"),
        ("tags", "a;sp ace;-x", "invalid format - value does not look like a valid tag\n"),
        ("net0", "virtio,tag=4095", "invalid format - format error\ntag: value must have a maximum value of 4094\n"),
        ("net0", "virtio,vlan=4", f"invalid format - format error\nvlan: {NOT_DEFINED}\n"),
        (
            "net0",
            "virtio=01:24:11:00:00:01",
            "invalid format - format error\n"
            "macaddr: invalid format - value does not look like a valid unicast MAC address\n\n",
        ),
        ("scsi0", "size=5G", "invalid format - format error\nfile: property is missing and it is not optional\n"),
        (
            "scsi0",
            "tank:5,discard=yes",
            "invalid format - format error\n"
            "discard: value 'yes' does not have a value in the enumeration 'ignore, on'\n",
        ),
        (
            "scsi0",
            "tank:5,iothread=maybe",
            "invalid format - format error\niothread: type check ('boolean') failed - got 'maybe'\n",
        ),
        ("boot", "order=disk0", "invalid format - invalid boot order\n"),
        (
            "ipconfig0",
            "ip=192.168.4.30",
            "invalid format - format error\nip: invalid format - value does not look like a valid IPv4 CIDR\n",
        ),
        (
            "ipconfig0",
            "gw=192.168.4.1",
            "invalid format - format error\ngw: missing property - 'gw' requires this property\n",
        ),
        ("memory", "15", "invalid format - format error\ncurrent: value must have a minimum value of 16\n"),
    ],
)
def test_bad_parameters_are_named(name: str, value: str, text: str) -> None:
    _, errors = CREATE.verify({**BASE, name: value})
    assert {k: v.rstrip("\n") for k, v in errors.items()} == {name: text.rstrip("\n")}


def test_a_missing_parameter_is_named() -> None:
    assert CREATE.verify({"node": "pve01"})[1] == {"vmid": "property is missing and it is not optional"}


def test_good_parameters_come_back_in_the_schemas_types() -> None:
    given = {
        **BASE,
        "onboot": "yes",
        "cores": "4",
        "memory": "2048",
        "cpulimit": "1.5",
        "ide2": "file=local-lvm:cloudinit,",  # the trailing comma is what the provider sends
        "net0": "model=virtio,bridge=vmbr0,macaddr=BC:24:11:04:00:11,tag=4",
        "scsi30": "tank:vm-1-disk-0,size=53687091200",
    }
    clean, errors = CREATE.verify(given)
    assert errors == {}
    assert (clean["vmid"], clean["onboot"], clean["cores"], clean["memory"]) == (4100, 1, 4, "2048")
    assert clean["cpulimit"] == 1.5


def test_a_parameter_that_needs_another_says_so() -> None:
    download = operation("POST", "/nodes/{node}/storage/{storage}/download-url")
    given = {"node": "pve01", "storage": "local", "content": "import", "filename": "x.raw", "url": "http://x/y"}
    _, errors = download.verify({**given, "checksum": "ab"})
    assert errors == {"checksum-algorithm": "missing property - 'checksum' requires this property"}
    _, errors = download.verify({**given, "content": "snippets"})
    assert "enumeration 'iso, vztmpl, import'" in errors["content"]


@pytest.mark.parametrize(
    ("method", "path", "answer", "where"),
    [
        ("GET", "/nodes/{node}/qemu/{vmid}/config", {"digest": "x", "agent": 1}, "data.agent"),
        ("GET", "/nodes/{node}/qemu/{vmid}/config", {"digest": "x", "cores": "4"}, "data.cores"),
        ("GET", "/nodes/{node}/qemu/{vmid}/config", {"cores": 4}, "data.digest"),
        ("GET", "/nodes/{node}/qemu/{vmid}/config", {"digest": "x", "onboot": "1"}, "data.onboot"),
        (
            "GET",
            "/nodes/{node}/qemu/{vmid}/status/current",
            {"status": "paused", "ha": {}, "vmid": 4100},
            "data.status",
        ),
        ("GET", "/cluster/resources", [{"id": "qemu/1", "type": "qemu", "maxmem": 1.5}], "data[0].maxmem"),
        ("POST", "/nodes/{node}/qemu", None, "data"),
        ("PUT", "/nodes/{node}/qemu/{vmid}/config", "x", "data"),
    ],
)
def test_answers_that_break_the_schema_are_found(method: str, path: str, answer: Any, where: str) -> None:
    (complaint,) = operation(method, path).complaints(answer)
    assert complaint.startswith(f"{where}: ")


def test_paths_are_matched_segment_by_segment() -> None:
    assert SCHEMA.match(("nodes", "pve01", "storage", "local", "content", "local:snippets/u.yaml")) == (
        "/nodes/{node}/storage/{storage}/content/{volume}",
        {"node": "pve01", "storage": "local", "volume": "local:snippets/u.yaml"},
    )
    assert SCHEMA.match(("nodes", "pve01", "nothing")) is None
