"""Drives, NICs and sizes survive being read and printed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxmox_swarm.lab.pve.properties import Drive, NetDevice, keyed, parse_size, print_size

keys = st.sampled_from(["aio", "backup", "cache", "discard", "iothread", "serial", "size", "ssd"])
values = st.text("abcdefghijklmnopqrstuvwxyz0123456789_-.", min_size=1, max_size=12)


@given(st.dictionaries(keys, values), st.sampled_from(["tank:vm-1-disk-0", "none", "local-lvm:50"]))
def test_a_printed_drive_reads_back_the_same(options: dict[str, str], file: str) -> None:
    drive = Drive(file, options)
    assert Drive.parse(drive.print()) == drive
    assert Drive.parse(drive.print()).print() == drive.print()


@given(st.dictionaries(st.sampled_from(["bridge", "tag", "firewall", "mtu"]), values))
def test_a_printed_nic_reads_back_the_same(options: dict[str, str]) -> None:
    nic = NetDevice("virtio", "BC:24:11:00:00:01", options)
    assert NetDevice.parse(nic.print(), "") == nic


@given(st.integers(min_value=0, max_value=1 << 50))
def test_a_printed_size_reads_back_the_same(size: int) -> None:
    assert parse_size(print_size(size)) == size


@pytest.mark.parametrize("text", ["", "G", "1X", "-1G", "1 G"])
def test_bad_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="unable to parse size"):
        parse_size(text)


def test_all_spellings_of_a_nic_are_one() -> None:
    spelled = [
        "virtio=bc:24:11:00:00:01,tag=4",
        "model=virtio,macaddr=BC:24:11:00:00:01,tag=4",
        "tag=4,virtio=bc:24:11:00:00:01",
    ]
    assert {NetDevice.parse(s, "").print() for s in spelled} == {"virtio=BC:24:11:00:00:01,tag=4"}
    assert NetDevice.parse("virtio,tag=4", "BC:24:11:AA:BB:CC").mac == "BC:24:11:AA:BB:CC"


def test_kinds_of_drives() -> None:
    assert Drive.parse("local-lvm:cloudinit").is_cloudinit
    assert Drive.parse("tank:vm-4100-cloudinit,media=cdrom").is_cloudinit
    assert not Drive.parse("tank:vm-4100-disk-0").is_cloudinit
    assert Drive.parse("none,media=cdrom").is_cdrom
    assert Drive.parse("tank:50,ssd=1").wanted_gib == 50
    assert Drive.parse("tank:vm-4100-disk-0").wanted_gib is None


def test_keyed() -> None:
    assert keyed("1,fstrim_cloned_disks=1") == {"": "1", "fstrim_cloned_disks": "1"}
