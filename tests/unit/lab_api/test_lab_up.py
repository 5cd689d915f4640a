"""`lab up` and the machine image: the settings name what the lab serves, also when the image changes while it runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession

from proxmox_swarm.lab import Lab, LabError, image, namespace, prerequisites, workspace
from proxmox_swarm.lab.control import ControlError, NotRunningError
from proxmox_swarm.lab.image import Image
from proxmox_swarm.lab.services import ImageServer


class Daemon:
    """The daemon's side of the control socket, and of its start."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.runs = False
        self.refuses = ""
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.at_each: Callable[[], None] = lambda: None

    def pid(self) -> int:
        if not self.runs:
            raise NotRunningError("not running")
        return 1

    def ask(self, command: str, timeout: float = 10.0, **arguments: Any) -> Any:
        self.at_each()
        if command == "image" and self.refuses:
            raise ControlError(self.refuses)
        self.asked.append((command, arguments))
        return "done"

    def start(self, _: Any) -> None:
        assert not self.runs
        self.runs = True


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "lab")


@pytest.fixture
def daemon(lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Daemon:
    made = Daemon(lab)
    monkeypatch.setattr(lab, "_client", made)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(prerequisites, "missing", list)
    monkeypatch.setattr(namespace, "end", lambda _: False)
    monkeypatch.setattr(namespace, "start", made.start)
    monkeypatch.setattr(workspace.image, "docker_cli", lambda: tmp_path / "docker")
    return made


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Image]:
    """From now on the recipe gives another image, told by the digits of its digest."""

    def change(digits: str) -> Image:
        path = tmp_path / f"{digits}.raw"
        path.write_text(digits)
        made = Image(path, digits * 64, 2)
        monkeypatch.setattr(image, "ensure", lambda report: made)
        return made

    return change


def declared(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(lab.paths.settings.read_text())["proxmox"]["image"]
    return found


def test_the_settings_name_the_image_that_the_daemon_starts_with(
    lab: Lab, daemon: Daemon, recipe: Callable[[str], Image]
) -> None:
    recipe("ab")
    lab.up()
    assert declared(lab) == {
        "url": "http://192.168.2.4/images/debian-13-abababababab.raw",
        "sha512": "ab" * 64,
        "size": 2,
    }


def test_an_image_that_changes_while_the_lab_is_up_is_made_known_to_it(
    lab: Lab, daemon: Daemon, recipe: Callable[[str], Image]
) -> None:
    recipe("ab")
    lab.up()
    recipe("cd")
    daemon.asked.clear()
    daemon.at_each = lambda: pytest.fail("told first") if declared(lab)["sha512"] != "ab" * 64 else None
    said: list[str] = []
    lab.up(said.append)
    (offered,) = [arguments for command, arguments in daemon.asked if command == "image"]
    path = lab.paths.images / "debian-13-cdcdcdcdcdcd.raw"
    assert offered == {"path": str(path), "sha512": "cd" * 64}
    assert path.read_text() == "cd"
    assert declared(lab)["url"].endswith("/debian-13-cdcdcdcdcdcd.raw")
    assert len(said) == 1 and "new machine image" in said[0]


def test_the_settings_stay_when_the_daemon_does_not_take_the_image(
    lab: Lab, daemon: Daemon, recipe: Callable[[str], Image]
) -> None:
    recipe("ab")
    lab.up()
    recipe("cd")
    daemon.refuses = "no such command"
    with pytest.raises(LabError, match=r"new machine image.*lab down.*lab up.*no such command"):
        lab.up()
    assert declared(lab)["sha512"] == "ab" * 64
    daemon.refuses = ""
    lab.up()
    assert declared(lab)["sha512"] == "cd" * 64


def test_the_same_image_is_not_told_again(lab: Lab, daemon: Daemon, recipe: Callable[[str], Image]) -> None:
    recipe("ab")
    lab.up()
    said: list[str] = []
    lab.up(said.append)
    assert said == ["lab       runs already"]
    assert not [command for command, _ in daemon.asked if command == "image"]


def test_an_up_that_was_killed_before_the_settings_is_made_good(
    lab: Lab, daemon: Daemon, recipe: Callable[[str], Image]
) -> None:
    recipe("ab")
    lab.up()
    lab.paths.settings.unlink()
    lab.up()
    assert declared(lab)["sha512"] == "ab" * 64


def test_images_are_served_from_the_moment_they_are_offered(tmp_path: Path) -> None:
    async def scenario() -> None:
        server = ImageServer("127.0.0.1", port=0)
        first, second = tmp_path / "a.raw", tmp_path / "b.raw"
        for path in (first, second):
            path.write_text(path.name)
        one = server.offer(first, "aa")
        await server.start()
        try:
            two = server.offer(second, "bb")
            assert {url: d.sha512 for url, d in server.downloads.items()} == {one.url: "aa", two.url: "bb"}
            async with ClientSession() as session:
                for path, download in ((first, one), (second, two)):
                    url = download.url.replace("127.0.0.1", f"127.0.0.1:{server.port}")
                    async with session.get(url) as answer:
                        assert (answer.status, await answer.text()) == (200, path.name)
                async with session.get(f"http://127.0.0.1:{server.port}/images/c.raw") as answer:
                    assert answer.status == 404
        finally:
            await server.stop()

    asyncio.run(scenario())
