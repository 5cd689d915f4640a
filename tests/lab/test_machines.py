"""Two real machines in namespaces of their own: what they are, what survives, what is left."""

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from proxmox_swarm.lab import image, machines

pytestmark = pytest.mark.timeout(600)

NODES = {4100: ("alpha", 30), 4101: ("beta", 31)}
GIB = 1 << 30
DISK = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data-{}"
NAMESPACES = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc"]
# What a host has that boots with cgroup v2 alone.
UNIFIED = 'umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"'


def until(what: str, seconds: float, attempt: Callable[[], object]) -> object:
    """The first true result; fails with ``what`` after the deadline."""
    deadline = time.monotonic() + seconds
    while not (result := attempt()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return result


class Lab:
    """The driver in its namespaces, the keys, the specs of both machines."""

    def __init__(self, directory: Path, unified: bool = False) -> None:
        self.directory, self.run = directory, directory / "run"
        self.run.mkdir()
        for name in ("user", "alpha", "beta"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", directory / name], check=True
            )
        self.image = image.ensure(print)
        self.process = subprocess.Popen(
            [
                *NAMESPACES,
                *(["sh", "-c", UNIFIED, "sh"] if unified else []),
                sys.executable,
                str(Path(__file__).with_name("machines_driver.py")),
                str(self.run),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.daemon = int(str(until("the driver starts", 10, lambda: children(self.process.pid))).strip("[]"))

    def ask(self, action: str, **arguments: object) -> object:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps({"do": action, **arguments}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["ok"]

    def start(self, vmid: int) -> None:
        self.ask("start", spec_=self.spec(vmid))

    def spec(self, vmid: int) -> dict[str, object]:
        name, last = NODES[vmid]
        disk = self.directory / f"{name}.raw"
        if not disk.exists():
            disk.touch()
            os.truncate(disk, GIB)
        return {
            "vmid": vmid,
            "name": name,
            "volume": str(self.directory / f"vm-{vmid}"),
            "image": str(self.image.path),
            "nics": [{"bridge": "vmbr0", "vlan": vlan, "mac": mac(vlan, last)} for vlan in (4, 12)],
            "disks": [{"path": str(disk), "serial": f"data-{name}", "size": GIB}],
            "seed": {
                "meta-data": f"instance-id: {name}-1\n",
                "user-data": self.user_data(name),
                "network-config": network_config(last),
            },
        }

    def user_data(self, name: str) -> str:
        return "#cloud-config\n" + json.dumps(
            {
                "hostname": name,
                "manage_etc_hosts": "localhost",
                "users": [
                    {
                        "name": "ansible",
                        "sudo": "ALL=(ALL) NOPASSWD:ALL",
                        "shell": "/bin/bash",
                        "ssh_authorized_keys": [(self.directory / "user.pub").read_text().strip()],
                    }
                ],
                "ssh_keys": {
                    "ed25519_private": (self.directory / name).read_text(),
                    "ed25519_public": (self.directory / f"{name}.pub").read_text(),
                },
                "runcmd": [["touch", "/run/runcmd-ran"]],
            }
        )

    def ssh(self, vmid: int, command: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        last = NODES[vmid][1]
        known = self.directory / "known_hosts"
        known.write_text(
            "".join(f"192.168.4.{n} {(self.directory / f'{k}.pub').read_text()}" for k, n in NODES.values())
        )
        options = {
            "IdentityFile": self.directory / "user",
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": known,
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": 2,
            "LogLevel": "ERROR",
        }
        arguments = [f"-o{key}={value}" for key, value in options.items()]
        target = ["ssh", *arguments, f"ansible@192.168.4.{last}", command]
        enter = ["nsenter", f"--net=/proc/{self.daemon}/ns/net"]
        return subprocess.run([*enter, *target], capture_output=True, input=stdin, timeout=60, check=False)

    def sh(self, vmid: int, command: str, stdin: bytes | None = None) -> str:
        done = self.ssh(vmid, command, stdin)
        assert done.returncode == 0, f"{command}: {done.stderr.decode()}"
        return done.stdout.decode().strip()

    def wait_for_ssh(self, vmid: int) -> None:
        until(f"SSH to {vmid}", 60, lambda: self.ssh(vmid, "true").returncode == 0)

    def wait_for_docker(self, vmid: int) -> None:
        until(f"dockerd of {vmid}", 60, lambda: self.ssh(vmid, "sudo docker info").returncode == 0)

    def end(self) -> None:
        if self.process.poll() is None:
            os.kill(self.daemon, signal.SIGKILL)
        self.process.wait(timeout=10)
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()


def mac(vlan: int, last: int) -> str:
    return f"bc:24:11:{vlan:02x}:00:{last:02x}"


def network_config(last: int) -> str:
    def card(index: int, vlan: int, **more: str) -> dict[str, object]:
        subnet = {"type": "static", "address": f"192.168.{vlan}.{last}", "netmask": "255.255.255.0", **more}
        return {"type": "physical", "name": f"eth{index}", "mac_address": mac(vlan, last), "subnets": [subnet]}

    servers = {"type": "nameserver", "address": ["192.168.2.4"], "search": ["lab.example"]}
    return json.dumps({"version": 1, "config": [card(0, 4, gateway="192.168.4.1"), card(1, 12), servers]})


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def processes_of(run: Path) -> set[int]:
    """Every process in a cgroup of the lab with this run directory."""
    found = set()
    for top in cgroups_of(run):
        for file in top.rglob("cgroup.procs"):
            found |= {int(pid) for pid in file.read_text().split()}
    return found


def cgroups_of(run: Path) -> list[Path]:
    name = machines.cgroups.Cgroups(run)._name
    return [path for h in machines.cgroups.hierarchies() if (path := h.path / name).exists()]


def loops_of(directory: Path) -> list[str]:
    listed = subprocess.run(["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"], capture_output=True)
    return [line for line in listed.stdout.decode().splitlines() if str(directory) in line]


def mounts_of(directory: Path) -> list[str]:
    """Mounts of the directory in any process's mount namespace."""
    found = []
    for file in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            found += [line for line in file.read_text().splitlines() if str(directory) in line]
        except OSError:
            continue
    return found


def network_namespaces(pids: Iterable[int]) -> set[str]:
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):  # ended meanwhile, or not ours to read
            found.add(str(Path(f"/proc/{pid}/ns/net").readlink()))
    return found


def all_processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("machines"))
    try:
        for vmid in NODES:
            lab.start(vmid)
        for vmid in NODES:
            lab.wait_for_ssh(vmid)
        yield lab
    finally:
        lab.end()
        machines.clean(lab.run)


def test_first_boot_does_what_the_seed_says(lab: Lab) -> None:
    for vmid, (name, _) in NODES.items():
        # the connection itself shows the user, its key, and that sshd presents the host key of the seed
        assert lab.sh(vmid, "sudo -n id -un; hostname") == f"root\n{name}"
        until("runcmd", 30, lambda vmid=vmid: lab.ssh(vmid, "test -e /run/runcmd-ran").returncode == 0)
        assert lab.sh(vmid, "cloud-init status --wait").endswith("status: done")
        assert lab.sh(vmid, "ls /etc/ssh/ssh_host_*_key.pub") == "/etc/ssh/ssh_host_ed25519_key.pub"
    assert lab.sh(4100, "cat /etc/machine-id") != lab.sh(4101, "cat /etc/machine-id")


def test_both_cards_have_their_addresses(lab: Lab) -> None:
    shown = json.loads(lab.sh(4101, "ip -json -4 address"))
    got = {
        link["ifname"]: [a["local"] for a in link["addr_info"]] for link in shown if link["ifname"].startswith("eth")
    }
    assert got == {"eth0": ["192.168.4.31"], "eth1": ["192.168.12.31"]}
    assert lab.sh(4101, "ip -json route show default | grep -o 192.168.4.1") == "192.168.4.1"
    assert (
        lab.sh(4101, "ping -c1 -W2 192.168.12.30 >/dev/null && ping -c1 -W2 192.168.2.4 >/dev/null && echo both")
        == "both"
    )
    assert "192.168.2.4" in lab.sh(4101, "resolvectl dns eth0")
    assert "search lab.example" in lab.sh(4101, "cat /etc/resolv.conf")


def test_guest_agent_is_the_real_one(lab: Lab) -> None:
    assert lab.ask("agent", vmid=4100, command="ping") == {}
    assert lab.ask("agent", vmid=4100, command="guest-get-osinfo")["id"] == "debian"
    cards = lab.ask("agent", vmid=4100, command="network-get-interfaces")
    eth0 = next(card for card in cards if card["name"] == "eth0")
    assert eth0["hardware-address"] == mac(4, 30)
    address = {"ip-address": "192.168.4.30", "ip-address-type": "ipv4", "prefix": 24}
    assert address in eth0["ip-addresses"]
    handle = lab.ask("agent", vmid=4100, command="guest-file-open", arguments={"path": "/etc/hostname"})
    read = lab.ask("agent", vmid=4100, command="guest-file-read", arguments={"handle": handle})
    assert base64.b64decode(read["buf-b64"]) == b"alpha\n"
    with pytest.raises(RuntimeError, match="AgentError"):
        lab.ask("agent", vmid=4100, command="guest-no-such-command")
    with pytest.raises(RuntimeError, match="AgentNotRunning"):
        lab.ask("agent", vmid=9999, command="ping")


def run_container(lab: Lab) -> None:
    lab.wait_for_docker(4100)
    assert lab.sh(4100, "sudo docker version -f '{{.Server.Version}}'").startswith("26.1")
    assert lab.sh(4100, "sudo docker info -f '{{.Driver}}'") == "overlay2"
    # an image of this machine's own shell: no registry needed
    files = "$(ldd /usr/bin/dash | grep -o '/[^ ]*') /usr/bin/dash"
    lab.sh(4100, f"tar -ch {files} | sudo docker import - shell >/dev/null")
    said = lab.sh(4100, "sudo docker run --rm --memory 64m --pids-limit 20 shell /usr/bin/dash -c 'echo hello'")
    assert said == "hello"


def test_docker_runs_containers_with_limits(lab: Lab) -> None:
    run_container(lab)
    assert lab.sh(4100, "sudo docker info -f '{{.MemoryLimit}}'") == "true"


def test_two_machines_make_a_swarm(lab: Lab) -> None:
    for vmid in NODES:
        lab.wait_for_docker(vmid)
    lab.sh(4100, "sudo docker swarm init --advertise-addr 192.168.4.30")
    token = lab.sh(4100, "sudo docker swarm join-token -q worker")
    lab.sh(4101, "read token; sudo docker swarm join --token $token 192.168.4.30:2377", stdin=token.encode() + b"\n")
    ready = "sudo docker node ls --format '{{.Hostname}} {{.Status}}' | sort"
    until("both nodes ready", 30, lambda: lab.sh(4100, ready) == "alpha Ready\nbeta Ready")


def test_an_unplugged_cable_cuts_one_network(lab: Lab) -> None:
    lab.ask("set_link", vmid=4101, nic=0, up=False)
    assert lab.ssh(4101, "true").returncode == 255
    assert lab.sh(4100, "ping -c1 -W2 192.168.12.31 >/dev/null && echo storage") == "storage"
    lab.ask("set_link", vmid=4101, nic=0, up=True)
    lab.wait_for_ssh(4101)


def test_a_file_on_the_data_disk_survives_a_crash(lab: Lab) -> None:
    disk = DISK.format("alpha")
    lab.sh(4100, f"sudo mkfs.ext4 -q {disk} && sudo mkdir -p /mnt/data && sudo mount {disk} /mnt/data")
    assert lab.sh(4100, f"sudo blkid -s TYPE -o value {disk}") == "ext4"
    lab.sh(4100, f"echo '{disk} /mnt/data ext4 defaults 0 2' | sudo tee -a /etc/fstab >/dev/null")
    lab.sh(4100, "echo precious | sudo tee /mnt/data/file >/dev/null && sync")
    lab.ask("kill", vmid=4100)
    assert lab.ask("pid", vmid=4100) is None
    assert not [line for line in loops_of(lab.directory) if "alpha.raw" in line]
    lab.start(4100)
    lab.wait_for_ssh(4100)
    until("fstab's mount", 20, lambda: lab.ssh(4100, "mountpoint -q /mnt/data").returncode == 0)
    assert lab.sh(4100, "cat /mnt/data/file") == "precious"
    ready = "sudo docker node ls --format '{{.Hostname}} {{.Status}}' | sort"
    until("the swarm is whole", 60, lambda: lab.ssh(4100, ready).stdout == b"alpha Ready\nbeta Ready\n")


def test_reboot_from_inside_comes_back(lab: Lab) -> None:
    before = lab.sh(4101, "cat /proc/sys/kernel/random/boot_id"), lab.ask("pid", vmid=4101)
    lab.ssh(4101, "sudo systemctl reboot")
    until(
        "another boot",
        60,
        lambda: lab.ssh(4101, "cat /proc/sys/kernel/random/boot_id").stdout.decode().strip() not in (before[0], ""),
    )
    assert lab.ask("pid", vmid=4101) not in (before[1], None)
    assert lab.ask("agent", vmid=4101, command="ping") == {}
    lab.wait_for_docker(4101)
    assert lab.sh(4101, f"sudo test -b {DISK.format('beta')} && echo there") == "there"
    assert lab.ask("exits") == []


def test_power_off_from_inside_and_outside(lab: Lab) -> None:
    lab.ssh(4101, "sudo systemctl poweroff")
    until("the exit is noticed", 30, lambda: lab.ask("exits") == [4101])
    assert lab.ask("pid", vmid=4101) is None
    lab.start(4101)
    with pytest.raises(RuntimeError, match="4101 is running already"):
        lab.start(4101)
    lab.wait_for_ssh(4101)
    started = time.monotonic()
    lab.ask("shutdown", vmid=4101, timeout=60)
    assert time.monotonic() - started < 30, "killed at the deadline instead of powered off"
    assert lab.ask("exits") == [4101]
    lab.start(4101)


def test_an_empty_volume_is_a_fresh_machine(lab: Lab) -> None:
    lab.wait_for_ssh(4101)
    lab.sh(4101, "sudo touch /etc/mark")
    lab.ask("kill", vmid=4101)
    subprocess.run(["rm", "-rf", lab.directory / "vm-4101"], check=True)
    lab.start(4101)
    lab.wait_for_ssh(4101)
    assert lab.ssh(4101, "test -e /etc/mark").returncode == 1


def test_close_leaves_nothing(lab: Lab) -> None:
    assert processes_of(lab.run)
    assert loops_of(lab.directory)
    lab.ask("close")
    assert (processes_of(lab.run), cgroups_of(lab.run), loops_of(lab.directory)) == (set(), [], [])
    assert mounts_of(lab.directory) == []
    enter = ["nsenter", f"--net=/proc/{lab.daemon}/ns/net", "ip", "-brief", "link"]
    links = {line.split()[0] for line in subprocess.check_output(enter, text=True).splitlines()}
    assert links == {"lo", "vlan2", "vlan4", "vlan12"}


def test_death_of_the_daemon_leaves_nothing(lab: Lab) -> None:
    for vmid in NODES:
        lab.start(vmid)
    lab.wait_for_ssh(4101)
    running = processes_of(lab.run)
    assert len(running) > len(NODES)
    ours = network_namespaces([lab.daemon, *running])
    assert len(ours) == 1 + len(NODES)
    os.kill(lab.daemon, signal.SIGKILL)
    lab.process.wait(timeout=10)
    until("all processes end", 10, lambda: not processes_of(lab.run))
    until("loop devices detach", 10, lambda: not loops_of(lab.directory))
    assert mounts_of(lab.directory) == []
    assert not ours & network_namespaces(all_processes())
    machines.clean(lab.run)
    assert cgroups_of(lab.run) == []


@pytest.mark.skipif(machines.cgroups.unified(), reason="every test here ran on cgroup v2 alone")
def test_cgroup_v2_alone(tmp_path: Path) -> None:
    lab = Lab(tmp_path, unified=True)
    try:
        lab.start(4100)
        run_container(lab)
        assert lab.sh(4100, "sudo docker info -f '{{.CgroupVersion}} {{.CgroupDriver}}'") == "2 systemd"
        lab.sh(4100, "sudo systemctl reboot || true")
        until("the agent is gone", 20, lambda: not agent_answers(lab))
        until("the agent is back", 60, lambda: agent_answers(lab))
        lab.wait_for_docker(4100)
        lab.ask("close")
        assert cgroups_of(lab.run) == []
    finally:
        lab.end()
        machines.clean(lab.run)


def agent_answers(lab: Lab) -> bool:
    try:
        return lab.ask("agent", vmid=4100, command="ping", timeout=1) == {}
    except RuntimeError:
        return False
