"""What the image is called on the hosts: Proxmox VE reads the format from the end of the name."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.components.graph import build, prod


@pytest.mark.parametrize(
    ("image", "ending"),
    [
        ({"url": "https://a/debian-13.qcow2"}, "/debian-13-abababababab.qcow2"),
        ({"url": "https://a/debian-13.RAW"}, "/debian-13-abababababab.raw"),
        ({"url": "https://a/noble-server-cloudimg-amd64.img", "format": "qcow2"}, "-amd64-abababababab.qcow2"),
        ({"url": "https://a/noble.img?mirror=1", "format": "raw"}, "/noble-abababababab.raw"),
    ],
)
def test_the_file_is_named_by_its_format(image: dict[str, str], ending: str) -> None:
    def change(proxmox: dict[str, Any]) -> dict[str, Any]:
        return {**proxmox, "image": {**image, "sha512": "ab" * 64, "size": 3}}

    files = build(prod(proxmox=change), established=False).of("File")
    assert files
    for file in files:
        assert f"/{file.inputs['fileName']}".replace("/swarm-prod-", "/").endswith(ending)
        assert file.inputs["url"] == image["url"]
