"""The program that installs Docker, with the real apt and dpkg of Debian 13, on packages that stand in for Docker's own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxmox_swarm.host.remote import docker_install
from proxmox_swarm.lab import image

VERSIONS = ("29.8.20", "29.8.2", "28.5.2")
#: In namespaces of its own, over a copy in memory of the lab's image: whatever it does is gone with it.
INSIDE = """
set -e
cd "$1"; mkdir lower over root; shift
mount -o loop,ro,noload "$1" lower; shift
mount -t tmpfs tmpfs over; mkdir over/up over/work
mount -t overlay overlay -o lowerdir=lower,upperdir=over/up,workdir=over/work root
mount -t proc proc root/proc
mkdir root/offered; mount --bind offered root/offered
chroot root sh -ec "$1"
"""
#: Docker of the image away; the program finds no repository but ours, no systemd, and an engine that answers.
BARE = """
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
apt-get -q -y purge docker.io docker-cli containerd runc >/dev/null
rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
install() {
  python3 -I -S -c '
import sys
sys.path.insert(0, "/offered")
import docker_install as program
from pathlib import Path
program.CLOUD_INIT = Path("/none")
program.answers = lambda: True
program.service = lambda verb: ""
program.add_repository = lambda _: program.SOURCE.write_text("deb [trusted=yes] file:/offered ./\\n")
program.main({"version": sys.argv[1] or None, "timeout": 60})
' "$1"
}
show() { dpkg-query -W -f '${Package} ${Version}\\n' docker-ce docker-ce-cli containerd.io; }
"""
ENGINE = "docker-ce 5:{0}-1~debian.13~trixie\ndocker-ce-cli 5:{0}-1~debian.13~trixie\n"
CONTAINERD = "containerd.io 2.2.0-1~debian.13~trixie\n"


def package(folder: Path, name: str, version: str, depends: str = "") -> str:
    """A package with nothing but (for the engine) a dockerd that tells its version; its paragraph for the index."""
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: a <a@example.org>\n"
    control += f"Depends: {depends}\n" if depends else ""
    (tree / "DEBIAN" / "control").write_text(f"{control}Description: stands in\n")
    if name == "docker-ce":
        dockerd = tree / "usr" / "bin" / "dockerd"
        dockerd.parent.mkdir(parents=True)
        dockerd.write_text(f"#!/bin/sh\necho Docker version {version.partition(':')[2].partition('-')[0]}, build x\n")
        dockerd.chmod(0o755)
    file = folder / f"{name}_{version.replace(':', '_')}.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, file], check=True, capture_output=True)
    shutil.rmtree(tree)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return (
        f"{control}Filename: ./{file.name}\nSize: {file.stat().st_size}\nSHA256: {digest}\nDescription: stands in\n\n"
    )


@pytest.fixture(scope="module")
def offered() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="proxmox-swarm-packages-", dir="/var/tmp"))
    place = folder / "offered"
    place.mkdir(mode=0o755)
    folder.chmod(0o755)
    index = package(place, "containerd.io", "2.2.0-1~debian.13~trixie")
    for version in VERSIONS:
        full = f"5:{version}-1~debian.13~trixie"
        index += package(place, "docker-ce", full, "docker-ce-cli, containerd.io") + package(
            place, "docker-ce-cli", full
        )
    (place / "Packages").write_text(index)
    shutil.copy(docker_install.__file__, place)
    yield place
    shutil.rmtree(folder)


def on_debian(offered: Path, script: str) -> str:
    """Run a script on a Debian 13 without Docker; its output."""
    with tempfile.TemporaryDirectory(dir=offered.parent) as work:
        (Path(work) / "offered").symlink_to(offered)
        source = image.ensure(lambda _: None).path
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "sh", "-c", INSIDE, "sh", work, str(source), BARE + script],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env={"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"},
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_version_that_is_wanted_and_no_other_for_good(offered: Path) -> None:
    said = on_debian(offered, "install 29.8.2; show; apt-mark showhold; apt-get -q -y upgrade >/dev/null; show")
    held = "containerd.io\ndocker-ce\ndocker-ce-cli\n"
    assert said == f"{CONTAINERD}{ENGINE.format('29.8.2')}{held}{CONTAINERD}{ENGINE.format('29.8.2')}"


def test_after_a_kill_it_is_gone_through_again_and_means_what_is_wanted_then(offered: Path) -> None:
    script = f"install ''; show; touch {docker_install.UNFINISHED}; install 28.5.2; show; apt-mark showhold | wc -l"
    said = on_debian(offered, script)
    assert said == f"{CONTAINERD}{ENGINE.format('29.8.20')}{CONTAINERD}{ENGINE.format('28.5.2')}3\n"


def test_packages_that_a_kill_left_unpacked_are_finished(offered: Path) -> None:
    script = (
        "dpkg --unpack /offered/docker-ce-cli_5_29.8.2-1~debian.13~trixie.deb >/dev/null; "
        f"mkdir -p {docker_install.UNFINISHED.parent}; touch {docker_install.UNFINISHED}; install 29.8.2; show; "
        f"ls {docker_install.UNFINISHED.parent}"
    )
    assert on_debian(offered, script) == f"{CONTAINERD}{ENGINE.format('29.8.2')}"


def test_a_version_that_is_not_there_installs_nothing(offered: Path) -> None:
    said = on_debian(offered, "install 29.8.3 2>&1 || true; show 2>&1 || true")
    assert "there is no docker-ce 29.8.3 for debian trixie" in said and "29.8.20, 29.8.2, 28.5.2" in said
    assert "no packages found matching docker-ce" in said
