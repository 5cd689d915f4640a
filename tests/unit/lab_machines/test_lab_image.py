"""The image cache and the host's packages, with a builder that builds nothing."""

import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from proxmox_swarm.lab import image, prerequisites
from proxmox_swarm.lab.image import build, cache, recipe


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cache.os, "geteuid", lambda: 0)
    return tmp_path


def fake_build(root: Path, made: Path, step: Callable[[str], None]) -> None:
    step("building")
    with (made / build.IMAGE).open("wb") as file:
        file.truncate(2 * build.GIB)
    (made / build.DOCKER).write_text("docker")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of two sparse GiB, hashed as if they were empty."""
    monkeypatch.setattr(build, "build", fake_build)
    monkeypatch.setattr(build, "GIB", 1 << 20)


@pytest.mark.usefixtures("quick")
def test_built_once_then_found() -> None:
    said: list[str] = []
    first = image.ensure(said.append)
    assert first.size_gib == 2
    assert first.sha512 == hashlib.sha512(first.path.read_bytes()).hexdigest()
    assert any("building" in line for line in said)
    said.clear()
    assert image.ensure(said.append) == first
    assert said == []
    assert image.docker_cli().read_text() == "docker"


@pytest.mark.usefixtures("quick")
def test_two_at_once_build_one(monkeypatch: pytest.MonkeyPatch) -> None:
    builds = []
    monkeypatch.setattr(build, "build", lambda *a: (builds.append(1), fake_build(*a)))
    threads = [threading.Thread(target=image.ensure, args=(lambda line: None,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builds == [1]


@pytest.mark.usefixtures("quick")
def test_a_killed_build_leaves_nothing_behind_the_next_one(home: Path) -> None:
    stale = cache.cache_root() / "building-x" / "root"
    stale.mkdir(parents=True)
    image.ensure(lambda line: None)
    assert not stale.parent.exists()


@pytest.mark.usefixtures("quick")
def test_images_nobody_used_for_long_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    def ensure(package: str) -> Path:
        monkeypatch.setattr(recipe, "PACKAGES", (package,))
        return image.ensure(lambda line: None).path

    old, recent = ensure("old"), ensure("recent")
    long_ago = time.time() - cache.UNUSED_FOR - 60
    os.utime(old, (long_ago, long_ago))
    new = ensure("new")
    assert [path.exists() for path in (old, recent, new)] == [False, True, True]
    os.utime(recent, (long_ago, long_ago))
    ensure("recent")
    ensure("another")
    assert recent.exists(), "it was used again meanwhile"


def test_a_failed_build_is_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise build.BuildError("no mirror")

    monkeypatch.setattr(build, "build", fail)
    with pytest.raises(image.ImageError, match="no mirror"):
        image.ensure(lambda line: None)
    with pytest.raises(image.ImageError, match="not built yet"):
        image.docker_cli()
    assert [path.name for path in cache.cache_root().iterdir()] == ["lock"]


def test_building_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache.os, "geteuid", lambda: 1000)
    with pytest.raises(image.ImageError, match="needs root"):
        image.ensure(lambda line: None)


def test_the_recipe_decides_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    before = recipe.fingerprint()
    assert before == recipe.fingerprint()
    monkeypatch.setattr(recipe, "PACKAGES", (*recipe.PACKAGES, "vim"))
    assert recipe.fingerprint() != before


def test_a_failure_names_the_cause_first() -> None:
    output = [
        "Get:1 ...",
        "E: Failed to fetch http://deb.example/InRelease  Temporary failure resolving",
        "E: x failed",
    ]
    first = build._failure("mmdebstrap", 25, output).splitlines()[0]
    assert "Failed to fetch http://deb.example/InRelease" in first
    assert "must reach the Debian mirror" in first
    assert "exit code 3" in build._failure("mke2fs", 3, ["boom"]).splitlines()[0]


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "PACKAGES", {"coreutils": "cat", "zebra": "no-such-program", "ant": "/no/file"})
    assert prerequisites.missing() == ["ant", "zebra"]


def test_elsewhere_than_debian_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = tmp_path / "os-release"
    release.write_text('ID="fedora"\n')
    monkeypatch.setattr(prerequisites, "OS_RELEASE", release)
    monkeypatch.setattr(prerequisites, "PACKAGES", {"zebra": "no-such-program"})
    with pytest.raises(prerequisites.PrerequisiteError, match=r"no-such-program \(zebra in Debian\)"):
        prerequisites.install(lambda line: None)


@pytest.mark.parametrize(
    "text", ["ID=debian\n", "ID=ubuntu\nID_LIKE=debian\n", 'ID=linuxmint\nID_LIKE="ubuntu debian"\n']
)
def test_debian_and_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "os-release").write_text(text)
    monkeypatch.setattr(prerequisites, "OS_RELEASE", tmp_path / "os-release")
    assert prerequisites._is_debian()


def test_nothing_missing_installs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "PACKAGES", {"coreutils": "cat"})
    monkeypatch.setattr(prerequisites, "_run", lambda *a, **k: pytest.fail("ran something"))
    prerequisites.install(lambda line: None)
