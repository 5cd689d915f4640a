"""An archive is used only if its published checksum says so, and only for the programs wanted."""

from __future__ import annotations

import hashlib
import io
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from proxmox_swarm.toolchain import download
from proxmox_swarm.toolchain.errors import SourceFailed


class Site:
    """A web site on loopback: ``files`` by path; a path in ``cut`` breaks off in the middle."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = site.files.get(self.path)
                if body is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if self.path in site.cut else body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def publish(self, members: dict[str, bytes], checksum: str | None = None) -> download.Release:
        """Offer an archive of ``members`` and its checksum file."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        archive = buffer.getvalue()
        digest = checksum or hashlib.sha256(archive).hexdigest()
        self.files["/tool.tar.gz"] = archive
        self.files["/sums.txt"] = f"{'0' * 64}  other.tar.gz\n{digest}  tool.tar.gz\n".encode()
        return download.Release(archive=f"{self.url}/tool.tar.gz", checksums=f"{self.url}/sums.txt")


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.server.shutdown()
    made.server.server_close()


def fetch(release: download.Release, target: Path, *programs: str) -> None:
    download.fetch(release, programs, target, lambda line: None)


def test_the_wanted_programs_are_taken(site: Site, tmp_path: Path) -> None:
    release = site.publish({"pulumi/pulumi": b"cli", "pulumi/helper": b"host", "pulumi/other": b"not wanted"})
    target = tmp_path / "target"
    target.mkdir()
    fetch(release, target, "pulumi", "helper")
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {"pulumi": b"cli", "helper": b"host"}
    assert all(path.stat().st_mode & 0o777 == 0o755 for path in target.iterdir())


def test_nothing_is_written_outside_the_target(site: Site, tmp_path: Path) -> None:
    release = site.publish({"../../pulumi": b"cli"})
    target = tmp_path / "a" / "b"
    target.mkdir(parents=True)
    fetch(release, target, "pulumi")
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("pulumi")] == [Path("a/b/pulumi")]


def test_another_checksum_is_refused(site: Site, tmp_path: Path) -> None:
    release = site.publish({"pulumi": b"cli"}, checksum="ab" * 32)
    with pytest.raises(SourceFailed, match=rf"has SHA-256 \w+, but {site.url}/sums.txt says (ab){{32}}: not used"):
        fetch(release, tmp_path, "pulumi")
    assert not (tmp_path / "pulumi").exists()


def test_an_archive_without_published_checksum_is_refused(site: Site, tmp_path: Path) -> None:
    release = site.publish({"pulumi": b"cli"})
    site.files["/sums.txt"] = b"aa  xtool.tar.gz\n"
    with pytest.raises(SourceFailed, match=r"/sums\.txt has no line for tool\.tar\.gz"):
        fetch(release, tmp_path, "pulumi")


@pytest.mark.parametrize("path", ["/tool.tar.gz", "/sums.txt"])
def test_a_file_that_is_not_there(site: Site, tmp_path: Path, path: str) -> None:
    release = site.publish({"pulumi": b"cli"})
    del site.files[path]
    with pytest.raises(SourceFailed, match=rf"^{site.url}{path}: Not Found$"):
        fetch(release, tmp_path, "pulumi")


@pytest.mark.parametrize("path", ["/tool.tar.gz", "/sums.txt"])
def test_a_transfer_that_breaks_off(site: Site, tmp_path: Path, path: str) -> None:
    release = site.publish({"pulumi": b"cli"})
    site.cut.add(path)
    with pytest.raises(SourceFailed, match=path):
        fetch(release, tmp_path, "pulumi")
    assert not (tmp_path / "pulumi").exists()


def test_a_program_missing_from_the_archive(site: Site, tmp_path: Path) -> None:
    release = site.publish({"pulumi": b"cli"})
    with pytest.raises(SourceFailed, match=r"^tool\.tar\.gz does not hold helper, host$"):
        fetch(release, tmp_path, "pulumi", "host", "helper")


def test_what_is_no_archive(site: Site, tmp_path: Path) -> None:
    release = site.publish({"pulumi": b"cli"}, checksum=hashlib.sha256(b"<html>").hexdigest())
    site.files["/tool.tar.gz"] = b"<html>"
    with pytest.raises(SourceFailed, match=r"^tool\.tar\.gz cannot be unpacked"):
        fetch(release, tmp_path, "pulumi")


def test_a_site_that_does_not_answer_costs_little_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(download, "CONNECT_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(SourceFailed, match=rf"^{url}/sums: timed out$"):
            fetch(download.Release(f"{url}/tool.tar.gz", f"{url}/sums"), tmp_path, "pulumi")
        assert time.monotonic() - started < 3


def test_a_machine_type_without_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download.platform, "machine", lambda: "riscv64")
    with pytest.raises(SourceFailed, match=r"^no release for the machine type riscv64$"):
        download.machine({"x86_64": "x64"})
