"""The small parts of a machine: command line, seed, disk names, cgroup layout."""

import stat
import subprocess
from pathlib import Path

import pytest

from proxmox_swarm.lab import network
from proxmox_swarm.lab.machines import cgroups, nspawn, seed
from proxmox_swarm.lab.machines.machine import by_id

HYBRID = """\
22 1 0:20 / / rw - ext4 /dev/vda rw
30 22 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
33 22 0:28 / /elsewhere rw - cgroup2 cgroup2 rw
"""
UNIFIED = "30 22 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_hierarchies_of_both_kinds_each_once(tmp_path: Path) -> None:
    file = tmp_path / "mountinfo"
    file.write_text(HYBRID)
    found = cgroups.hierarchies(file)
    assert [(str(h.path), h.unified) for h in found] == [
        ("/sys/fs/cgroup/memory", False),
        ("/sys/fs/cgroup/unified", True),
    ]
    file.write_text(UNIFIED)
    assert cgroups.hierarchies(file) == [cgroups.Hierarchy(Path("/sys/fs/cgroup"), True)]


def test_cgroups_are_made_in_every_hierarchy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    v1, v2 = tmp_path / "cpuset", tmp_path / "unified"
    v1.mkdir()
    v2.mkdir()
    monkeypatch.setattr(cgroups, "hierarchies", lambda: [cgroups.Hierarchy(v1, False), cgroups.Hierarchy(v2, True)])
    monkeypatch.setattr(cgroups, "_enable_controllers", lambda directory: None)
    groups = cgroups.Cgroups(tmp_path / "run")
    files = groups.create(4100)
    assert [file.name for file in files] == ["cgroup.procs"] * 2
    assert [file.parent.parent.parent for file in files] == [v1, v2]
    assert all(file.parent.name == "4100" for file in files)
    groups.create(4101)
    groups.remove(4100)
    assert [path.name for path in v1.glob("*/*")] == ["4101"]
    groups.remove()
    groups.remove()
    assert not [*v1.iterdir(), *v2.iterdir()]


def test_two_labs_never_share_a_cgroup(tmp_path: Path) -> None:
    assert cgroups.Cgroups(tmp_path / "a")._name != cgroups.Cgroups(tmp_path / "b")._name


@pytest.mark.parametrize(("legacy", "expected"), [(True, True), (False, False)])
def test_command_line(legacy: bool, expected: bool) -> None:
    devices = [(Path("/dev/loop3"), by_id(0, "abc"))]
    command = nspawn.command(
        Path("/root"), "vm1", "alpha", Path("/docker"), Path("/proc/1/fd/9"), devices, [Path("/c")], legacy
    )
    assert "--network-namespace-path=/proc/1/fd/9" in command
    assert "--hostname=alpha" in command
    assert "--machine=vm1" in command
    assert "--bind=/dev/loop3:/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_abc" in command
    assert ("SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1" in command[command.index("--boot") :]) is expected


def test_the_shell_enters_every_cgroup_before_it_becomes_nspawn(tmp_path: Path) -> None:
    files = [tmp_path / "one", tmp_path / "two"]
    start = ["sh", "-c", nspawn.ENTER_CGROUPS, "sh", "\n".join(map(str, files)), "sh", "-c", "echo $$"]
    pid = subprocess.check_output(start, text=True)
    assert [file.read_text() for file in files] == [pid, pid]


def test_a_cgroup_that_cannot_be_entered_stops_the_start(tmp_path: Path) -> None:
    start = ["sh", "-c", nspawn.ENTER_CGROUPS, "sh", str(tmp_path / "no" / "file"), "echo", "started"]
    done = subprocess.run(start, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""


def test_a_disk_is_named_as_udev_names_it() -> None:
    assert str(by_id(0, "data-1")) == "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data-1"
    assert str(by_id(0, None)) == "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_drive-scsi1"


def test_the_seed_is_replaced_and_private(tmp_path: Path) -> None:
    seed.write(tmp_path, {"meta-data": "a", "vendor-data": "old"})
    seed.write(tmp_path, {"meta-data": "b", "user-data": "u"})
    directory = tmp_path / seed.DIRECTORY
    assert {file.name: file.read_text() for file in directory.iterdir()} == {"meta-data": "b", "user-data": "u"}
    assert stat.S_IMODE((directory / "user-data").stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    seed.write(tmp_path, {})
    assert not directory.exists()


def test_every_address_of_the_lab_is_on_its_own_network() -> None:
    addresses = [address for group in network.ADDRESSES.values() for address in group]
    assert len(set(addresses)) == len(addresses)
    for vlan, group in network.ADDRESSES.items():
        assert all(address.startswith(f"192.168.{vlan}.") for address in group)
    assert {network.GATEWAY, network.REGISTRY, *network.DNS_SERVERS, *network.HOSTS.values()} <= set(addresses)


def test_names_of_network_cards_fit_the_kernel() -> None:
    assert network.Network.port(4100, 0) == "tap4100i0"
    assert len(network.Network.port(999999999, 9)) <= 15
