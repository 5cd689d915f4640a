"""The life of a lab: starting it twice, running things inside, killing it in every way, leaving nothing."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxmox_swarm.lab import Lab, LabError, image
from proxmox_swarm.lab.control import Client, ControlError, NotRunningError

CALL = """
import json, os, sys, requests
method, path, parameters = json.loads(sys.argv[1])
headers = {"Authorization": "PVEAPIToken=" + os.environ["PROXMOX_VE_API_TOKEN"]}
url = f"https://pve02:8006/api2/json/{path}"
sent = {"params": parameters} if method in ("GET", "DELETE") else {"data": parameters}
answer = requests.request(method, url, headers=headers, timeout=30, **sent)
print(json.dumps({"status": answer.status_code, "reason": answer.reason, "data": answer.json().get("data")}))
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    made = Lab(Path(tempfile.mkdtemp(prefix="proxmox-swarm-lab-", dir="/var/tmp")))
    try:
        made.up()
        yield made
    finally:
        made.down()
        assert leftovers(made) == []
        shutil.rmtree(made.paths.root)


def leftovers(lab: Lab) -> list[str]:
    """Whatever of a lab still runs, is mounted, or is attached."""
    root = str(lab.paths.root)
    found = [line for line in Path("/proc/mounts").read_text().splitlines() if root in line]
    found += [
        line
        for line in subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout.splitlines()
        if root in line
    ]
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            mounts = (directory / "mountinfo").read_text() if int(directory.name) != os.getpid() else ""
        except (OSError, ValueError):
            continue
        if root in command or root in mounts:
            found.append(f"{directory.name} {command}")
    return found


def call(lab: Lab, method: str, path: str, **parameters: Any) -> dict[str, Any]:
    done = lab.exec(["python3", "-c", CALL, json.dumps([method, path, parameters])])
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def task(lab: Lab, method: str, path: str, **parameters: Any) -> str:
    upid = call(lab, method, path, **parameters)["data"]
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        status = call(lab, "GET", f"nodes/{upid.split(':')[1]}/tasks/{upid}/status")["data"]
        if status["status"] == "stopped":
            return str(status["exitstatus"])
    raise AssertionError(f"{upid} does not end")


def until(what: str, seconds: float, check: Any) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.2)


def daemon(lab: Lab) -> int:
    return Client(lab.paths.control).pid()


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_starting_it_twice_is_harmless(lab: Lab) -> None:
    pid, token, ca = daemon(lab), lab.paths.token.read_text(), lab.paths.ca.read_text()
    lines: list[str] = []
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: lab.up(lines.append), range(4)))
    assert daemon(lab) == pid
    assert lines == ["lab       runs already"] * 4
    assert (lab.paths.token.read_text(), lab.paths.ca.read_text()) == (token, ca)


def test_it_starts_fast() -> None:
    other = Lab(Path(tempfile.mkdtemp(prefix="proxmox-swarm-lab-", dir="/var/tmp")))
    try:
        began = time.monotonic()
        other.up()
        assert time.monotonic() - began < 6  # 1 s on a quiet machine; others may be at work here
    finally:
        other.down()
        shutil.rmtree(other.paths.root)


def test_exec_passes_input_output_and_exit_status(lab: Lab) -> None:
    done = lab.exec(["sh", "-c", "cat; echo err >&2; exit 7"], check=False, input="given")
    assert (done.returncode, done.stdout, done.stderr) == (7, "given", "err\n")
    command = [str(Path(sys.prefix) / "bin" / "lab"), "exec", "--", "sh", "-c", "cat; exit 9"]
    environment = {**os.environ, "PROXMOX_SWARM_LAB": str(lab.paths.root)}
    cli = subprocess.run(command, input="x", capture_output=True, text=True, env=environment, check=False)
    assert (cli.returncode, cli.stdout) == (9, "x")


def test_names_and_services_exist_only_inside(lab: Lab) -> None:
    before = Path("/etc/resolv.conf").read_text()
    names = lab.exec(["getent", "hosts", "pve01", "pve03.lab", "registry"]).stdout.split()
    assert names[::2] == ["192.168.2.11", "192.168.2.13", "192.168.2.20"]
    assert lab.exec(["getent", "hosts", "example.org"], check=False).returncode == 2
    assert "192.168.2.4" in lab.exec(["cat", "/etc/resolv.conf"]).stdout
    assert Path("/etc/resolv.conf").read_text() == before
    assert lab.exec(["curl", "-sf", "http://registry:5000/v2/"]).stdout.strip() == "{}"
    show = ["ip", "-o", "-4", "address"]
    assert "192.168.2.11/" in lab.exec(show).stdout
    assert "192.168.2.11/" not in subprocess.run(show, capture_output=True, text=True, check=True).stdout


def test_the_api_speaks_tls_1_3_with_the_labs_own_authority(lab: Lab) -> None:
    assert call(lab, "GET", "version")["data"]["release"] == "9.2"
    old = lab.exec(["curl", "-s", "--tls-max", "1.2", "https://pve01:8006/"], check=False)
    assert old.returncode == 35
    stranger = lab.exec(["curl", "-s", "--cacert", "/dev/null", "https://pve01:8006/"], check=False)
    assert stranger.returncode in (60, 77)


def test_secrets_are_private(lab: Lab) -> None:
    token = lab.paths.token.read_text().strip().rpartition("=")[2]
    for path in lab.paths.log.iterdir():
        assert token not in path.read_text(errors="replace"), path
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            assert token.encode() not in (directory / "cmdline").read_bytes()
        except OSError:
            continue
    assert oct(lab.paths.root.stat().st_mode)[-3:] == "700"


def test_two_labs_do_not_see_each_other(lab: Lab) -> None:
    other = Lab(Path(tempfile.mkdtemp(prefix="proxmox-swarm-lab-", dir="/var/tmp")))
    try:
        other.up()
        assert task(other, "POST", "nodes/pve01/qemu", vmid=100, name="other") == "OK"
        assert [m["name"] for m in other.status()["machines"]] == ["other"]
        assert call(lab, "GET", "cluster/resources", type="vm")["data"] == []
        assert other.paths.token.read_text() != lab.paths.token.read_text()
    finally:
        other.down()
        assert leftovers(other) == []
        shutil.rmtree(other.paths.root)
    assert lab.running()


def test_a_host_down_drops_connections(lab: Lab) -> None:
    lab.faults.add("api-down", host="pve03")
    try:
        dropped = lab.exec(["curl", "-s", "https://pve03:8006/api2/json/version"], check=False)
        assert dropped.returncode in (52, 56)
        assert call(lab, "GET", "nodes/pve03/status")["status"] == 595
    finally:
        lab.faults.clear()
    assert call(lab, "GET", "nodes/pve03/status")["status"] == 200
    with pytest.raises(ControlError, match="no fault 'nonsense'"):
        lab.faults.add("nonsense")  # type: ignore[arg-type]


def image_of(lab: Lab) -> dict[str, Any]:
    """What the lab's settings declare as the image."""
    found: dict[str, Any] = yaml.safe_load(lab.paths.settings.read_text())["proxmox"]["image"]
    return found


def test_an_image_that_changes_while_it_runs_can_be_had_at_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    pid, before = daemon(lab), image_of(lab)
    other = lab.paths.root / "other.raw"
    other.write_bytes(b"another image")
    digest = hashlib.sha512(other.read_bytes()).hexdigest()
    with monkeypatch.context() as patch:
        patch.setattr(image, "ensure", lambda report: image.Image(other, digest, 2))
        lab.up()
    try:
        after = image_of(lab)
        assert daemon(lab) == pid and after["sha512"] == digest != before["sha512"]
        for found, content in ((after, b"another image"), (before, None)):
            fetched = lab.exec(["curl", "-sf", "--range", "0-12", found["url"]], text=False).stdout
            assert fetched == content if content else len(fetched) == 13
            wanted = {"url": found["url"], "checksum": found["sha512"], "checksum-algorithm": "sha512"}
            name = f"{found['sha512'][:6]}.raw"
            done = task(
                lab, "POST", "nodes/pve02/storage/local/download-url", content="import", filename=name, **wanted
            )
            assert done == "OK"
            volume = f"nodes/pve02/storage/local/content/local:import%2F{name}"
            assert call(lab, "DELETE", volume)["status"] == 200
    finally:
        lab.up()
    assert (daemon(lab), image_of(lab)) == (pid, before)


@pytest.fixture(scope="module")
def machine(lab: Lab) -> Lab:
    """VM 4100 from the image, with a data disk of VM 4700, booted."""
    declared = image_of(lab)
    public_key = lab.paths.identity.with_suffix(".pub").read_text().strip()
    snippet = (
        "#cloud-config\nhostname: one\nmanage_etc_hosts: localhost\nusers:\n  - name: ansible\n"
        f"    sudo: ALL=(ALL) NOPASSWD:ALL\n    ssh_authorized_keys: ['{public_key}']\n"
    )
    batch = lab.paths.home / "one.yaml"
    batch.write_text(snippet)
    lab.exec(
        ["sftp", "-F", str(lab.paths.ssh_config), "-b", "-", "root@pve01"],
        input=f"put {batch} /var/lib/vz/snippets/one.yaml\n",
    )
    download = {
        "content": "import", "filename": "debian.raw", "url": declared["url"], "checksum": declared["sha512"],
        "checksum-algorithm": "sha512",
    }  # fmt: skip
    assert task(lab, "POST", "nodes/pve01/storage/local/download-url", **download) == "OK"
    assert task(lab, "POST", "nodes/pve01/qemu", vmid=4700, name="one-data", scsi0="tank:2") == "OK"
    created = task(
        lab, "POST", "nodes/pve01/qemu", vmid=4100, name="one", onboot=1, agent="1", memory=512, tags="swarm-test",
        scsi0="tank:0,import-from=local:import/debian.raw", scsi1="tank:vm-4700-disk-0,serial=precious",
        net0="virtio=BC:24:11:04:00:1E,bridge=vmbr0,tag=4", ipconfig0="ip=192.168.4.30/24,gw=192.168.4.1",
        ide2="tank:cloudinit", cicustom="user=local:snippets/one.yaml", nameserver="192.168.2.4",
    )  # fmt: skip
    assert created == "OK"
    assert task(lab, "POST", "nodes/pve01/qemu/4100/status/start") == "OK"
    until("the guest agent", 60, lambda: agent(lab) == 200)
    return lab


def agent(lab: Lab) -> int:
    return int(call(lab, "POST", "nodes/pve01/qemu/4100/agent/ping")["status"])


def status(lab: Lab) -> str:
    return str(call(lab, "GET", "nodes/pve01/qemu/4100/status/current")["data"]["status"])


def ssh(lab: Lab, command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    words = ["ssh", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    return lab.exec([*words, "-o", "ConnectTimeout=5", "ansible@one", command], check=check)


def test_a_machine_is_what_its_configuration_says(machine: Lab) -> None:
    until("login", 30, lambda: ssh(machine, "true", check=False).returncode == 0)
    assert ssh(machine, "hostname").stdout == "one\n"
    assert ssh(machine, "ls /dev/disk/by-id").stdout.split() == ["scsi-0QEMU_QEMU_HARDDISK_precious"]
    nics = call(machine, "GET", "nodes/pve01/qemu/4100/agent/network-get-interfaces")["data"]["result"]
    eth0 = next(nic for nic in nics if nic["name"] == "eth0")
    assert eth0["hardware-address"] == "bc:24:11:04:00:1e"
    assert "192.168.4.30" in {a["ip-address"] for a in eth0["ip-addresses"]}
    assert ssh(machine, "getent hosts pve02").stdout.split()[0] == "192.168.2.12"
    write = "sudo mkfs.ext4 -q /dev/disk/by-id/*precious && sudo mount /dev/disk/by-id/*precious /mnt && "
    ssh(machine, write + "echo kept | sudo tee /mnt/file && sudo umount /mnt")


def test_programs_run_through_the_guest_agent(machine: Lab) -> None:
    base = "nodes/pve01/qemu/4100/agent"
    pid = call(machine, "POST", f"{base}/exec", command=["sh", "-c", "echo out; exit 3"])["data"]["pid"]
    result: dict[str, Any] = {}

    def ended() -> bool:
        result.update(call(machine, "GET", f"{base}/exec-status", pid=pid)["data"])
        return bool(result["exited"])

    until("the program", 10, ended)
    assert (result["exitcode"], result["out-data"]) == (3, "out\n")
    assert call(machine, "GET", f"{base}/file-read", file="/etc/hostname")["data"]["content"] == "one\n"


def test_a_cut_cable_and_a_crash(machine: Lab) -> None:
    machine.faults.cut(4100)
    assert ssh(machine, "true", check=False).returncode == 255
    assert agent(machine) == 200  # not over the network
    machine.faults.mend(4100)
    until("the network", 20, lambda: ssh(machine, "true", check=False).returncode == 0)
    machine.faults.crash(4100)
    assert status(machine) == "stopped"
    assert task(machine, "POST", "nodes/pve01/qemu/4100/status/start") == "OK"
    until("the guest agent", 60, lambda: agent(machine) == 200)


def test_powering_off_from_inside_stops_the_vm(machine: Lab) -> None:
    until("login", 30, lambda: ssh(machine, "true", check=False).returncode == 0)
    ssh(machine, "sudo systemctl poweroff", check=False)  # the connection may end first
    until("power off", 30, lambda: status(machine) == "stopped")
    assert task(machine, "POST", "nodes/pve01/qemu/4100/status/start") == "OK"


@pytest.mark.parametrize("victim", ["the daemon", "its init", "its unshare", "all of it, politely"])
def test_whatever_ends_the_lab_nothing_is_left_and_it_comes_back(machine: Lab, victim: str) -> None:
    lab = machine
    until("the machine", 30, lambda: status(lab) == "running")
    pid = daemon(lab)
    init = parent(pid)
    victims = {"the daemon": pid, "its init": init, "its unshare": parent(init)}
    if victim in victims:
        os.kill(victims[victim], signal.SIGKILL)
    else:
        assert lab.down() is True
    until("the end", 15, lambda: leftovers(lab) == [])
    assert not lab.running()
    with pytest.raises(NotRunningError):
        lab.status()
    lab.up()
    # it has `onboot`, so it is started as when a host boots, with all it had
    until("the guest agent", 60, lambda: agent(lab) == 200)
    until("login", 30, lambda: ssh(lab, "true", check=False).returncode == 0)
    assert ssh(lab, "sudo mount /dev/disk/by-id/*precious /mnt && cat /mnt/file && sudo umount /mnt").stdout == "kept\n"


def test_no_answer_broke_the_official_schema(machine: Lab) -> None:
    counts = machine.stats()
    assert counts["violations"] == []
    assert counts["requests"] > 0


def test_purge_forgets_machines_and_keeps_credentials(machine: Lab) -> None:
    token = machine.paths.token.read_text()
    assert machine.down(purge=True) is True
    assert machine.down() is False
    assert leftovers(machine) == []
    assert not machine.paths.storage.exists()
    machine.up()
    assert machine.status()["machines"] == []
    assert machine.paths.token.read_text() == token


def test_a_lab_that_cannot_start_says_why(tmp_path: Path) -> None:
    broken = Lab(tmp_path / "lab")
    broken.paths.make()
    (broken.paths.pve / "state.json").write_text("{")
    with pytest.raises(LabError, match="the lab does not start"):
        broken.up()
    assert leftovers(broken) == []
